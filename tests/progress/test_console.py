"""What a terminal shows while workers work, and what a pipe gets."""

import io
import os
import pty
import re
import select
import subprocess
import sys

import pytest
import yaml

from evoprune.evaluation.tally import Work
from evoprune.progress.console import Console


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def works(count: int) -> list[Work]:
    return [Work(i + 1, f"node [b]{i}[/b]", 10 * i, 5.0, 6.0, 10**9, i % 2) for i in range(count)]


@pytest.fixture
def slowly(monkeypatch):
    """Lets every look be drawn."""
    monkeypatch.setattr("evoprune.progress.console.DRAW_SECONDS", 0.0)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "20")


def test_a_terminal_shows_what_every_worker_does(slowly):
    stream = Terminal()
    console = Console(stream=stream)
    console.workers(works(3))
    assert not stream.getvalue(), "nothing is drawn before there is something to say"
    console.progress("search generation 1", final=False)
    shown = stream.getvalue()
    header = next(line for line in shown.splitlines() if "candidates" in line)
    assert all(name in header for name in ("per s", "memory", "restarts", "busy"))
    assert "node [b]2[/b]" in shown, "a name is no markup"
    assert shown.index("node [b]2[/b]") < shown.index("search generation 1")
    before = len(shown)
    console.workers(works(4))
    assert "node [b]3[/b]" in stream.getvalue()[before:]
    console.say("a line")
    assert stream.getvalue().endswith("a line\n")


def test_more_workers_than_lines_are_counted(slowly):
    stream = Terminal()
    console = Console(stream=stream)
    console.progress("search generation 1", final=False)
    console.workers(works(64))
    assert "… and 50 more" in stream.getvalue() and "search generation 1" in stream.getvalue()


def test_a_pipe_gets_plain_lines_only():
    stream = io.StringIO()
    console = Console(stream=stream)
    console.workers(works(3))
    console.progress("search generation 1", final=True)
    console.progress("search generation 2", final=True)
    assert stream.getvalue() == "search generation 1\n"


def test_a_search_at_a_terminal_draws_its_worker(tiny_config, tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text(yaml.safe_dump(tiny_config(search={"n_eval": 40})))
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "evoprune.cli", "search", str(config)]
    with subprocess.Popen(command, stdout=theirs, env={**os.environ, "TERM": "xterm"}) as search:
        os.close(theirs)
        said = b""
        while select.select([ours], [], [], 60)[0]:
            try:
                said += os.read(ours, 65536)
            except OSError:  # it has closed its end
                break
    os.close(ours)
    assert search.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said.decode())
    assert re.search(r"worker +candidates +per s +busy +memory +restarts +where", text)
    assert "this process" in text and "generation 1" in text
