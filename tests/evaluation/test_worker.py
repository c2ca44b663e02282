"""A worker's values depend on the pattern, the split and the rung, and on nothing else."""

import math
import time

import numpy as np
import pytest

from evoprune.config.schema import load_config
from evoprune.core.errors import EvopruneError, ModelError
from evoprune.core.metrics import Table
from evoprune.core.pattern import Pattern
from evoprune.core.protocols import Evaluation, Request
from evoprune.data.examples import Examples, Pass
from evoprune.evaluation.local import LocalEvaluator
from evoprune.evaluation.worker import DeviceLost, Worker
from evoprune.families import stages as stages_module
from evoprune.progress.console import Console
from evoprune.session import open_session
from evoprune.tasks.causal_lm import CausalLM

RUNGS = [{"samples": 3, "keep": 0.5}, {"samples": 5, "keep": 0.5}, {"samples": 12}]
SPLITS = ("search", "validation", "report")


def same(a: Table, b: Table) -> bool:
    """Returns whether two tables are equal to the last bit."""
    names = sorted(a.columns)
    assert names == sorted(b.columns)
    return all(a.columns[n].tobytes() == b.columns[n].tobytes() for n in names)


def some_patterns(worker, count=5):
    draws = np.random.default_rng(0).random((count, worker.space.n_var))
    return worker.space.patterns(draws < 0.4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_the_dense_pattern_is_the_reference_bit_for_bit(make_worker, tiny_llama, dtype):
    worker = make_worker(model={"name_or_path": str(tiny_llama), "dtype": dtype}, rungs=RUNGS)
    for split in SPLITS:
        evaluation = worker.evaluate(worker.space.dense, split, keep=True)
        assert evaluation.values["kl"] == 0
        assert same(evaluation.tables["clean"], worker.examples(split).dense["clean"])


def test_a_rung_is_the_first_rows_of_the_whole(make_worker):
    worker = make_worker(rungs=RUNGS)
    for pattern in some_patterns(worker, 2):
        whole = worker.evaluate(pattern, keep=True).tables["clean"]
        for rung, size in enumerate((3, 5, 12)):
            part = worker.evaluate(pattern, rung=rung, keep=True).tables["clean"]
            assert same(part, whole.take(np.arange(size)))


def test_values_do_not_depend_on_what_came_before(make_worker):
    worker = make_worker(space="decoder/depth_width", rungs=RUNGS)
    patterns = some_patterns(worker)
    first = {p.id: worker.evaluate(p).values for p in patterns}
    fresh = Worker(worker.spec)
    fresh.evaluate(patterns[0], "report")
    fresh.evaluate(patterns[1], rung=0)
    assert {p.id: fresh.evaluate(p).values for p in reversed(patterns)} == first


def test_tokens_are_weighed_by_the_flops_that_are_left(make_worker):
    worker = make_worker()
    dense = worker.evaluate(worker.space.dense)
    empty = worker.evaluate(worker.space.pattern(worker.space.upper))
    assert dense.tokens == worker.examples("search").work
    head = 2 * 300 * 32
    X = np.zeros((1, worker.space.n_var), np.int64)
    assert empty.tokens == pytest.approx(
        dense.tokens * head / worker.table.cost("flops", worker.space, X)[0]
    )


def test_micro_batches_end_at_every_rung_and_cover_all(monkeypatch):
    monkeypatch.setattr(stages_module, "BATCH_TOKENS", 4 * 8)
    whole = stages_module.batches(11, 8, (3, 5, 11))
    assert [(rows.start, rows.stop) for rows in whole] == [(0, 3), (3, 5), (5, 9), (9, 11)]
    assert stages_module.batches(5, 8, (3, 5, 11)) == whole[:2]


def test_the_order_of_examples_only_reorders_rows(make_worker, tiny_llama):
    worker = make_worker(model={"name_or_path": str(tiny_llama), "dtype": "float64"})
    examples = worker.examples("search")
    order = np.random.default_rng(1).permutation(len(examples))
    clean = examples.clean
    arrays = {name: value[order] for name, value in clean.arrays.items()}
    shuffled = Examples({"clean": Pass(arrays, clean.groups[order], clean.sizes[order])})
    whole = worker.runner.tables([{}], examples)[0]["clean"]
    found = worker.runner.tables([{}], shuffled)[0]["clean"]
    for name, column in found.columns.items():
        np.testing.assert_allclose(column, whole.columns[name][order], rtol=1e-9, atol=1e-12)


def test_examples_survive_being_written(tmp_path):
    rng = np.random.default_rng(0)
    table = Table({"n": rng.random(4), "a/nll": rng.random(4)}, np.array([0, 1, 1, 2]))
    arrays = {"tokens": rng.integers(0, 9, (4, 6)), "top": rng.random((4, 5)).astype(np.float32)}
    passes = {"clean": Pass(arrays, table.groups, np.full(4, 6))}
    Examples(passes, {"clean": table}).save(tmp_path / "e")
    found = Examples.load(tmp_path / "e")
    assert list(found.clean.arrays) == ["tokens", "top"]
    assert found.clean.arrays["top"].dtype == np.float32 and found.work == 24
    np.testing.assert_array_equal(found.clean.arrays["tokens"], arrays["tokens"])
    assert same(found.dense["clean"], table)


@pytest.mark.parametrize(
    ("raised", "failure"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "transient"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "transient"),
        (MemoryError(), "transient"),
        (RuntimeError("shapes cannot be multiplied"), "deterministic"),
        (KeyError("layer"), "deterministic"),
        (FloatingPointError("underflow"), "deterministic"),
    ],
)
def test_an_error_becomes_an_evaluation(make_worker, monkeypatch, raised, failure):
    def fails(*args, **kwargs):
        raise raised

    worker = make_worker()
    monkeypatch.setattr(CausalLM, "measure", fails)
    evaluation = worker.evaluate(worker.space.dense, keep=True)
    assert evaluation.failure == failure
    assert evaluation.cause == ("memory" if failure == "transient" else None)
    assert type(raised).__name__ in evaluation.error
    assert (evaluation.values, evaluation.tables) == ({}, {})


def test_a_lost_accelerator_is_no_pattern_s_fault(tiny_config, monkeypatch):
    def lost(*args, **kwargs):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    session = open_session(load_config(tiny_config()), Console(stream=None))
    session.close()
    local = LocalEvaluator(session.spec)
    monkeypatch.setattr(CausalLM, "measure", lost)
    with pytest.raises(DeviceLost):
        local.worker.evaluate(session.problem.space.dense)
    with pytest.raises(EvopruneError, match=r"accelerator failed.*illegal.*same command again"):
        list(local.evaluate(Request([session.problem.space.dense])))


def test_a_batch_that_does_not_fit_is_evaluated_one_by_one(make_worker, monkeypatch):
    worker = make_worker()
    patterns = worker.space.patterns([[0, 0, 0, 0], [0, 0, 0, 1], [1, 0, 0, 1]])
    expected = [worker.evaluate(pattern).values for pattern in patterns]
    tables = worker.runner.tables

    def small(options, *args):
        if len(options) > 1:
            return [RuntimeError("CUDA out of memory.") for _ in options]
        return tables(options, *args)

    monkeypatch.setattr(worker.runner, "tables", small)
    assert [e.values for e in worker.evaluate_batch(patterns)] == expected


def test_seconds_are_those_of_the_model_of_the_metrics_and_the_rest(make_worker, monkeypatch):
    measure = CausalLM.measure

    def slow(self, *args):
        time.sleep(0.05)
        return measure(self, *args)

    monkeypatch.setattr(CausalLM, "measure", slow)
    one = make_worker().evaluate(Pattern((0, 0, 0, 0)))
    assert one.metric_seconds >= 0.05 and one.model_seconds > 0
    assert one.model_seconds + one.metric_seconds <= one.seconds
    again = Evaluation.from_json(one.to_json())
    assert again.metric_seconds == pytest.approx(one.metric_seconds, abs=1e-6)


def test_a_network_of_nan_fails_even_where_only_accuracy_is_measured(make_worker):
    worker = make_worker(objectives=["token_accuracy", "sparsity"], columns=[])
    worker.model.model.norm.weight.data.mul_(math.nan)
    evaluation = worker.evaluate(worker.space.dense)
    assert (evaluation.failure, evaluation.values) == ("deterministic", {})
    assert "nan" in evaluation.error


def test_perplexity_may_be_infinite(make_worker, monkeypatch):
    worker = make_worker(columns=["perplexity"])
    measure = CausalLM.measure

    def large(self, *args):
        columns = measure(self, *args)
        return columns | {"nll": columns["n"] * 1e4}

    monkeypatch.setattr(CausalLM, "measure", large)
    evaluation = worker.evaluate(worker.space.dense)
    assert evaluation.error is None
    assert evaluation.values["perplexity"] == math.inf


def test_a_dense_model_that_is_not_finite_is_refused_before_the_search(make_worker, monkeypatch):
    measure = CausalLM.measure

    def broken(self, *args):
        return measure(self, *args) | {"nll": np.full(len(args[1]["tokens"]), math.nan)}

    monkeypatch.setattr(CausalLM, "measure", broken)
    with pytest.raises(ModelError, match="nll is not finite on the search split"):
        make_worker()
