"""Data sources: each is a dataclass of what a person writes under ``data:`` in a configuration."""

import csv
import glob
import io
import json
import os.path
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

from evoprune.core.errors import DataError
from evoprune.data.cutting import FEW_FILES, cut_all
from evoprune.data.documents import Document

FILL = "Give files that have text."


@dataclass(frozen=True)
class TextSource:
    """Plain text files; the kind of a document is its file's name without the suffix.

    A document's key is its file's name and a hash of its text, wherever the file lies.

    Args:
        files: paths or globs.
        separator: what stands between the documents of a file. By default a file is one document;
            of fewer than 20 files each is cut at blank lines, or else by length.
    """

    files: list[str]
    separator: str | None = None

    def documents(self) -> list[Document]:
        """Returns the documents in order of their keys.

        Raises:
            DataError: a pattern matches nothing, or no file has text.
        """
        return self._read[0]

    @property
    def note(self) -> str:
        """How files were cut, in words; nothing where each is a document as it is."""
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[list[Document], str]:
        """The documents, and how files were cut; the files are read once."""
        paths = files_of(self.files)
        texts = [read_text(path) for path in paths]
        how = ""
        if self.separator:
            parts = [text.split(self.separator) for text in texts]
        elif len(paths) < FEW_FILES:
            parts, how = cut_all(texts)
        else:
            parts = [[text] for text in texts]
        made = [
            Document(_key(path, part), path.stem, part)
            for path, of_file in zip(paths, parts, strict=True)
            for part in of_file
        ]
        found = filled(_unrepeated(made), f"'{', '.join(self.files)}'", FILL)
        if not how or len(found) <= len(paths):
            return found, ""
        which = f"{paths[0].name}: one file" if len(paths) == 1 else f"{len(paths)} files"
        return found, f"{which}, cut {how} into {len(found):,} documents"


@dataclass(frozen=True)
class JsonLinesSource:
    """Files with one JSON object a line.

    Args:
        files: paths or globs.
        text_field: the field that holds the text.
        kind_field: the field that holds the kind; by default the file's name without the suffix.
        key_field: the field that names the document; by default the file's name and the text do.
        label_field: the field that holds the class, for classifiers.
    """

    files: list[str]
    text_field: str = "text"
    kind_field: str | None = None
    key_field: str | None = None
    label_field: str | None = None

    def documents(self) -> list[Document]:
        """Returns the documents in order of their keys.

        Raises:
            DataError: a line is no JSON object, lacks a field, or nothing has text.
        """
        found = [one for path in files_of(self.files) for one in self._of_file(path)]
        if self.key_field is None:
            found = _unrepeated(found)
        return filled(found, f"'{', '.join(self.files)}'", FILL)

    def _of_file(self, path: Path) -> Iterator[Document]:
        for number, line in enumerate(read_text(path).split("\n"), start=1):
            if line.strip():
                row = json_object(line, f"{path}, line {number}")
                yield self._document(row, path, number)

    def _document(self, row: Mapping[str, Any], path: Path, number: int) -> Document:
        where = f"{path}, line {number}"
        text = text_of(row, self.text_field, where)
        kind = str(_value_of(row, self.kind_field, where)) if self.kind_field else path.stem
        key = str(_value_of(row, self.key_field, where)) if self.key_field else _key(path, text)
        label = str(_value_of(row, self.label_field, where)) if self.label_field else None
        return Document(key, kind, text, label=label)


@dataclass(frozen=True)
class CsvSource(JsonLinesSource):
    """Tables as text, with a row of names first: CSV, or TSV where a file is called so.

    Args are those of JSON lines: a field is a column.
    """

    def _of_file(self, path: Path) -> Iterator[Document]:
        delimiter = "\t" if path.suffix == ".tsv" else ","
        rows = csv.DictReader(io.StringIO(read_text(path)), delimiter=delimiter)
        for number, row in enumerate(rows, start=2):
            yield self._document({k: v for k, v in row.items() if v is not None}, path, number)


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
        label_field: the column that holds the class, for classifiers.
    """

    name_or_path: str
    config: str | None = None
    split_name: str = "train"
    text_field: str = "text"
    kind_field: str | None = None
    limit: int | None = None
    label_field: str | None = None

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
            label = str(_value_of(row, self.label_field, where)) if self.label_field else None
            found.append(Document(f"{self.split_name}:{number:09d}", kind, text, label=label))
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
        texts: strings, or mappings with ``text`` and optionally ``kind``, ``key`` and ``label``.
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
        label = None if "label" not in entry else str(entry["label"])
        kind = str(entry.get("kind", "text"))
        return Document(str(entry.get("key", key)), kind, text, label=label)


def files_of(patterns: Sequence[str]) -> list[Path]:
    """Returns the files that paths or globs name, sorted, each once.

    Raises:
        DataError: one names none.
    """
    paths: list[Path] = []
    for pattern in patterns:
        # A name that exists is no pattern, whatever brackets it holds.
        known = os.path.isfile(pattern)
        names = [str(pattern)] if known else glob.glob(str(pattern), recursive=True)
        found = [Path(name) for name in names]
        files = [path for path in found if path.is_file()]
        if not files:
            raise DataError(
                f"'{pattern}' matches no file.", "Give the path or glob of a file that exists."
            )
        paths.extend(files)
    return sorted(set(paths))


def read_text(path: Path) -> str:
    """Returns the text of a file; bytes that are no UTF-8 become replacement characters.

    Raises:
        DataError: it cannot be read.
    """
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


def json_object(line: str, where: str) -> dict[str, Any]:
    """Returns the JSON object in a line.

    Raises:
        DataError: there is none.
    """
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
