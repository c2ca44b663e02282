"""Text of installed packages: code, and the prose of docstrings."""

import ast
import importlib.util
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from hashlib import sha256
from pathlib import Path

from evoprune.core.errors import DataError
from evoprune.data.documents import Document
from evoprune.data.sources import filled, read_text

MIN_PROSE_CHARS = 400
# What a document of a file's docstrings has at the end of its key.
DOCSTRINGS = "#docstrings"


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
            text = _clip(docstrings(read_text(path)), self.max_chars)
            return text if len(text) >= MIN_PROSE_CHARS else ""
        text = _clip(_without_licence(read_text(path)), self.max_chars)
        return text if text.strip() else ""


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
