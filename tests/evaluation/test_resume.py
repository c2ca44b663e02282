"""A search killed at any moment and started again ends like one that was left in peace."""

import collections
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

import evoprune
from evoprune.core.errors import RunFolderError
from evoprune.folder import journal as journal_module
from evoprune.folder.journal import read_journal

# Enough work that a kill falls among evaluations.
SECTIONS = {
    "space": "decoder/subblocks",
    "calibration": {"samples": 120, "clusters": 3},
    "search": {"algorithm": {"type": "nsga2", "pop_size": 8}, "n_eval": 40},
    "validation": {"samples": 16},
    "report": {"samples": 16},
    "controls": ["last_k"],
}
COMPUTED = re.compile(r"journal +(\d+) evaluations computed now, (\d+) answers")


def evaluations(folder: Path) -> list[dict]:
    """Returns a run's evaluation records without their times."""
    records = [r for r in read_journal(folder / "journal.jsonl")[1] if r["type"] == "evaluation"]
    return [{k: v for k, v in r.items() if not k.endswith("seconds")} for r in records]


def key(record: dict) -> tuple:
    return record["id"], record["split"], record["rung"]


def count(folder: Path) -> int:
    """Returns how many evaluations a journal holds that may be half written."""
    path = folder / "journal.jsonl"
    return path.read_bytes().count(b'{"type":"evaluation"') if path.exists() else 0


def killed_after(config: Path, folder: Path, moment: int, pause: float) -> None:
    """Starts the search and kills it, with no chance to clean up, some evaluations in."""
    command = [sys.executable, "-m", "evoprune.cli", "search", str(config)]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while count(folder) < moment:
            assert driver.poll() is None, "the search ended before it was killed"
            time.sleep(0.002)
        time.sleep(pause)
    finally:
        driver.kill()
        driver.wait()


@pytest.fixture
def calm(tiny_config, tmp_path):
    """Returns the settings of a search and the folder of a run of it that nothing disturbed."""
    settings = tiny_config(**SECTIONS, output=str(tmp_path / "calm"))
    evoprune.search(settings, quiet=True)
    return settings, tmp_path / "calm"


def test_three_kills_change_nothing(calm, tmp_path):
    settings, before = calm
    folder, config = tmp_path / "killed", tmp_path / "killed.yaml"
    config.write_text(yaml.safe_dump(settings | {"output": str(folder)}))
    total, rng = len(evaluations(before)), np.random.default_rng(2026)
    for moment in np.sort(rng.choice(np.arange(1, total - 1), 3, replace=False)):
        killed_after(config, folder, int(moment), float(rng.uniform(0, 0.02)))
    left = len(evaluations(folder))
    assert 0 < left < total

    evoprune.search(str(config), quiet=True)

    for name in ("front.csv", "front.json", "controls/last_k.csv"):
        assert (folder / name).read_bytes() == (before / name).read_bytes()
    again = evaluations(folder)
    assert max(collections.Counter(map(key, again)).values()) == 1
    assert sorted(map(json.dumps, again)) == sorted(map(json.dumps, evaluations(before)))
    computed = [int(n) for n, _ in COMPUTED.findall((folder / "log.txt").read_text())]
    assert computed == [total - left]


def test_a_finished_search_starts_no_worker_and_computes_nothing(calm, monkeypatch):
    settings, folder = calm
    before, known = (folder / "front.csv").read_bytes(), evaluations(folder)
    monkeypatch.setattr("evoprune.session.evaluator_for", None)
    evoprune.search(settings, quiet=True)
    assert ((folder / "front.csv").read_bytes(), evaluations(folder)) == (before, known)
    last = COMPUTED.findall((folder / "log.txt").read_text())[-1]
    assert last[0] == "0" and int(last[1]) >= 40


def test_a_second_driver_is_refused_and_sigterm_drains_the_first(calm, tmp_path):
    settings, before = calm
    folder, config = tmp_path / "preempted", tmp_path / "preempted.yaml"
    config.write_text(yaml.safe_dump(settings | {"output": str(folder)}))
    command = [sys.executable, "-m", "evoprune.cli", "search", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        while count(folder) < 5:
            assert driver.poll() is None, "the search ended before its signal"
            time.sleep(0.002)
        with pytest.raises(RunFolderError, match=f"Another process .*: process {driver.pid} on"):
            evoprune.search(str(config), quiet=True)
        driver.terminate()
        said = driver.communicate(timeout=60)[0]
    assert driver.returncode == 130 and "Stopping after what is being evaluated" in said
    assert "front" not in {path.stem for path in folder.iterdir()}
    left, total = len(evaluations(folder)), len(evaluations(before))
    assert 5 <= left < total and not any("error" in record for record in evaluations(folder))

    evoprune.search(str(config), quiet=True)

    assert (folder / "front.csv").read_bytes() == (before / "front.csv").read_bytes()
    computed = [int(n) for n, _ in COMPUTED.findall((folder / "log.txt").read_text())]
    assert computed[-1] == total - left


def test_a_disk_that_fills_up_stops_the_search_and_costs_nothing_finished(
    calm, tmp_path, monkeypatch
):
    settings, before = calm
    folder, write, written = tmp_path / "full", journal_module.os.write, [0]

    def filling(descriptor: int, data: bytes) -> int:
        written[0] += data.count(b'"type":"evaluation"')
        if written[0] > 10:
            write(descriptor, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(journal_module.os, "write", filling)
    with pytest.raises(RunFolderError, match=r"No space left on device.*give the same command"):
        evoprune.search(settings | {"output": str(folder)}, quiet=True)
    assert len(evaluations(folder)) == 10
    monkeypatch.undo()
    evoprune.search(settings | {"output": str(folder)}, quiet=True)
    assert (folder / "front.csv").read_bytes() == (before / "front.csv").read_bytes()
    assert max(collections.Counter(map(key, evaluations(folder))).values()) == 1
