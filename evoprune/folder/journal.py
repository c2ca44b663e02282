"""The journal of a run: JSON lines that are only ever appended.

The first line is the header, every further line one record. Lines are strict JSON: a float that
JSON cannot hold is stored as the string "nan", "inf" or "-inf", and a text that reads like one of
these gets a "~" in front (see ``encode``).
"""

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from evoprune.core.errors import RunFolderError, unwritable
from evoprune.core.files import write_atomically
from evoprune.core.protocols import Evaluation
from evoprune.folder.lock import Lock

VERSION = 1
_TILDED = re.compile(r"~*(nan|inf|-inf)")
_HEADER_START = b'{"type":"header"'


def encode(value: Any) -> Any:
    """Returns the value as strict JSON can hold it; ``decode`` restores it.

    Mappings become dicts, tuples lists, numpy scalars and arrays Python's. A non-finite float
    becomes "nan", "inf" or "-inf"; a text that is one of these, maybe after tildes, gets a tilde
    more.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(float(value))
    if isinstance(value, str):
        return f"~{value}" if _TILDED.fullmatch(value) else value
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    return value


def decode(value: Any) -> Any:
    """Returns what ``encode`` was given, with lists for tuples."""
    if isinstance(value, str) and _TILDED.fullmatch(value):
        return value[1:] if value.startswith("~") else float(value)
    if isinstance(value, dict):
        return {key: decode(item) for key, item in value.items()}
    if isinstance(value, list):
        return [decode(item) for item in value]
    return value


def evaluation_key(pattern_id: str, split: str, rung: int) -> str:
    """Returns the key under which an evaluation is known: ``<pattern>/<split>/<rung>``."""
    return f"{pattern_id}/{split}/{rung}"


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Returns the record of a line, or None if it is no record."""
    try:
        record = json.loads(line.decode("utf-8"), parse_constant=_no_constant)
        record = decode(record) if isinstance(record, dict) else {}
        if record.get("type") == "evaluation":
            Evaluation.from_json(record)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record.get("type"), str) else None


def _damaged(path: Path, number: int, what: str) -> RunFolderError:
    return RunFolderError(
        f"Line {number} of '{path}' {what}; nothing was changed.",
        "Restore the file from a copy, or set that line aside: "
        f"evoprune doctor {path.parent} --repair (what it held is evaluated again).",
    )


def _check_header(path: Path, header: dict[str, Any]) -> None:
    version = header.get("version")
    if header.get("type") != "header" or type(version) is not int:
        raise _damaged(path, 1, "is not the header of a journal")
    if version > VERSION:
        raise RunFolderError(
            f"'{path}' is a journal of version {version}; this evoprune reads up to {VERSION}.",
            "Update evoprune, or start a new run folder.",
        )


@dataclass(frozen=True)
class _Content:
    """A journal as found: header (None in an empty file), records, and its sound bytes."""

    header: dict[str, Any] | None
    records: list[dict[str, Any]]
    sound: int
    torn: int


def _scan(path: Path, data: bytes) -> _Content:
    """Returns what a journal's bytes hold, without a torn last line.

    Raises:
        RunFolderError: a line before the last is damaged, or the header is not ours or is newer.
    """
    *lines, rest = data.split(b"\n")
    records = [_parsed(line) for line in lines]
    torn, sound = int(bool(rest)), len(data) - len(rest)
    if len(records) > 1 and not rest and records[-1] is None:
        torn, sound = 1, sound - len(lines[-1]) - 1
        records.pop()
    for number, record in enumerate(records, start=1):
        if record is None:
            raise _damaged(path, number, "is not a whole record")
    found = [record for record in records if record is not None]
    if found:
        _check_header(path, found[0])
        return _Content(found[0], found[1:], sound, torn)
    # Only what a killed creation can leave counts as torn: any other file is not ours to empty.
    if not (rest.startswith(_HEADER_START) or _HEADER_START.startswith(rest)):
        raise _damaged(path, 1, "is not the header of a journal")
    return _Content(None, [], 0, torn)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RunFolderError(
            f"'{path}' cannot be read: {error.strerror or error}.",
            "Check the path of the run folder.",
        ) from error


def read_journal(path: Path | str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the header and the records of a journal, which may be in use; takes no lock.

    A torn last line is left where it is and not returned.

    Raises:
        RunFolderError: the file is missing, has no header, is damaged, or is of a newer version.
    """
    content = _scan(Path(path), _read(Path(path)))
    if content.header is None:
        raise _damaged(Path(path), 1, "is missing: the run was stopped before it began")
    return content.header, content.records


def _sync_folder(path: Path) -> None:
    """Makes a new file's name durable: fsync of a file does not cover its folder."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Journal:
    """A journal open for appending, with the only right to do so; make one with ``open``.

    The right is the lock on ``<path>.lock`` (``evoprune.folder.lock``).

    Attributes:
        path: the file.
        header: its first line.
        torn: number of torn lines (0 or 1) that opening cut off.
    """

    def __init__(self, path: Path, lock: Lock) -> None:
        self.path = path
        self.header: dict[str, Any] = {}
        self.torn = 0
        self._lock = lock
        self._file: int | None = None
        self._size = 0

    @classmethod
    def open(cls, path: Path | str, header: Mapping[str, Any]) -> Self:
        """Returns the journal at a path, made with this header if there is none yet.

        An existing journal keeps the header it has; compare it with ``.header``. A torn last line
        is cut off.

        Raises:
            RunFolderError: another process writes it, it is damaged before its last line, it is of
                a newer version, or it cannot be written.
            ValueError: the given header has a "type" or "version" of its own.
        """
        if not {"type", "version"}.isdisjoint(header):
            raise ValueError("a header's 'type' and 'version' are the journal's own")
        path = Path(path).absolute()
        journal = cls(path, Lock.take(path))
        try:
            journal._load(header)
        except OSError as error:
            journal.close()
            raise unwritable(path, error) from error
        except BaseException:
            journal.close()
            raise
        return journal

    def _load(self, header: Mapping[str, Any]) -> None:
        content = _scan(self.path, _read(self.path) if self.path.exists() else b"")
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self.torn, self._size = content.torn, content.sound
        if self.torn:
            os.ftruncate(self._file, content.sound)
            os.fsync(self._file)
        if content.header is None:
            self.append([{"type": "header", "version": VERSION, **header}])
            _sync_folder(self.path)
        self.header = content.header or read_journal(self.path)[0]

    def append(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Adds records in one write and returns when they are on the disk.

        After an error this object takes no more, and what was written of them is cut off again
        (where even that fails, opening cuts off the torn line).

        Raises:
            RunFolderError: the journal is closed, or the disk is full or read-only.
            TypeError: a record holds what JSON cannot; nothing was written.
        """
        if self._file is None:
            raise RunFolderError(
                f"'{self.path}' was closed, perhaps after a failed write.",
                "Give the same command again to resume.",
            )
        dumps = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
        data = "".join(dumps(encode(record)) + "\n" for record in records).encode("ascii")
        try:
            left = data
            while left:
                left = left[os.write(self._file, left) :]
            os.fsync(self._file)
        except BaseException as error:
            self._abandon()
            if isinstance(error, OSError):
                raise unwritable(self.path, error) from error
            raise
        self._size += len(data)

    def _abandon(self) -> None:
        """Cuts off a partial write, so that nothing is appended to half a line, and closes."""
        try:
            if self._file is not None:
                os.ftruncate(self._file, self._size)
        except OSError:
            pass  # the disk is gone; the next open cuts off the torn line
        finally:
            self.close()

    def records(self, type: str | None = None) -> list[dict[str, Any]]:
        """Returns the records in order, all or those of a type, read from the file."""
        _, records = read_journal(self.path)
        return [record for record in records if type is None or record.get("type") == type]

    def close(self) -> None:
        """Closes the file and gives the lock back; closing twice is harmless."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def repair(path: Path | str, header: Mapping[str, Any]) -> tuple[list[int], Path | None]:
    """Sets damaged lines of a journal aside.

    Args:
        path: the journal; nobody may be writing it.
        header: what it begins with if its own header is damaged, without "type" and "version".

    Returns:
        The numbers of the lines that are gone from it, and a copy of the whole file as it was;
        none and None if no line is damaged. A torn last line counts.

    Raises:
        RunFolderError: another process writes it, it is of a newer version, or it cannot be
            written.
    """
    path = Path(path).absolute()
    with Lock.take(path):
        data = _read(path)
        lines = data.removesuffix(b"\n").split(b"\n")
        records = [_parsed(line) for line in lines]
        damaged = [number for number, one in enumerate(records, start=1) if one is None]
        first, headed = records[0] or {}, _is_header(records[0], header)
        if first.get("type") == "header":
            if type(first.get("version")) is int:
                _check_header(path, first)
            if not headed:
                records[0], damaged = None, [1, *damaged]
        if not damaged and headed and data.endswith(b"\n"):
            return [], None
        own = json.dumps({"type": "header", "version": VERSION, **encode(header)})
        kept = [
            line.decode("utf-8")
            for line, one in zip(lines, records, strict=True)
            if one is not None
        ]
        backup = _copy(path, data)
        text = "\n".join(kept if headed else [own, *kept]) + "\n"
        write_atomically(path, text)
    return damaged, backup


def _is_header(record: Mapping[str, Any] | None, like: Mapping[str, Any]) -> bool:
    """Returns whether a record is a header that says what such a header says."""
    wanted = {"type": "header", "version": VERSION, **like}
    return (
        record is not None
        and record["type"] == "header"
        and all(type(record.get(key)) is type(value) for key, value in wanted.items())
    )


def _copy(path: Path, data: bytes) -> Path:
    """Returns a new file beside a journal that holds its bytes."""
    number = 1
    while (copy := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    try:
        with open(copy, "xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        copy.unlink(missing_ok=True)
        raise unwritable(copy, error) from error
    return copy
