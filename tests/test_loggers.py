"""Loggers: what they are told, what a resumed search leaves of it, and what they may not do."""

import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import evoprune
from evoprune.config import Part, build
from evoprune.console import Console
from evoprune.errors import ConfigError
from evoprune.loggers import Csv
from evoprune.registry import LOGGERS


def test_csv_has_a_row_a_generation_and_a_replay_writes_the_same(tiny_config, tmp_path):
    settings = tiny_config(loggers=["csv"])
    run = evoprune.search(settings, quiet=True)
    path = run.folder.path / "progress.csv"
    rows = list(csv.DictReader(path.open()))
    assert [int(row["step"]) for row in rows] == [4, 8, 12]
    assert [int(row["n_gen"]) for row in rows] == [1, 2, 3]
    volumes = [float(row["hypervolume"]) for row in rows]
    assert volumes == sorted(volumes) and volumes[-1] > 0
    assert float(rows[-1]["best_kl"]) == 0.0 and float(rows[-1]["best_sparsity"]) > 0
    before = path.read_bytes()
    evoprune.search(settings, quiet=True)
    assert path.read_bytes() == before


def test_loggers_may_change_between_two_calls_on_a_folder(tiny_config):
    evoprune.search(tiny_config(), quiet=True)
    run = evoprune.search(tiny_config(loggers=[{"type": "csv", "file": "more.csv"}]), quiet=True)
    assert (run.folder.path / "more.csv").read_text().count("\n") == 4


@pytest.mark.parametrize(
    "file", ["../out.csv", "/etc/out.csv", "a/b.csv", "", "..", "a\\b", "front.csv"]
)
def test_a_logger_writes_nothing_outside_its_run_folder_and_nothing_of_the_search(file):
    with pytest.raises(ConfigError, match=r"no plain name|written by the search itself"):
        build(LOGGERS, Part.model_validate({"type": "csv", "file": file}))


def test_what_cannot_be_meant_is_refused_before_anything_is_made(tiny_config, tmp_path):
    for loggers, said in (
        (["cvs"], "Did you mean 'csv'"),
        (["csv", "csv"], "stands twice"),
        ([{"type": "csv", "fil": "x"}], "Did you mean 'file'"),
    ):
        with pytest.raises(ConfigError, match=said):
            evoprune.search(tiny_config(loggers=loggers), quiet=True)
    assert not (tmp_path / "run").exists()


def test_without_tensorboard_the_remedy_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"pip install tensorboard\.$"):
        build(LOGGERS, Part(type="tensorboard")).open(tmp_path)


def test_tensorboard_gets_every_generation(tiny_config):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = tiny_config(loggers=["tensorboard"])
    for _ in range(2):
        run = evoprune.search(settings, quiet=True)
        found = EventAccumulator(str(run.folder.path / "tensorboard")).Reload()
        assert [event.step for event in found.Scalars("search/hypervolume")] == [4, 8, 12]


@dataclass(frozen=True)
class Broken:
    """A logger whose second row fails."""

    def open(self, folder: Path) -> "Broken":
        return self

    def log(self, step, values):
        if step > 1:
            raise OSError("no network")

    def close(self):
        raise OSError("no network")


def test_a_logger_that_fails_is_left_out_and_ends_nothing(tmp_path, capsys):
    console = Console()
    console.open_loggers([Broken(), Csv()], tmp_path)
    for step in (1, 2, 3):
        console.record(step, {"front": step})
    console.close_loggers()
    assert capsys.readouterr().out.count("no network") == 1
    assert (tmp_path / "progress.csv").read_text() == "step,front\n1,1\n2,2\n3,3\n"
