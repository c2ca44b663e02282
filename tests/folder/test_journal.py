"""The journal under torn tails, damage, full disks, second writers and kill -9."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprune.core.errors import RunFolderError
from evoprune.core.files import write_atomically
from evoprune.core.protocols import Evaluation
from evoprune.folder import journal as journal_module
from evoprune.folder.journal import Journal, decode, encode, evaluation_key, read_journal, repair
from evoprune.searching.archive import Archive

HEADER = {"run": "abc", "seed": 0}
RECORDS = [{"type": "trial", "key": f"p{i}/search/0", "nll": i / 3} for i in range(4)]
TEXTS = st.text() | st.from_regex(r"~*(nan|inf|-inf)", fullmatch=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=8,
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal.open(path, HEADER) as journal:
        journal.append(RECORDS)
    return path


def run_python(code, *arguments, **options):
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


@given(VALUES)
def test_encode_is_strict_json_and_decode_undoes_it(value):
    text = json.dumps(encode(value), allow_nan=False)
    assert repr(decode(json.loads(text))) == repr(value)


def test_encode_takes_numpy_and_tuples():
    value = {"a": np.float64(math.inf), "b": np.int64(3), "c": (np.array([1, 2]), np.bool_(True))}
    assert encode(value) == {"a": "inf", "b": 3, "c": [[1, 2], True]}


def test_evaluation_key():
    assert evaluation_key("ab12", "val", 2) == "ab12/val/2"


def test_records_are_read_back_in_order_and_by_type(path):
    with Journal.open(path, {"ignored": True}) as journal:
        journal.append([{"type": "event", "what": "stop", "seconds": math.nan}])
        assert journal.header == {"type": "header", "version": 1, **HEADER}
        assert journal.torn == 0
        assert journal.records("trial") == RECORDS
        assert math.isnan(journal.records("event")[0]["seconds"])
    assert path.read_bytes().count(b"\n") == 6
    assert read_journal(path)[1][:4] == RECORDS


def test_a_truncated_tail_loses_at_most_the_last_record(path, monkeypatch):
    monkeypatch.setattr(journal_module.os, "fsync", lambda file: None)  # thousands of them
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        complete = sum(end <= size for end in ends)
        with Journal.open(path, HEADER) as journal:
            assert journal.torn == (size not in ends and size > 0)
            assert journal.records() == RECORDS[: max(complete - 1, 0)]
            journal.append([RECORDS[-1]])
        assert read_journal(path)[1] == [*RECORDS[: max(complete - 1, 0)], RECORDS[-1]]


@pytest.mark.parametrize("tail", [b'{"type":"eval', b"\0\0\0\n", b"[1]\n", b'"\xff'])
def test_reading_bears_a_torn_tail_and_leaves_it(path, tail):
    damaged = path.read_bytes() + tail
    path.write_bytes(damaged)
    assert read_journal(path)[1] == RECORDS
    assert path.read_bytes() == damaged
    with Journal.open(path, HEADER) as journal:
        assert journal.torn == 1
        assert journal.records() == RECORDS


@given(st.integers(1, 4), st.sampled_from([b"", b"{", b"5", b"\xff\xfe", b"null", b'{"a":1}{']))
def test_damage_before_the_last_line_is_reported_and_untouched(tmp_path_factory, number, damage):
    path = tmp_path_factory.mktemp("run") / "journal.jsonl"
    lines = [json.dumps({"type": "header", "version": 1}).encode()]
    lines += [json.dumps(record).encode() for record in RECORDS]
    lines[number - 1] = damage
    path.write_bytes(b"\n".join(lines) + b"\n")
    before = path.read_bytes()
    for attempt in (lambda: Journal.open(path, HEADER), lambda: read_journal(path)):
        with pytest.raises(RunFolderError, match=rf"Line {number} of .*nothing was changed"):
            attempt()
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"my notes", b"my notes\n", b'{"type":"event"}\n'])
def test_a_file_that_is_no_journal_is_not_touched(tmp_path, content):
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match=r"Line 1 of .* is not .*nothing was changed"):
        Journal.open(path, HEADER)
    assert path.read_bytes() == content


def test_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text('{"type":"header","version":2}\n')
    with pytest.raises(RunFolderError, match="version 2"):
        Journal.open(path, HEADER)
    with pytest.raises(RunFolderError, match="version 2"):
        read_journal(path)


def test_a_header_may_not_name_its_own_version(tmp_path):
    with pytest.raises(ValueError, match="version"):
        Journal.open(tmp_path / "journal.jsonl", {"version": "0.1.0"})
    assert list(tmp_path.iterdir()) == []


def test_reading_what_is_missing_or_empty_says_so(tmp_path):
    with pytest.raises(RunFolderError, match="cannot be read"):
        read_journal(tmp_path / "journal.jsonl")
    (tmp_path / "journal.jsonl").touch()
    with pytest.raises(RunFolderError, match="stopped before it began"):
        read_journal(tmp_path / "journal.jsonl")


def test_a_second_writer_is_refused_until_the_first_closes(path):
    with Journal.open(path, HEADER):
        with pytest.raises(RunFolderError, match="Another process"):
            Journal.open(path, HEADER)
        assert len(read_journal(path)[1]) == 4
    Journal.open(path, HEADER).close()


def test_a_refused_open_gives_the_lock_back(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_text("my notes\n")
    with pytest.raises(RunFolderError):
        Journal.open(path, HEADER)
    path.unlink()
    Journal.open(path, HEADER).close()


def test_a_folder_that_is_missing_or_in_the_way_is_named(tmp_path):
    with pytest.raises(RunFolderError, match="cannot be written"):
        Journal.open(tmp_path / "none" / "journal.jsonl", HEADER)
    with pytest.raises(RunFolderError, match="cannot be read"):
        Journal.open(tmp_path, HEADER)


def test_a_record_that_json_cannot_hold_writes_nothing(path):
    before = path.read_bytes()
    with Journal.open(path, HEADER) as journal:
        with pytest.raises(TypeError):
            journal.append([RECORDS[0], {"type": "event", "what": object()}])
        journal.append([])
        assert path.read_bytes() == before


def test_a_closed_journal_takes_no_records(path):
    journal = Journal.open(path, HEADER)
    journal.close()
    journal.close()
    with pytest.raises(RunFolderError, match="was closed"):
        journal.append(RECORDS)


def test_a_full_disk_cuts_off_the_part_that_was_written(path, monkeypatch):
    write, before = os.write, path.read_bytes()

    def fill(file, data):
        if len(data) < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[:50])

    journal = Journal.open(path, HEADER)
    monkeypatch.setattr(journal_module.os, "write", fill)
    with pytest.raises(RunFolderError, match=r"No space left on device.*Free disk space"):
        journal.append(RECORDS)
    with pytest.raises(RunFolderError, match="was closed"):
        journal.append(RECORDS)
    assert path.read_bytes() == before


def test_a_full_disk_that_cannot_even_be_cut_leaves_a_readable_journal(path, monkeypatch):
    def broken(file, *_):
        raise OSError(errno.EIO, "Input/output error")

    journal = Journal.open(path, HEADER)
    with monkeypatch.context() as patch:
        patch.setattr(journal_module.os, "ftruncate", broken)
        patch.setattr(journal_module.os, "fsync", broken)
        with pytest.raises(RunFolderError, match="Input/output error"):
            journal.append(RECORDS[:1])
    path.write_bytes(path.read_bytes()[:-5])
    with Journal.open(path, HEADER) as again:
        assert (again.torn, again.records()) == (1, RECORDS)


def test_a_file_size_limit_keeps_all_earlier_records(tmp_path):
    code = """
        import resource, sys
        from evoprune.core.errors import RunFolderError
        from evoprune.folder.journal import Journal
        journal = Journal.open(sys.argv[1], {})
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        for number in range(100):
            try:
                journal.append([{"type": "event", "number": number}])
            except RunFolderError as error:
                print(number, error)
                break
    """
    output = run_python(code, tmp_path / "journal.jsonl").communicate(timeout=60)[0]
    assert "cannot be written: File too large" in output
    stored = [record["number"] for record in read_journal(tmp_path / "journal.jsonl")[1]]
    assert stored == list(range(int(output.split()[0])))


def test_kill_minus_nine_leaves_every_finished_append(tmp_path):
    code = """
        import sys
        from evoprune.folder.journal import Journal
        journal = Journal.open(sys.argv[1], {})
        for number in range(10**9):
            journal.append([{"type": "event", "number": number, "text": "x" * 5000}])
            print(number, flush=True)
    """
    process = run_python(code, tmp_path / "journal.jsonl")
    for _ in range(20):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    finished = 20 + len(process.communicate(timeout=60)[0].splitlines())
    with Journal.open(tmp_path / "journal.jsonl", {}) as journal:
        numbers = [record["number"] for record in journal.records()]
    assert numbers == list(range(len(numbers)))
    assert finished <= len(numbers) <= finished + 1


def test_write_atomically_keeps_the_old_file_when_it_fails(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "front.csv"
    write_atomically(path, "old\n")
    monkeypatch.setattr(journal_module.os, "fsync", broken)
    with pytest.raises(RunFolderError, match="No space left"):
        write_atomically(path, "new\n")
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


GOLDEN = Path(__file__).parents[1] / "golden" / "journal-v1.jsonl"


def test_a_journal_of_the_first_version_is_still_read():
    header, records = read_journal(GOLDEN)
    assert header["version"] == 1 and header["identity"].startswith("ad1da4c9")
    found = [Evaluation.from_json(r) for r in records if r["type"] == "evaluation"]
    assert [e.failure for e in found] == [
        *[None] * 6,
        "deterministic",
        "transient",
        "transient",
    ]
    assert [e.cause for e in found][-2:] == ["timeout", None]
    assert found[4].tables["clean"].columns["nll"].shape == (3,)
    assert found[5].values["perplexity"] == math.inf and found[5].model_seconds == 0.0
    dense = found[0]
    assert set(dense.pattern.choices) == {0} and dense.values["kl"] == 0.0


def test_what_can_be_retried_is_not_an_answer_and_all_else_is(tmp_path):
    (tmp_path / "journal.jsonl").write_bytes(GOLDEN.read_bytes())
    with Journal.open(tmp_path / "journal.jsonl", {}) as journal:
        archive = Archive(journal, lambda: pytest.fail("what is known is not evaluated"))
        known = archive.evaluations("search")
        assert len(known) == 6
        assert archive.get([e.pattern for e in known]) == known


@pytest.mark.parametrize(
    "change",
    [
        {"pattern": [1] * 12},
        {"pattern": "AAAA"},
        {"id": 5},
        {"values": {"kl": "much"}},
        {"values": {"kl": 10**400}},
        {"values": None},
        {"rung": "top"},
        {"tokens": True},
        {"failure": "sometimes"},
        {"tables": {"clean": {"columns": {"n": [1, 2]}, "groups": [0]}}},
    ],
    ids=repr,
)
def test_an_evaluation_that_makes_no_sense_is_damage(tmp_path, change):
    lines = GOLDEN.read_text().splitlines()
    lines[2] = json.dumps(json.loads(lines[2]) | change)
    path = tmp_path / "journal.jsonl"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(RunFolderError, match=r"Line 3 of .*is not a whole record.*--repair"):
        read_journal(path)


@given(st.sets(st.integers(2, 12), min_size=1), st.sampled_from([b"", b"{", b"\xff", b"[" * 9999]))
def test_repair_sets_aside_what_is_damaged_and_nothing_else(tmp_path_factory, numbers, damage):
    path = tmp_path_factory.mktemp("run") / "journal.jsonl"
    whole = GOLDEN.read_bytes().splitlines()
    lines = [damage if i in numbers else line for i, line in enumerate(whole, start=1)]
    before = b"\n".join(lines) + b"\n"
    path.write_bytes(before)
    found, backup = repair(path, {"identity": "other"})
    assert set(found) == {i for i in numbers if i <= len(whole)}
    assert backup.read_bytes() == before
    kept = [line for i, line in enumerate(whole, start=1) if i not in numbers]
    assert path.read_bytes() == b"\n".join(kept) + b"\n"
    assert read_journal(path)[0]["identity"] != "other"
    assert repair(path, {}) == ([], None)


def test_repair_gives_back_a_header_that_is_damaged(tmp_path):
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"\0\0\0" + GOLDEN.read_bytes())
    found, backup = repair(path, {"identity": "abc"})
    assert found == [1] and backup.name == "journal.jsonl.damaged-1"
    assert read_journal(path) == (
        {"type": "header", "version": 1, "identity": "abc"},
        read_journal(GOLDEN)[1],
    )


def test_repair_writes_a_header_anew_that_says_too_little(tmp_path):
    path, lines = tmp_path / "journal.jsonl", GOLDEN.read_bytes().splitlines(keepends=True)
    for header in (b'{"type":"header","version":1}\n', b'{"type":"header","identity":"abc"}\n'):
        path.write_bytes(b"".join([header, *lines[1:]]))
        assert repair(path, {"identity": "abc"})[0] == [1]
        assert read_journal(path)[0] == {"type": "header", "version": 1, "identity": "abc"}


def test_repair_does_not_touch_a_journal_in_use_or_of_a_newer_version(path):
    with Journal.open(path, HEADER), pytest.raises(RunFolderError, match="Another process"):
        repair(path, HEADER)
    path.write_text('{"type":"header","version":2}\n{')
    with pytest.raises(RunFolderError, match="version 2"):
        repair(path, HEADER)
    assert {one.name for one in path.parent.iterdir()} == {"journal.jsonl", "journal.jsonl.lock"}
