"""A folder that nothing can be written to, at every step that writes: one sentence, no traceback.

Root may write anywhere, so that the system's calls are made to refuse.
"""

import errno
import os
from pathlib import Path

import pytest

import evoprune
from evoprune.core.errors import EvopruneError
from evoprune.report.html import write_report


@pytest.fixture
def read_only(tiny_config, monkeypatch: pytest.MonkeyPatch):
    """Returns a finished run in a folder that has become read-only since."""
    run = evoprune.search(tiny_config(), quiet=True)

    def refuse(*arguments, **settings):
        raise OSError(errno.EROFS, "Read-only file system")

    def opened(path, mode="r", *rest, **settings):
        return refuse() if set(mode) & set("wax+") else plain(path, mode, *rest, **settings)

    plain = open
    monkeypatch.setattr("builtins.open", opened)
    monkeypatch.setattr(os, "replace", refuse)
    for name in ("mkdir", "unlink", "rename"):
        monkeypatch.setattr(Path, name, refuse)
    return run


WRITES = {
    "export": lambda run: run.export(verify=False),
    "ensemble": lambda run: run.ensemble(),
    "report": lambda run: write_report([run.folder.path]),
    "front": lambda run: run.front.to_csv(run.folder.path / "mine.csv"),
}


@pytest.mark.parametrize("what", WRITES)
def test_what_cannot_be_written_is_one_sentence(read_only, what):
    with pytest.raises(EvopruneError, match=r"cannot be written: Read-only file system\. Free"):
        WRITES[what](read_only)
