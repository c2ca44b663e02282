"""What lies beside an exported model: its model card and evoprune.json."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evoprune import __version__
from evoprune.core.errors import ExportError
from evoprune.core.export_rungs import ExportRung, in_words
from evoprune.core.files import sha256_of
from evoprune.core.pattern import Pattern
from evoprune.core.space import Space
from evoprune.core.splits import SPLIT_OF
from evoprune.export.subject import Source
from evoprune.folder.journal import encode

RECORD = "evoprune.json"
FORMAT = "evoprune export"
_COLUMN = re.compile(r"(search|val|report)_(.+?)(_low|_high)?")


@dataclass(frozen=True)
class Words:
    """What a card says of one kind of model, as Markdown.

    Attributes:
        front: lines of the front matter.
        trained: whether anything was trained after the cut.
        details: paragraphs on what is left.
        loading: how it is loaded.
        training: how it is trained further.
        licence: what may be done with it.
    """

    front: tuple[str, ...]
    trained: str
    details: tuple[str, ...]
    loading: str
    training: str = ""
    licence: str = "The licence of the base model applies to this one as well: read it there."


@dataclass(frozen=True)
class Card:
    """What is to be said about an export.

    Attributes:
        source, space, pattern: what was exported.
        rung, reason: how, and why so.
        dtype: of the weights written.
        params: parameters of the base and of the export.
        bytes: of the export's weights on disk.
        scores: column → value, such as ``val_nll`` or ``report_nll_low``.
        provenance: whatever the run knows of itself, as JSON.
        words: what is said of this kind of model.
    """

    source: Source
    space: Space
    pattern: Pattern
    rung: ExportRung
    reason: str
    dtype: str
    params: tuple[int, int]
    bytes: int
    scores: Mapping[str, float]
    provenance: Mapping[str, Any]
    words: Words

    def write(self, folder: Path) -> None:
        """Writes README.md and evoprune.json; equal exports give equal bytes."""
        (folder / "README.md").write_text(self.text(), encoding="utf-8", newline="\n")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        digests = {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}
        record = encode(self.record() | {"files": digests})
        text = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        (folder / RECORD).write_text(text, encoding="utf-8", newline="\n")

    def record(self) -> dict[str, Any]:
        """Returns the content of evoprune.json but for the digests of the files."""
        options = self.space.options(self.pattern)
        return {
            "format": FORMAT,
            "version": 1,
            "evoprune": __version__,
            "pattern": {
                "id": self.pattern.id,
                "choices": self.pattern.to_json(),
                "options": {site: option.to_json() for site, option in options.items()},
            },
            "space": {"name": self.space.name, "digest": self.space.digest},
            "rung": self.rung,
            "reason": self.reason,
            "base": {"name": self.source.label, "family": self.source.family},
            "dtype": self.dtype,
            "params": {"base": self.params[0], "export": self.params[1]},
            "bytes": {"export": self.bytes},
            "scores": dict(self.scores),
            "provenance": dict(self.provenance),
        }

    def text(self) -> str:
        """Returns the model card."""
        parts = [
            self._front_matter(),
            f"# {self.source.label}, pruned",
            f"This is `{self.source.label}` with parts removed by evoprune "
            f"(pattern `{self.pattern.id}` of the "
            f"space `{self.space.name}`). {self.words.trained}",
            "## What was removed",
            "\n".join(f"- {line}" for line in in_words(self.space, self.pattern))
            or "Nothing: this is the dense model.",
            self._size(),
            "## Scores",
            score_table(self.scores),
            "## How to load it",
            self.words.loading,
            *(["## How to train it further", self.words.training] if self.words.training else []),
            "## Licence",
            self.words.licence,
        ]
        return "\n\n".join(parts) + "\n"

    def _front_matter(self) -> str:
        return "\n".join(["---", *self.words.front, "tags:", "- evoprune", "- pruned", "---"])

    def _size(self) -> str:
        before, after = self.params
        saved = "" if before == after else f" ({after / before:.1%})"
        lines = [
            f"Parameters: {before:,} before, {after:,} now{saved}, stored as {self.dtype} in "
            f"{self.bytes:,} bytes.",
            f"Rung of the export: **{self.rung}**. {self.reason}",
        ]
        return "\n\n".join([*lines, *self.words.details])


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Returns rows with the same keys as a table in Markdown."""
    head = list(rows[0])
    lines = [head, ["---"] * len(head), *([row[name] for name in head] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def score_table(scores: Mapping[str, float]) -> str:
    """Returns the scores as Markdown: a row a metric, a column a split, intervals in brackets."""
    rows: dict[str, dict[str, str]] = {}
    plain: list[str] = []
    for column, value in scores.items():
        match = _COLUMN.fullmatch(column)
        if match is None:
            plain.append(f"- {column}: {_number(value)}")
        elif match[3] is None or not {f"{match[1]}_{match[2]}"} <= set(scores):
            split, metric = column.split("_", 1)
            low, high = scores.get(f"{column}_low"), scores.get(f"{column}_high")
            bounds = "" if low is None or high is None else f" [{_number(low)}, {_number(high)}]"
            rows.setdefault(metric, {})[split] = _number(value) + bounds
    used = [split for split in SPLIT_OF if any(split in row for row in rows.values())]
    lines = []
    if rows:
        lines = [
            "| " + " | ".join(["metric", *(f"{SPLIT_OF[split]} split" for split in used)]) + " |"
        ]
        lines.append("|" + "---|" * (len(used) + 1))
        lines += [
            "| " + " | ".join([metric, *(row.get(split, "") for split in used)]) + " |"
            for metric, row in rows.items()
        ]
        if any("[" in cell for row in rows.values() for cell in row.values()):
            lines += ["", "Brackets hold bootstrap intervals."]
    text = "\n".join(lines + ([""] if lines and plain else []) + plain)
    return text or "None were given."


def _number(value: float) -> str:
    number = float(value)
    return f"{int(number):,}" if number.is_integer() and abs(number) < 1e15 else f"{number:.4g}"


def read_record(folder: Path) -> dict[str, Any] | None:
    """Returns the record of an export, or None if the folder is not one."""
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return None
    ours = isinstance(record, dict) and record.get("format") == FORMAT
    return record if ours else None


def record_error(folder: Path, error: float) -> None:
    """Writes into the record of an export how far verification found it from what was searched."""
    record = read_record(folder) or {}
    text = json.dumps(record | {"max_error": error}, indent=1, allow_nan=False, ensure_ascii=False)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8", newline="\n")


def check_target(folder: Path) -> None:
    """Checks that a folder may be written: absent, empty, or an export and nothing but that.

    Raises:
        ExportError: it holds something that evoprune did not write.
    """
    if not folder.exists():
        return
    found = [folder] if not folder.is_dir() else [p for p in folder.rglob("*") if not p.is_dir()]
    # Python leaves it beside a modelling file that was imported.
    found = [path for path in found if path.parent.name != "__pycache__"]
    record = read_record(folder) if folder.is_dir() else None
    ours = {RECORD, *(record["files"] if record else ())}
    foreign = [p for p in found if p == folder or p.relative_to(folder).as_posix() not in ours]
    if not found or (record and not foreign):
        return
    shown = folder.name if not foreign or foreign[0] == folder else foreign[0].name
    raise ExportError(
        f"'{folder}' is in the way: evoprune did not write '{shown}'.",
        "Give another path, or move what is there.",
    )
