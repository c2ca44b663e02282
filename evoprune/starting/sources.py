"""Which data a person means by a word on the command line: a file, a folder, or a type of data."""

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

from evoprune.core.errors import DataError, did_you_mean
from evoprune.core.registry import DATA
from evoprune.data.sources import files_of, json_object

# Which type of data a file is, by the end of its name.
TYPES = {".txt": "text", ".md": "text", ".jsonl": "jsonl", ".ndjson": "jsonl", ".npz": "npz"}
# Lines of a file that are looked at.
LOOKED_AT = 500
# Fields whose names say what they hold, the most telling first.
TEXTS = ("text", "content", "body", "document", "story", "article")
KINDS = ("kind", "domain", "category", "label", "topic", "source", "lang", "language")
# A field with more values than this, or with longer ones, tells no kinds apart.
MOST_KINDS, LONGEST_KIND = 50, 40


@dataclass(frozen=True)
class Chosen:
    """The data that a person means.

    Attributes:
        settings: of the section ``data``.
        why: of some of them, in words.
    """

    settings: Mapping[str, Any]
    why: Mapping[str, str] = field(default_factory=dict)


def chosen_data(word: str) -> Chosen:
    """Returns the data that a word means.

    Raises:
        DataError: it is no file, no folder of files and no type of data; or no field holds text.
    """
    if word in DATA.names():
        return _of_type(word)
    if os.path.isdir(word):
        return _of_folder(Path(word))
    if not os.path.exists(word) and not glob.glob(word, recursive=True):
        raise DataError(f"There is no file or folder '{word}'.", _near(word))
    kind = TYPES.get(Path(word).suffix.lower())
    if kind is None:
        raise DataError(
            f"What '{word}' holds cannot be told from its name.",
            f"Give a file that ends in {', '.join(TYPES)}, or write `data` by hand "
            "(evoprune ls data).",
        )
    if kind == "npz":
        return Chosen({"type": "npz", "file": word}, {"file": "`images` and `labels`"})
    return _of_files(kind, [word])


def _of_type(name: str) -> Chosen:
    needed = [
        f.name
        for f in fields(DATA.load(name))
        if f.init and f.default is MISSING and f.default_factory is MISSING
    ]
    if needed:
        raise DataError(
            f"Data of the type '{name}' need '{needed[0]}'.",
            "Name the file itself, or write `data` by hand (evoprune ls data).",
        )
    return Chosen({"type": name}, {"type": "as asked for"})


def _of_folder(folder: Path) -> Chosen:
    """Returns all files below a folder of the type that most of them have.

    Raises:
        DataError: there is none of a known type.
    """
    files = [path for path in folder.rglob("*") if path.is_file()]
    # As globs see them: what is hidden is not matched.
    files = [p for p in files if not any(n.startswith(".") for n in p.relative_to(folder).parts)]
    names = [path.suffix.lower() for path in files]
    known = [name for name in names if name in TYPES]
    suffix = max(sorted(set(known)), key=known.count, default="")
    if TYPES.get(suffix) not in ("text", "jsonl"):
        held = ", ".join(sorted(set(names))[:8]) or "nothing"
        raise DataError(
            f"The folder '{folder}' is no folder of text (it holds {held}).",
            "Give a folder of txt, md or jsonl files, or a single npz file.",
        )
    # Globs tell capitals apart, so that each way the suffix is written has its own.
    written = sorted({path.suffix for path in files if path.suffix.lower() == suffix})
    within = glob.escape(folder.as_posix())
    return _of_files(TYPES[suffix], [f"{within}/**/*{one}" for one in written])


def _of_files(kind: str, patterns: list[str]) -> Chosen:
    found = files_of(patterns)
    settings: dict[str, Any] = {"type": kind, "files": patterns}
    why = {"files": f"{len(found)} files"} if len(found) > 1 else {}
    if kind == "text":
        return Chosen(settings, why)
    rows = _rows(found[0])
    text = text_field(rows, found[0])
    settings["text_field"] = text
    why["text_field"] = "the field with the text"
    if (kinds := kind_field(rows, text)) is not None:
        settings["kind_field"] = kinds
        values = {str(row[kinds]) for row in rows}
        why["kind_field"] = f"{len(values)} kinds, which only describe clusters"
    return Chosen(settings, why)


def _rows(path: Path) -> list[dict[str, Any]]:
    """Returns the first rows of a jsonl file.

    Raises:
        DataError: it cannot be read, holds none, or a line is no JSON object.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            lines = list(islice((line for line in file if line.strip()), LOOKED_AT))
    except OSError as error:
        raise DataError(f"'{path}' cannot be read: {error.strerror}.", "Check it.") from error
    if not lines:
        raise DataError(f"'{path}' is empty.", "Give a file with one JSON object a line.")
    return [json_object(line, f"{path}, line {i}") for i, line in enumerate(lines, start=1)]


def text_field(rows: Sequence[Mapping[str, Any]], path: Path) -> str:
    """Returns the field that holds the text: by its name, else the longest.

    Raises:
        DataError: no field is a string in every row.
    """
    every = _common(rows)
    strings = [name for name in every if all(isinstance(row[name], str) for row in rows)]
    if not strings:
        raise DataError(
            f"No field of '{path}' is text in every line (they have {', '.join(every) or 'none'}).",
            "Give every line a field such as 'text'.",
        )
    named = [name for name in TEXTS if name in strings]
    return named[0] if named else max(strings, key=lambda name: sum(len(r[name]) for r in rows))


def kind_field(rows: Sequence[Mapping[str, Any]], text: str) -> str | None:
    """Returns the field that tells kinds of text apart, if any: few short values, each repeated."""
    found = {}
    for name in _common(rows):
        values = [row[name] for row in rows]
        if name == text or not all(isinstance(value, (str, int)) for value in values):
            continue
        different = {str(value) for value in values}
        short = max(map(len, different)) <= LONGEST_KIND
        if short and 2 <= len(different) <= min(MOST_KINDS, len(rows) // 3):
            found[name] = len(different)
    named = [name for name in KINDS if name in found]
    return named[0] if named else min(found, key=lambda n: (found[n], n), default=None)


def _common(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the fields that every row has, in the order of the first."""
    return [name for name in rows[0] if all(name in row for row in rows)]


def _near(word: str) -> str:
    """Returns a remedy: a file called much like what was given, or what may be given."""
    path = Path(word)
    if os.path.isdir(path.parent):
        near = get_close_matches(path.name, os.listdir(path.parent), n=1, cutoff=0.6)
        if near:
            return f"Did you mean '{path.with_name(near[0])}'?"
    if get_close_matches(word, DATA.names(), n=1):
        return did_you_mean(word, DATA.names())
    return f"Give a file ({', '.join(TYPES)}), a folder of text, or nothing for what ships."
