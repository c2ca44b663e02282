"""Data sources: each is a dataclass of what a person writes under ``data:`` in a configuration."""

import ast
import glob
import importlib.util
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

from evoprune.data.documents import Document
from evoprune.errors import DataError

MIN_PROSE_CHARS = 400
# What a document of a file's docstrings has at the end of its key.
DOCSTRINGS = "#docstrings"
FILL = "Give files that have text."


@dataclass(frozen=True)
class PackagesSource:
    """Text of installed packages: the same bytes wherever the same versions are installed.

    A pattern is a glob relative to the folder that holds the package, e.g.
    ``sympy/core/**/*.py``; its first part names the package, which is found but not imported.
    A pattern that starts with ``!`` leaves out what it matches.

    Args:
        kinds: kind of text to the patterns of its files.
        prose: kind of text to patterns of ``.py`` files of which only the docstrings are taken,
            without their examples.
        max_documents_per_kind: how many documents a kind may have, drawn by a hash of the key.
        max_chars_per_kind: how many characters a kind may have, filled in the same order.
        max_chars: how many characters of a document are taken, cut at a line end.
    """

    kinds: dict[str, list[str]] = field(default_factory=dict)
    prose: dict[str, list[str]] = field(default_factory=dict)
    max_documents_per_kind: int | None = None
    max_chars_per_kind: int | None = None
    max_chars: int = 40_000

    def documents(self) -> list[Document]:
        """Returns the documents in order of their keys.

        Raises:
            DataError: a package is not installed, a pattern matches nothing, or all is empty.
        """
        found: list[Document] = []
        for kind in sorted({*self.kinds, *self.prose}):
            found.extend(self._cap(kind))
        return filled(found, "The packages source", "Name patterns under 'kinds'.")

    def _files(self, kind: str) -> dict[str, Path]:
        """Returns the files of a kind by document key; the key says what is taken of a file."""
        code = _package_files(self.kinds.get(kind, []))
        prose = _package_files(self.prose.get(kind, []))
        return {**code, **{f"{key}{DOCSTRINGS}": path for key, path in prose.items()}}

    def _cap(self, kind: str) -> list[Document]:
        """Returns the documents of a kind up to its caps, in the order of a hash of their keys.

        Files beyond the caps are not read.
        """
        files = self._files(kind)
        kept: list[Document] = []
        chars = 0
        # Salted: splits are drawn from the unsalted hash, and a cap on that would favour the first.
        for key in sorted(files, key=lambda one: sha256(f"cap {one}".encode()).digest()):
            text = self._text(key, files[key])
            if not text:
                continue
            chars += len(text)
            if kept and self.max_chars_per_kind is not None and chars > self.max_chars_per_kind:
                break
            kept.append(Document(key, kind, text))
            if len(kept) == self.max_documents_per_kind:
                break
        return kept

    def _text(self, key: str, path: Path) -> str:
        """Returns what is taken of a file; nothing of one that holds next to nothing."""
        if key.endswith(DOCSTRINGS):
            text = _clip(docstrings(_read(path)), self.max_chars)
            return text if len(text) >= MIN_PROSE_CHARS else ""
        text = _clip(_without_licence(_read(path)), self.max_chars)
        return text if text.strip() else ""


@dataclass(frozen=True)
class TextSource:
    """Plain text files; the kind of a document is its file's name without the suffix.

    A document's key is its file's name and a hash of its text, wherever the file lies.

    Args:
        files: paths or globs.
        separator: what stands between the documents of a file; by default a file is one document.
    """

    files: list[str]
    separator: str | None = None

    def documents(self) -> list[Document]:
        """Returns the documents in order of their keys.

        Raises:
            DataError: a pattern matches nothing, or no file has text.
        """
        found = [one for path in _expand(self.files) for one in self._of_file(path)]
        return filled(_unrepeated(found), "The text source", FILL)

    def _of_file(self, path: Path) -> Iterator[Document]:
        text = _read(path)
        for part in text.split(self.separator) if self.separator else [text]:
            yield Document(_key(path, part), path.stem, part)


@dataclass(frozen=True)
class JsonLinesSource:
    """Files with one JSON object a line.

    Args:
        files: paths or globs.
        text_field: the field that holds the text.
        kind_field: the field that holds the kind; by default the file's name without the suffix.
        key_field: the field that names the document; by default the file's name and the text do.
    """

    files: list[str]
    text_field: str = "text"
    kind_field: str | None = None
    key_field: str | None = None

    def documents(self) -> list[Document]:
        """Returns the documents in order of their keys.

        Raises:
            DataError: a line is no JSON object, lacks a field, or nothing has text.
        """
        found = [one for path in _expand(self.files) for one in self._of_file(path)]
        if self.key_field is None:
            found = _unrepeated(found)
        return filled(found, "The jsonl source", FILL)

    def _of_file(self, path: Path) -> Iterator[Document]:
        for number, line in enumerate(_read(path).split("\n"), start=1):
            if line.strip():
                row = _json_object(line, f"{path}, line {number}")
                yield self._document(row, path, number)

    def _document(self, row: Mapping[str, Any], path: Path, number: int) -> Document:
        where = f"{path}, line {number}"
        text = text_of(row, self.text_field, where)
        kind = str(_value_of(row, self.kind_field, where)) if self.kind_field else path.stem
        key = str(_value_of(row, self.key_field, where)) if self.key_field else _key(path, text)
        return Document(key, kind, text)


@dataclass(frozen=True)
class DatasetsSource:
    """A data set of the optional ``datasets`` library: a hub id or a folder.

    Args:
        name_or_path: hub id or folder.
        config: the data set's configuration, if it has several.
        split_name: which of its splits to read.
        text_field: the column that holds the text.
        kind_field: the column that holds the kind; by default the data set's name.
        limit: how many rows to read; by default all.
    """

    name_or_path: str
    config: str | None = None
    split_name: str = "train"
    text_field: str = "text"
    kind_field: str | None = None
    limit: int | None = None

    def documents(self) -> list[Document]:
        """Returns the documents in order of their keys.

        Raises:
            DataError: the library is missing, the data set cannot be read, or it has no text.
        """
        found: list[Document] = []
        for number, row in enumerate(self._rows()):
            if self.limit is not None and number >= self.limit:
                break
            where = f"{self.name_or_path}, row {number}"
            text = text_of(row, self.text_field, where)
            kind = self.name_or_path
            if self.kind_field:
                kind = str(_value_of(row, self.kind_field, where))
            found.append(Document(f"{self.split_name}:{number:09d}", kind, text))
        return filled(found, f"'{self.name_or_path}'", "Choose another split or field.")

    def _rows(self) -> Iterable[Mapping[str, Any]]:
        try:
            from datasets import load_dataset
        except ImportError as error:
            raise DataError(
                "The data source 'datasets' needs the datasets library, which is not installed.",
                "Install it with: pip install 'evoprune[datasets]'.",
            ) from error
        try:
            rows: Iterable[Mapping[str, Any]] = load_dataset(
                self.name_or_path, self.config, split=self.split_name
            )
        except (OSError, ValueError) as error:
            raise DataError(
                f"The data set '{self.name_or_path}' cannot be read: {error}",
                "Check its name, config and split_name.",
            ) from error
        return rows


@dataclass(frozen=True)
class ListSource:
    """Texts given directly, for use from Python.

    Args:
        texts: strings, or mappings with ``text`` and optionally ``kind`` and ``key``.
    """

    texts: Sequence[str | Mapping[str, str]]

    def documents(self) -> list[Document]:
        """Returns the documents in order of their keys.

        Raises:
            DataError: an entry is neither text nor a mapping with text, or nothing has text.
        """
        found = [self._document(number, entry) for number, entry in enumerate(self.texts)]
        return filled(found, "The list of texts", "Give texts that are not blank.")

    def _document(self, number: int, entry: str | Mapping[str, str]) -> Document:
        key = f"text:{number:09d}"
        if isinstance(entry, str):
            return Document(key, "text", entry)
        if not isinstance(entry, Mapping):
            raise DataError(
                f"Entry {number} of the list is {type(entry).__name__}.",
                "Give a string or a mapping with 'text'.",
            )
        text = text_of(entry, "text", f"entry {number} of the list")
        return Document(str(entry.get("key", key)), str(entry.get("kind", "text")), text)


def docstrings(source: str) -> str:
    """Returns the docstrings of a module's source, joined by blank lines, without examples."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    paragraphs: list[str] = []
    for node in _statements(tree):
        if isinstance(node, owners) and (text := ast.get_docstring(node)):
            paragraphs.extend(part for part in text.split("\n\n") if ">>>" not in part)
    kept = (part.strip("\n") for part in dict.fromkeys(paragraphs) if part.strip())
    return "\n\n".join(kept)


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Yields the nodes that can hold definitions, breadth first; expressions cannot."""
    waiting: deque[ast.AST] = deque([tree])
    while waiting:
        node = waiting.popleft()
        yield node
        waiting.extend(
            child
            for child in ast.iter_child_nodes(node)
            if isinstance(child, (ast.stmt, ast.ExceptHandler, ast.match_case))
        )


def _package_files(patterns: Sequence[str]) -> dict[str, Path]:
    excluded = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    files: dict[str, Path] = {}
    for pattern in patterns:
        if pattern.startswith("!"):
            continue
        root = _package_root(pattern.partition("/")[0])
        matches = {
            path.relative_to(root).as_posix(): path for path in root.glob(pattern) if path.is_file()
        }
        kept = {k: p for k, p in matches.items() if not any(fnmatch(k, out) for out in excluded)}
        if not kept:
            raise DataError(
                f"The pattern '{pattern}' matches no file of the installed packages.",
                "Correct the pattern, or install the version named in constraints.txt.",
            )
        files.update(kept)
    return dict(sorted(files.items()))


def _package_root(package: str) -> Path:
    try:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f"The package '{package}' is not installed.",
            f"Install it with: pip install -c constraints.txt {package}; or drop its patterns.",
        )
    return Path(next(iter(spec.submodule_search_locations))).parent


def _expand(patterns: Sequence[str]) -> list[Path]:
    paths: list[Path] = []
    for pattern in patterns:
        found = [Path(name) for name in glob.glob(str(pattern), recursive=True)]
        files = [path for path in found if path.is_file()]
        if not files:
            raise DataError(
                f"'{pattern}' matches no file.", "Give the path or glob of a file that exists."
            )
        paths.extend(files)
    return sorted(set(paths))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(
            f"'{path}' cannot be read: {error.strerror}.", "Check its permissions."
        ) from error


def _key(path: Path, text: str) -> str:
    """Returns a key made of a file's name and a text of it.

    Splits are drawn from keys: moving a corpus, or the lines in it, must not draw them anew.
    """
    name = path.name.replace("#", "%23")  # what precedes a # would be the document's origin
    return f"{name}:{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _unrepeated(documents: Iterable[Document]) -> list[Document]:
    """Returns the documents without those whose key, and so whose text, one before them has."""
    first: dict[str, Document] = {}
    for document in documents:
        first.setdefault(document.key, document)
    return list(first.values())


def _without_licence(text: str) -> str:
    lines = text.splitlines(keepends=True)
    end = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    header = "".join(lines[:end]).lower()
    if "licen" not in header and "copyright" not in header:
        return text
    return "".join(lines[end:]).lstrip("\n")


def _clip(text: str, max_chars: int) -> str:
    if len(text) <= max_chars:
        return text
    return text[: text.rfind("\n", 0, max_chars) + 1] or text[:max_chars]


def _json_object(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{where} is not JSON: {error.msg}.", "Write one JSON object a line."
        ) from error
    if not isinstance(row, dict):
        raise DataError(f"{where} is not a JSON object.", "Write one JSON object a line.")
    return row


def _value_of(row: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in row:
        raise DataError(f"{where} has no field '{name}'.", f"It has: {', '.join(sorted(row))}.")
    return row[name]


def text_of(row: Mapping[str, Any], name: str, where: str) -> str:
    """Returns the text in a field of a row.

    Raises:
        DataError: there is no such field, or it holds something else.
    """
    text = _value_of(row, name, where)
    if not isinstance(text, str):
        raise DataError(
            f"The field '{name}' of {where} is {type(text).__name__}.", "Make it a string."
        )
    return text


def filled(documents: Iterable[Document], name: str, remedy: str) -> list[Document]:
    """Returns the documents that are not blank, in order of their keys.

    Args:
        documents: of a source.
        name: what the source is called.
        remedy: what to do where nothing is left.

    Raises:
        DataError: nothing is left, or two have the same key.
    """
    held = (one for one in documents if one.tokens or one.text.strip())
    found = sorted(held, key=lambda one: one.key)
    if not found:
        raise DataError(f"{name} has no text.", remedy)
    for first, second in pairwise(found):
        if first.key == second.key:
            raise DataError(
                f"Two documents have the key '{first.key}'.", "Give every document its own key."
            )
    return found
