"""Loggers: what they are told, what a resumed search leaves of it, and what they may not do."""

import csv
import sys
import tomllib
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import evoprune
from evoprune.config.parts import build
from evoprune.config.sections import Part
from evoprune.core.errors import ConfigError
from evoprune.core.registry import LOGGERS
from evoprune.progress.console import Console
from evoprune.progress.loggers import Csv


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


@pytest.mark.parametrize(
    ("name", "module"),
    [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow"), ("wandb", "wandb")],
)
def test_without_its_package_a_logger_s_remedy_is_one_line(tmp_path, monkeypatch, name, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"'{name}' needs .*pip install {name}\.$"):
        build(LOGGERS, Part(type=name)).open(tmp_path)
    assert not list(tmp_path.iterdir())


def test_only_extras_ask_for_the_packages_of_loggers():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    for name in ("tensorboard", "mlflow", "wandb"):
        assert any(entry.startswith(name) for entry in project["optional-dependencies"][name])
        assert not any(entry.startswith(name) for entry in project["dependencies"])


class MadeMLflow(ModuleType):
    """The part of MLflow that is used, over a store in memory; its names are the real ones."""

    def __init__(self):
        super().__init__("mlflow")
        self.metrics, self.ended, self.experiments, self.uris = {}, [], [], []
        metric = namedtuple("Metric", "key value timestamp step")
        self.entities = SimpleNamespace(Metric=metric)

    def MlflowClient(self, tracking_uri=None):
        self.uris.append(tracking_uri)
        if tracking_uri == "http://nobody":
            raise OSError("connection refused")
        return self

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id="7") if name in self.experiments else None

    def create_experiment(self, name):
        self.experiments.append(name)
        return "7"

    def create_run(self, experiment_id, run_name):
        assert (experiment_id, run_name) == ("7", "run")
        self.metrics[f"run{len(self.metrics)}"] = []
        return SimpleNamespace(info=SimpleNamespace(run_id=[*self.metrics][-1]))

    def update_run(self, run_id, status):
        assert run_id in self.metrics and status == "RUNNING"

    def get_metric_history(self, run_id, key):
        return [one for one in self.metrics[run_id] if one.key == key]

    def log_batch(self, run_id, metrics):
        self.metrics[run_id] += metrics

    def set_terminated(self, run_id):
        self.ended.append(run_id)


class MadeWandB(ModuleType):
    """The part of W&B that is used."""

    def __init__(self):
        super().__init__("wandb")
        self.runs, self.began, self.finished = {}, [], 0
        self.Settings = dict

    def init(self, **settings):
        self.began.append(settings)
        run = settings["id"] or "abc"
        self.rows = self.runs.setdefault(run, [])
        last = max((step for step, _ in self.rows), default=-1)
        return SimpleNamespace(id=run, step=last + 1, log=self.log, finish=self.finish)

    def log(self, values, step):
        self.rows.append((step, values))

    def finish(self):
        self.finished += 1


def test_mlflow_is_told_every_generation_once_however_often_a_search_is_resumed(
    tiny_config, monkeypatch, tmp_path
):
    monkeypatch.setitem(sys.modules, "mlflow", made := MadeMLflow())
    settings = tiny_config(loggers=[{"type": "mlflow", "tracking_uri": "http://here"}])
    evoprune.search(settings, {"search.n_eval": 8}, quiet=True)
    evoprune.search(settings, quiet=True)
    assert (made.uris, made.experiments) == (["http://here"] * 2, ["evoprune"])
    (told,) = made.metrics.values()
    assert [m.step for m in told if m.key == "search/hypervolume"] == [4, 8, 12]
    assert {m.key for m in told} >= {"search/front", "search/best_kl"}
    assert made.ended == ["run0", "run0"]
    with pytest.raises(ConfigError, match=r"'mlflow' cannot be opened: connection refused\."):
        build(LOGGERS, Part(type="mlflow", options={"tracking_uri": "http://nobody"})).open(
            tmp_path
        )


def test_wandb_is_told_every_generation_once_however_often_a_search_is_resumed(
    tiny_config, monkeypatch
):
    monkeypatch.setitem(sys.modules, "wandb", made := MadeWandB())
    settings = tiny_config(loggers=[{"type": "wandb", "project": "mine", "mode": "offline"}])
    evoprune.search(settings, {"search.n_eval": 8}, quiet=True)
    evoprune.search(settings, quiet=True)
    assert [step for step, _ in made.runs["abc"]] == [4, 8, 12]
    assert {*made.runs["abc"][0][1]} >= {"search/front", "search/hypervolume", "search/best_kl"}
    assert [one["id"] for one in made.began] == [None, "abc"] and made.finished == 2
    assert made.began[0]["project"] == "mine" and made.began[0]["mode"] == "offline"


def test_the_real_mlflow_takes_what_it_is_told(tiny_config, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a folder is enough here
    mlflow = pytest.importorskip("mlflow")
    place = (tmp_path / "mlruns").as_uri()
    settings = tiny_config(loggers=[{"type": "mlflow", "tracking_uri": place}])
    for n_eval in (8, 12):
        run = evoprune.search(settings, {"search.n_eval": n_eval}, quiet=True)
    name = (run.folder.path / "mlflow.txt").read_text().strip()
    found = mlflow.MlflowClient(place).get_metric_history(name, "search/hypervolume")
    assert sorted(one.step for one in found) == [4, 8, 12]


def test_the_real_wandb_takes_what_it_is_told(tiny_config):
    pytest.importorskip("wandb")
    settings = tiny_config(loggers=[{"type": "wandb", "mode": "offline"}])
    run = evoprune.search(settings, quiet=True)
    assert list((run.folder.path / "wandb").glob("offline-run-*/*.wandb"))


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
