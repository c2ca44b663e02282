"""A model that is streamed: every block is fetched once for many, and values are the same."""

import numpy as np
import pytest
import torch

from evoprune import search
from evoprune.core.errors import ModelError
from evoprune.evaluation.prefix import size_of
from evoprune.evaluation.sweep import StreamedRunner
from evoprune.evaluation.worker import Worker
from evoprune.families.stages import batch_of


@pytest.fixture
def streamed(make_worker, tiny_llama):
    """Returns a function that makes a worker on a streamed model."""

    def make(boundary_mb=64, **sections) -> Worker:
        model = {"name_or_path": str(tiny_llama), "device_map": "streamed"}
        return make_worker(
            model=model, workers={"backend": "local", "boundary_mb": boundary_mb}, **sections
        )

    return make


def drawn(worker, count, seed=1):
    """Returns random patterns of a worker's space, one of them twice."""
    top = worker.space.upper + 1
    X = np.random.default_rng(seed).integers(0, top, (count, worker.space.n_var))
    return worker.space.patterns(worker.space.canonical(np.concatenate([X, X[:1]])))


@pytest.mark.parametrize("space", ["decoder/depth", "decoder/subblocks", "decoder/depth_width"])
@pytest.mark.parametrize("adapt", [None, "bias_compensation"])
def test_values_are_those_of_a_resident_model_to_the_last_bit(make_worker, streamed, space, adapt):
    resident, swept = make_worker(space=space, adapt=adapt), streamed(space=space, adapt=adapt)
    patterns = drawn(resident, 14)
    expected = [e.values for e in resident.evaluate_batch(patterns)]
    assert isinstance(swept.runner, StreamedRunner)
    swept.runner.sweeps = 0
    assert [e.values for e in swept.evaluate_batch(patterns)] == expected
    assert swept.runner.sweeps == 1
    swept.runner._bound = 0  # one pattern and one micro-batch at a time
    assert [e.values for e in swept.evaluate_batch(patterns)] == expected
    assert swept.runner.sweeps > len(patterns)


def test_every_beginning_is_run_once(streamed):
    worker = streamed()
    patterns = drawn(worker, 12)
    paths = worker.runner._paths([worker.space.options(p) for p in patterns])
    run = {p[: i + 1] for p in paths for i in range(len(p)) if p[i] is None}
    counts = worker.runner.prefixes
    asked, executed = counts.asked, counts.executed
    worker.evaluate_batch(patterns)
    micro_batches = (counts.executed - executed) / len(run)
    assert micro_batches == int(micro_batches) >= 1
    kept = sum(key is None for path in paths for key in path)
    assert counts.asked - asked == micro_batches * kept


@pytest.mark.parametrize("states", [2, 3, 7, 30])
def test_no_more_states_live_than_the_bound_allows(streamed, monkeypatch, states):
    worker = streamed(calibration={"samples": 8, "clusters": 2})
    monkeypatch.setattr("evoprune.families.stages.BATCH_TOKENS", 64)
    runner, most = worker.runner, 0
    clean = worker.examples("search").clean
    alive = {}
    begin, through = runner.stages.begin, runner._through

    def watched(asked, members, index, at):
        nonlocal most
        alive[id(at)] = at
        through(asked, members, index, at)
        most = max(most, sum(len(one) for one in alive.values()))

    rows = slice(0, max(1, 64 // clean.arrays["tokens"].shape[1]))
    size = size_of(begin(batch_of(clean.arrays, rows, "cpu")))
    monkeypatch.setattr(runner, "_bound", states * size)
    monkeypatch.setattr(runner, "_through", watched)
    sweep = runner._sweep
    monkeypatch.setattr(runner, "_sweep", lambda *it: (alive.clear(), sweep(*it)))
    runner.sweeps = 0
    found = worker.evaluate_batch(drawn(worker, 12))
    assert all(e.error is None for e in found)
    assert 1 <= most < states and runner.sweeps > 1


def test_blocks_are_fetched_once_for_a_generation(streamed, monkeypatch):
    from evoprune.evaluation import sweep

    worker, fetched = streamed(), []
    visiting = sweep.visiting
    monkeypatch.setattr(
        sweep, "visiting", lambda block: (fetched.append(block), visiting(block))[1]
    )
    worker.evaluate_batch(drawn(worker, 12))
    assert fetched == list(worker.model.model.layers)


def test_one_that_fails_takes_only_those_that_begin_like_it(streamed, monkeypatch):
    worker = streamed()
    patterns = worker.space.patterns([[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0]])
    before = [e.values for e in worker.evaluate_batch(patterns)]
    stages = worker.runner.stages
    block, seen = stages.block, []

    def failing(index, state, dropped):
        if index == 1 and dropped == {"layers.1"}:
            seen.append(state)
            raise ValueError("no luck")
        return block(index, state, dropped)

    monkeypatch.setattr(stages, "block", failing)
    found = worker.evaluate_batch(patterns)
    assert [e.error for e in found] == [None, "ValueError: no luck", "ValueError: no luck", None]
    assert [found[0].values, found[3].values] == [before[0], before[3]] and seen

    def broken(block):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("evoprune.evaluation.sweep.visiting", broken)
    assert {e.cause for e in worker.evaluate_batch(patterns)} == {"memory"}


def test_a_search_on_a_streamed_model_is_the_search_on_a_resident_one(tiny_config, tmp_path):
    fronts = {}
    for name, place in (("resident", None), ("streamed", "streamed")):
        settings = tiny_config(output=str(tmp_path / name))
        settings["model"] = {**settings["model"], "device_map": place}
        run = search(settings)
        fronts[name] = run.folder.front_csv.read_bytes()
    assert fronts["streamed"] == fronts["resident"]


def test_a_recovery_that_reaches_far_is_refused(streamed, monkeypatch):
    from evoprune.recover.bias import BiasCompensation

    monkeypatch.setattr(BiasCompensation, "local", False)
    with pytest.raises(ModelError, match=r"may change because of what another.*Leave `adapt`"):
        streamed(space="decoder/depth_width", adapt="bias_compensation")
