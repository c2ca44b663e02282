"""What patterns share at their beginning is run once, and nobody can tell from the values."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evoprune.config.schema import load_config
from evoprune.evaluation.prefix import Prefixes, alike, in_prefix_order, path_of, together
from evoprune.evaluation.worker import Worker
from evoprune.progress.console import Console
from evoprune.session import open_session
from evoprune.testing import tiny_decoder

CHILD = Path(__file__).with_name("memory_child.py")


class Sums:
    """Stages whose state says what was run: block i appends what it is told to do."""

    inputs = ("tokens", "mask")

    def __init__(self, n_blocks: int) -> None:
        self.n_blocks, self.runs = n_blocks, 0

    def begin(self, batch):
        return batch["tokens"].double()

    def block(self, index, state, dropped):
        if f"{index}" in dropped:
            return state
        self.runs += 1
        return state * 1.5 + index

    def features(self, state):
        return state


def expected(path, tokens):
    state = tokens.double()
    for index, key in enumerate(path):
        state = state if key == "drop" else state * 1.5 + index
    return state


def gone(path):
    return {str(i) for i, key in enumerate(path) if key == "drop"}


masks = st.lists(st.lists(st.sampled_from([None, "drop"]), min_size=5, max_size=5), min_size=1)


@settings(deadline=None, max_examples=60)
@given(
    calls=st.lists(masks, min_size=1, max_size=4),
    bound=st.sampled_from([0, 40, 100, 10**6]),
    sort=st.booleans(),
)
def test_features_are_those_of_a_fresh_run_whatever_was_run_before(calls, bound, sort):
    texts = [torch.arange(4) + 7 * i for i in range(3)]
    stages = Sums(5)
    prefixes = Prefixes(stages, bound)
    for paths in calls:
        for tokens in texts:
            walk = prefixes.walk({"tokens": tokens}, len(texts))
            paths = [tuple(path) for path in paths]
            order = in_prefix_order(paths) if sort else range(len(paths))
            for i, shared in alike(paths, order):
                found = walk.features(paths[i], gone(paths[i]), shared)
                assert torch.equal(found, expected(paths[i], tokens))
            assert prefixes.bytes <= bound
    assert stages.runs == prefixes.executed <= prefixes.asked


def test_a_state_never_answers_for_another_mask():
    stages, tokens = Sums(2), torch.arange(3)
    prefixes, dense = Prefixes(stages, 10**6), (None, None)
    for mask in (torch.ones(3), torch.zeros(3)):
        prefixes.walk({"tokens": tokens, "mask": mask}, 2).features(dense, set(), 0)
    assert stages.runs == 4
    # What the network does not read makes no difference.
    known = {"tokens": tokens, "mask": torch.ones(3), "labels": torch.arange(3)}
    prefixes.walk(known, 2).features(dense, set(), 0)
    assert stages.runs == 4


def test_in_prefix_order_every_beginning_is_run_once():
    rng = np.random.default_rng(0)
    paths = [tuple(None if bit else "drop" for bit in row) for row in rng.random((40, 6)) < 0.5]
    beginnings = {path[: i + 1] for path in paths for i in range(6) if path[i] is None}
    stages = Sums(6)
    walk = Prefixes(stages, 0).walk({"tokens": torch.arange(3)}, 1)
    for i, shared in alike(paths, in_prefix_order(paths)):
        walk.features(paths[i], gone(paths[i]), shared)
    assert stages.runs == len(beginnings)


def test_states_are_kept_for_the_next_call_and_the_deepest_go_first():
    stages = Sums(4)
    size = 3 * 8
    prefixes = Prefixes(stages, 5 * size)  # the embedding and four blocks of one pattern
    tokens, dense, other = torch.arange(3), (None,) * 4, ("drop", None, None, None)
    prefixes.walk({"tokens": tokens}, 1).features(dense, set(), 0)
    prefixes.walk({"tokens": tokens}, 1).features(dense, set(), 0)
    assert stages.runs == 4
    prefixes.walk({"tokens": tokens}, 1).features(other, {"0"}, 0)
    assert stages.runs == 7 and prefixes.bytes <= 5 * size
    prefixes.walk({"tokens": tokens}, 1).features(dense, set(), 0)
    assert stages.runs == 9  # two blocks of it are left, the rest had to make room
    prefixes.walk({"tokens": tokens}, 1).features((None, None, None, "drop"), {"3"}, 0)
    assert stages.runs == 9  # of two as deep the one that was used last stayed


def test_a_state_never_answers_for_another_text():
    stages = Sums(3)
    prefixes = Prefixes(stages, 10**6)
    dense = (None,) * 3
    for tokens in (torch.tensor([1, 2, 3, 4]), torch.tensor([[1, 2], [3, 4]]), torch.arange(4)):
        found = prefixes.walk({"tokens": tokens}, 1).features(dense, set(), 0)
        assert torch.equal(found, expected(dense, tokens)) and found.shape == tokens.shape


def test_without_block_of_only_equal_patterns_share(make_worker):
    worker = make_worker()
    space, stages = worker.space, worker.runner.stages
    first, second = (space.options(p) for p in space.patterns([[0, 0, 0, 1], [0, 0, 1, 0]]))
    assert path_of(stages, first)[:2] == path_of(stages, second)[:2] == (None, None)
    assert path_of(stages, first)[3] is not None
    apart = path_of(stages, first, apart=True), path_of(stages, second, apart=True)
    assert apart[0][0] != apart[1][0] and apart[0][1:] == apart[1][1:] == (None,) * 3


@pytest.mark.parametrize("space", ["decoder/depth", "decoder/subblocks", "decoder/depth_width"])
@pytest.mark.parametrize("adapt", [None, "bias_compensation"])
def test_values_are_those_without_sharing_to_the_last_bit(make_worker, space, adapt):
    worker = make_worker(space=space, adapt=adapt)
    X = np.random.default_rng(1).integers(0, worker.space.upper + 1, (14, worker.space.n_var))
    patterns = worker.space.patterns(worker.space.canonical(X))
    alone = Worker(worker.spec)
    alone.runner.prefixes.bound = 0
    single = [alone.evaluate(pattern).values for pattern in patterns]
    assert [e.values for e in worker.evaluate_batch(patterns)] == single
    assert [worker.evaluate(pattern).values for pattern in reversed(patterns)] == single[::-1]
    shared, fresh = worker.runner.prefixes, alone.runner.prefixes
    assert shared.executed < fresh.executed == fresh.asked


def test_a_recovery_that_reaches_far_shares_nothing(make_worker, monkeypatch):
    from evoprune.recover.bias import BiasCompensation

    monkeypatch.setattr(BiasCompensation, "local", False)
    worker = make_worker(space="decoder/depth_width", adapt="bias_compensation")
    X = np.zeros((2, worker.space.n_var), dtype=np.int64)
    X[0, -1], X[1, -1] = 1, 2
    for pattern in worker.space.patterns(X):
        worker.evaluate(pattern)
    assert worker.runner.prefixes.executed == worker.runner.prefixes.asked


def test_one_that_fails_half_way_takes_no_other_with_it(make_worker, monkeypatch):
    worker = make_worker()
    patterns = worker.space.patterns([[0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 1]])
    before = [Worker(worker.spec).evaluate(p).values for p in patterns]
    stages = worker.runner.stages
    block = stages.block

    def failing(index, state, dropped):
        if dropped == {"layers.1"} and index == 2:
            raise ValueError("no luck")
        return block(index, state, dropped)

    monkeypatch.setattr(stages, "block", failing)
    found = worker.evaluate_batch(patterns)
    assert [e.error for e in found] == [None, "ValueError: no luck", None]
    assert [found[0].values, found[2].values] == [before[0], before[2]]


def test_patterns_that_begin_alike_stand_together(make_worker):
    space = make_worker().space
    patterns = space.patterns([[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [1, 0, 0, 1]])
    order = together(space, patterns)
    firsts = [patterns[i].choices[0] for i in order]
    assert sorted(order) == [0, 1, 2, 3] and firsts in ([0, 0, 1, 1], [1, 1, 0, 0])


def test_the_bound_is_the_configurations(make_worker):
    worker = make_worker(workers={"backend": "local", "boundary_mb": 3})
    assert worker.runner.prefixes.bound == 3 << 20 and worker.runner.batch > 1


def test_with_a_bound_of_nothing_candidates_share_nothing(make_worker):
    worker = make_worker(workers={"backend": "local", "boundary_mb": 0})
    assert worker.runner.batch == 1
    for _ in range(2):
        worker.evaluate(worker.space.dense)
    assert worker.runner.prefixes.executed == worker.runner.prefixes.asked > 0


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads Linux' /proc")
def test_memory_is_bounded_however_many_candidates_share_a_call(tiny_config, tmp_path):
    words = np.random.default_rng(0).choice(list("abcdefgh"), (60, 1500))
    texts = tmp_path / "long.jsonl"
    texts.write_text("".join(json.dumps({"text": "".join(row)}) + "\n" for row in words))
    config = tiny_config(
        model={"name_or_path": str(tiny_decoder(tmp_path / "wide", layers=6, hidden=64))},
        data={"type": "jsonl", "files": [str(texts)], "chunk_tokens": 128},
        calibration={"samples": 64, "clusters": 2},
        validation={"samples": 2},
        report={"samples": 2},
    )
    session = open_session(load_config(config), Console(stream=None))
    session.close()
    tokens = Worker(session.spec).examples("search").clean.arrays["tokens"].size
    assert tokens == 64 * 128
    state, logits = 64 * 4 * 2048, 4 << 19  # bytes, of one micro-batch
    grown, kept = {}, {}
    for boundary_mb in (4, 1000):
        spec = asdict(replace(session.spec, boundary_mb=boundary_mb))
        child = [sys.executable, str(CHILD), json.dumps(spec)]
        done = subprocess.run(child, capture_output=True, text=True, check=True)
        told = json.loads(done.stdout.splitlines()[-1])
        grown[boundary_mb], kept[boundary_mb] = told["grown"], told["kept"]
    everything = 2**6 * 64 * 4 * tokens  # a state for every beginning that is run
    assert kept[4] <= 4 << 20 and kept[1000] >= 0.9 * everything
    slack = 32 << 20  # what the allocator holds
    bound = (4 << 20) + 7 * state + 4 * logits + slack
    assert grown[4] <= bound < 0.8 * everything < grown[1000]
