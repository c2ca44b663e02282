"""The same search on every back end, and after workers died, gives the same files."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import pytest
import yaml

import evoprune
from evoprune.config.schema import load_config
from evoprune.core.errors import EvopruneError
from evoprune.core.protocols import Request
from evoprune.evaluation import ray_pool
from evoprune.evaluation.local import LocalEvaluator
from evoprune.evaluation.ray_pool import Demand, RayEvaluator
from evoprune.folder.journal import read_journal
from evoprune.objectives.function import FunctionObjective
from evoprune.progress.console import Console
from evoprune.session import open_session
from evoprune.testing import tiny_decoder

RUNGS = [{"samples": 4, "keep": 0.5}, {"samples": 12}]


@evoprune.objective(goal="min")
def worst_example(tables, dense):
    """The divergence where it is largest: pickled by the name of its module."""
    return tables["clean"].columns["kl"].max()


def scaled(factor: float) -> FunctionObjective:
    """Returns a function that has no name in its module, and is pickled with its code."""
    return evoprune.objective("min")(lambda tables, dense: factor * worst_example(tables, dense))


def files(settings: dict, output: Path, **workers: object) -> dict[str, bytes]:
    """Returns what a search leaves of its front."""
    run = evoprune.search(
        settings | {"output": str(output), "workers": workers},
        objectives={"worst_example": worst_example, "scaled": scaled(2.0)},
        quiet=True,
    )
    left = {name: (run.folder.path / name).read_bytes() for name in ("front.csv", "front.json")}
    records = [r for r in read_journal(run.folder.journal)[1] if r["type"] == "evaluation"]
    untimed = [{k: v for k, v in r.items() if not k.endswith("seconds")} for r in records]
    # Values and tokens, at every rung: tables of lower rungs travelled there and back.
    return left | {"journal": "\n".join(sorted(map(json.dumps, untimed))).encode()}


@pytest.mark.parametrize(
    "count", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(4, marks=pytest.mark.slow)]
)
def test_ray_gives_the_files_of_one_process(tiny_config, tmp_path, count):
    settings = tiny_config(space="decoder/depth_width", rungs=RUNGS)
    here = files(settings, tmp_path / "here", backend="local")
    assert here["front.csv"].count(b"\n") > 2
    assert files(settings, tmp_path / "ray", backend="ray", count=count) == here


def test_weights_are_read_from_storage_and_never_sent(tiny_config, tmp_path):
    sizes = {}
    for layers in (2, 12):
        folder = tiny_decoder(tmp_path / f"model{layers}", layers=layers)
        settings = tiny_config(
            model={"name_or_path": str(folder)}, output=str(tmp_path / f"run{layers}")
        )
        session = open_session(load_config(settings), Console(stream=None))
        session.close()
        base = session.folder.ranks / "base.safetensors"
        sizes[layers] = len(cloudpickle.dumps(session.spec)), base.stat().st_size
    # Ten blocks more are a few names of sites more, and not a tenth of their weights.
    (few, small), (many, large) = sizes.values()
    assert many - few < (large - small) / 10

    worker = LocalEvaluator(session.spec).worker
    assert str(base) in Path("/proc/self/maps").read_text(), "mapped, not copied"
    assert worker.model.model.layers[0].mlp.up_proj.weight.numel()


@pytest.mark.slow
def test_a_killed_ray_worker_costs_no_evaluation(tiny_config):
    session = open_session(load_config(tiny_config()), Console(stream=None))
    session.close()
    space = session.problem.space
    patterns = space.patterns([[i >> bit & 1 for bit in range(4)] for i in range(16)])
    expected = {
        e.pattern.id: e.values for e in LocalEvaluator(session.spec).evaluate(Request(patterns))
    }
    pool = RayEvaluator(session.spec, 2)
    try:
        found = []
        for evaluation in pool.evaluate(Request(patterns)):
            found.append(evaluation)
            if len(found) == 3:
                base = str(session.folder.ranks / "base.safetensors")
                maps = [Path(f"/proc/{pid}/maps").read_text() for pid in pool.pids]
                assert all(base in one for one in maps), "every actor maps the one file"
                os.kill(pool.pids[0], signal.SIGKILL)
    finally:
        pool.close()
    assert {e.pattern.id: e.values for e in found} == expected


class MadeActor:
    """An actor that says nothing."""

    ready = SimpleNamespace(remote=object)


class MadeRay:
    """Takes in what Ray is asked for."""

    def __init__(self):
        self.asked = []

    def cluster_resources(self):
        return {"CPU": 4.0, "GPU": 2.0, "fast": 1.0}

    def remote(self, kind):
        return self

    def options(self, **asked):
        self.asked.append(asked)
        return SimpleNamespace(remote=lambda spec: MadeActor())

    def kill(self, worker):
        pass


def test_actors_are_asked_for_as_configured(tiny_config, monkeypatch):
    made = MadeRay()
    monkeypatch.setattr(ray_pool, "_start", lambda demand, each: (made, False))
    session = open_session(load_config(tiny_config()), Console(stream=None))
    session.close()
    environment = {"env_vars": {"A": "1"}, "pip": ["evoprune-mine"]}
    demand = Demand(2, 1.5, 0.25, {"fast": 0.5}, address="auto", runtime_env=environment)
    crew = ray_pool._Actors(session.spec, demand)
    crew.start()
    crew.close()
    (asked,) = made.asked
    assert asked["runtime_env"] == environment
    assert (asked["num_cpus"], asked["num_gpus"], asked["resources"]) == (1.5, 0.25, {"fast": 0.5})
    assert asked["max_restarts"] == asked["max_task_retries"] == 0, "the pool sends again itself"


@pytest.mark.parametrize(("address", "given"), [(None, "local"), ("auto", "auto")])
def test_without_an_address_no_cluster_that_runs_here_is_joined(
    tiny_config, monkeypatch, address, given
):
    import ray

    asked = []

    def init(**settings):
        asked.append(settings)
        raise RuntimeError("stopped here")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    session = open_session(load_config(tiny_config()), Console(stream=None))
    session.close()
    with pytest.raises(EvopruneError, match="stopped here"):
        RayEvaluator(session.spec, Demand(2, address=address))
    assert asked[0]["address"] == given
    assert ("num_cpus" in asked[0]) == (address is None), "a cluster knows what it has"


@pytest.mark.slow
def test_a_runtime_env_reaches_the_actors(tiny_config):
    session = open_session(load_config(tiny_config()), Console(stream=None))
    session.close()
    demand = Demand(1, runtime_env={"env_vars": {"EVOPRUNE_MARK": "passed on"}})
    pool = RayEvaluator(session.spec, demand)
    try:
        list(pool.evaluate(Request([session.problem.space.dense])))
        (pid,) = pool.pids
        assert b"EVOPRUNE_MARK=passed on" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    finally:
        pool.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_driver_outside_of_the_cluster_gives_the_same_files(tiny_config, tmp_path, monkeypatch):
    pytest.importorskip("grpc")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S", "30")
    here = evoprune.search(tiny_config(output=str(tmp_path / "here")), quiet=True)
    arguments = {"num_cpus": 2, "ray_client_server_port": 20098}
    cluster = Cluster(initialize_head=True, head_node_args=arguments)
    config = tmp_path / "outside.yaml"
    workers = {"backend": "ray", "count": 2, "address": "ray://127.0.0.1:20098"}
    settings = tiny_config(workers=workers, output=str(tmp_path / "outside"))
    config.write_text(yaml.safe_dump(settings))
    try:
        command = [sys.executable, "-m", "evoprune.cli", "search", str(config)]
        for _ in range(4):
            done = subprocess.run(command, capture_output=True, text=True, timeout=600)
            # Ray's server for clients may fail to fork ("skipping fork() handlers" in its log).
            if "Initialization failure from server" not in done.stderr:
                break
    finally:
        cluster.shutdown()
    assert done.returncode == 0, done.stderr
    front = (tmp_path / "outside" / "front.csv").read_bytes()
    assert front == (here.folder.path / "front.csv").read_bytes()


@pytest.mark.slow
def test_two_threads_a_worker_start(tiny_config):
    settings = load_config(tiny_config())
    session = open_session(settings, Console(stream=None))
    session.close()
    pool = RayEvaluator(replace(session.spec, threads=2), 1)
    try:
        (evaluation,) = pool.evaluate(Request([session.problem.space.dense]))
    finally:
        pool.close()
    assert evaluation.values["kl"] == 0


@pytest.mark.parametrize(
    "address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999", "there:here"]
)
def test_a_cluster_that_is_not_there_is_named_at_once(tiny_config, address):
    session = open_session(load_config(tiny_config()), Console(stream=None))
    session.close()
    with pytest.raises(EvopruneError, match=rf"Ray at '{address}' cannot be reached.*address"):
        RayEvaluator(session.spec, Demand(1, address=address))


def test_an_evaluator_that_shall_stop_begins_nothing_new(tiny_config, monkeypatch):
    monkeypatch.setattr("evoprune.evaluation.local.SECONDS_AT_ONCE", 0)  # one by one
    session = open_session(load_config(tiny_config()), Console(stream=None))
    session.close()
    done: list = []
    patterns = session.problem.space.patterns([[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
    request = Request(patterns, stopping=lambda: len(done) == 2)
    for evaluation in LocalEvaluator(session.spec).evaluate(request):
        done.append(evaluation)
    assert len(done) == 2 and {e.pattern for e in done} < set(patterns)
