"""Who may write a journal, and when a lock that was left behind is stale."""

import json
import os
import signal
import subprocess
import sys

import pytest

from evoprune.core.errors import RunFolderError
from evoprune.folder.lock import Lock


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a"


HOLD = """
import sys, time
from pathlib import Path
from evoprune.folder.lock import Lock
held = Lock.take(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def test_a_lock_of_a_process_that_was_killed_is_free_at_once(path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunFolderError, match=rf"Another process .*: process {holder.pid} on"):
            Lock.take(path)
        os.kill(holder.pid, signal.SIGKILL)
    assert json.loads(path.with_name("a.lock").read_text())["pid"] == holder.pid, "left behind"
    Lock.take(path).release()


def test_the_second_writer_is_told_who_the_first_is(path):
    with (
        Lock.take(path),
        pytest.raises(RunFolderError, match=rf"process {os.getpid()} on .*, since 2"),
    ):
        Lock.take(path)
    assert path.with_name("a.lock").read_bytes() == b""


@pytest.mark.parametrize(
    ("host", "boot", "stale"),
    [
        (None, None, True),
        (None, "an older boot", True),
        ("other", None, True),
        ("other", "", False),
    ],
    ids=["killed", "rebooted", "another container", "another machine"],
)
def test_a_lock_that_nobody_holds_is_stale_if_that_can_be_told(path, host, boot, stale):
    lock = path.with_name("a.lock")
    with Lock.take(path):
        held = json.loads(lock.read_text())
    changed = {"host": host} if host else {}
    lock.write_text(json.dumps(held | changed | ({} if boot is None else {"boot": boot})))
    if stale:
        Lock.take(path).release()
        return
    before = lock.read_text()
    with pytest.raises(RunFolderError, match=r"not closed by process \d+ on other.*delete"):
        Lock.take(path)
    assert lock.read_text() == before
