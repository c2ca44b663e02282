"""Journals that something else wrote into: our own errors, or the records; never a traceback."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evoprune.core.errors import RunFolderError
from evoprune.core.protocols import Evaluation
from evoprune.folder import journal as journal_module
from evoprune.folder.journal import Journal, read_journal, repair
from evoprune.searching.archive import Archive

GOLDEN = (Path(__file__).parents[1] / "golden" / "journal-v1.jsonl").read_bytes()
LINES = GOLDEN.splitlines()
RECORDS = [json.loads(line) for line in LINES]
ODD = [
    *(None, True, -1, 10**400, "", "nan", "~nan", "inf", "../..", [], [[]], {}, {"": None}, 1e308),
    *("AAAA", [-1] * 12, ["AAAA"] * 12, "header", "evaluation", "transient", [10**30]),
]
NAMES = itertools.count()


@st.composite
def damaged_bytes(draw: st.DrawFn) -> bytes:
    """Returns a journal with bytes changed, cut out or put in."""
    data = bytearray(GOLDEN)
    pieces = st.binary(max_size=8) | st.sampled_from([b"\n", b"\0", b"}", b"NaN", b"[" * 3000])
    for _ in range(draw(st.integers(1, 4))):
        at, size = draw(st.integers(0, len(data))), draw(st.integers(0, 40))
        data[at : at + size] = draw(pieces)
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data)


@st.composite
def changed_records(draw: st.DrawFn) -> bytes:
    """Returns a journal of JSON in which fields are odd, lines repeated, swapped or left out."""
    records: list[Any] = json.loads(json.dumps(RECORDS))
    for _ in range(draw(st.integers(1, 4))):
        i = draw(st.integers(0, len(records) - 1))
        kind = draw(st.sampled_from(["odd", "odd", "odd", "less", "twice", "gone", "swap"]))
        if kind in ("odd", "less") and isinstance(records[i], dict) and records[i]:
            key = draw(st.sampled_from(sorted(records[i])))
            if kind == "odd":
                records[i][key] = draw(st.sampled_from(ODD))
            else:
                del records[i][key]
        elif kind == "twice":
            records.insert(draw(st.integers(0, len(records))), records[i])
        elif kind == "gone" and len(records) > 1:
            del records[i]
        elif kind == "swap":
            j = draw(st.integers(0, len(records) - 1))
            records[i], records[j] = records[j], records[i]
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


DAMAGED = damaged_bytes() | changed_records()


def check(folder: Path, data: bytes) -> None:
    """Reads, opens, resumes from, mends and reads again what may be a journal."""
    path = folder / f"{next(NAMES)}.jsonl"
    path.write_bytes(data)
    try:
        header, records = read_journal(path)
    except RunFolderError as error:
        assert path.read_bytes() == data and error.remedy
    else:
        assert header["type"] == "header"
        for record in records:
            if record["type"] == "evaluation":
                Evaluation.from_json(record)
    try:
        with Journal.open(path, {"identity": "abc"}) as journal:
            archive = Archive(journal, lambda: pytest.fail("nothing is evaluated"))
            known = archive.evaluations("search")
            assert archive.get([e.pattern for e in known if e.rung == -1]) is not None
            journal.append([{"type": "event", "event": "resumed"}])
        assert read_journal(path)[1][-1]["event"] == "resumed"
        return
    except RunFolderError:
        assert path.read_bytes() == data
    try:
        _, backup = repair(path, {"identity": "abc"})
    except RunFolderError as error:
        assert "version" in error.cause and path.read_bytes() == data
        return
    assert backup is not None and backup.read_bytes() == data
    read_journal(path)
    assert repair(path, {}) == ([], None)


@pytest.fixture(autouse=True)
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares the disk."""
    monkeypatch.setattr(journal_module.os, "fsync", lambda file: None)


FIXED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
QUICK = settings(max_examples=300, deadline=None, suppress_health_check=FIXED)
LONG = settings(max_examples=6000, deadline=None, suppress_health_check=list(HealthCheck))


@QUICK
@given(DAMAGED)
def test_damaged_journals(tmp_path, data):
    check(tmp_path, data)


@pytest.mark.slow
@LONG
@given(DAMAGED)
def test_many_damaged_journals(tmp_path, data):
    check(tmp_path, data)
    for file in tmp_path.iterdir():
        file.unlink()


@given(st.integers(0, len(GOLDEN)))
def test_whatever_was_cut_off_what_came_before_it_is_read(tmp_path_factory, size):
    path = tmp_path_factory.getbasetemp() / "cut.jsonl"
    path.write_bytes(GOLDEN[:size])
    whole = GOLDEN[:size].count(b"\n")
    if whole:
        assert len(read_journal(path)[1]) == whole - 1
    else:
        with pytest.raises(RunFolderError):
            read_journal(path)
