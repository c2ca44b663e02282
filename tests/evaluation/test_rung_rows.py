"""Rows that a lower rung measured are not measured again, and rungs that score few positions."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import evoprune
from evoprune.config.schema import load_config
from evoprune.core.errors import ConfigError
from evoprune.core.metrics import Table
from evoprune.core.protocols import Request
from evoprune.data.examples import Examples, Pass, thin_file
from evoprune.evaluation.local import LocalEvaluator
from evoprune.evaluation.worker import Worker
from evoprune.families import stages as stages_module
from evoprune.folder.journal import read_journal
from evoprune.progress.console import Console
from evoprune.session import open_session, rungs_of, worker_of
from evoprune.tasks.causal_lm import CausalLM

RUNGS = [{"samples": 3, "keep": 0.5}, {"samples": 5, "keep": 0.5}, {"samples": 12}]
THIN = [
    {"samples": 3, "keep": 0.5, "positions_per_example": 4},
    {"samples": 5, "keep": 0.5, "positions_per_example": 4},
    {"samples": 12},
]


def bits(table: Table) -> dict[str, bytes]:
    return {name: column.tobytes() for name, column in table.columns.items()}


def some_patterns(worker: Worker, count: int = 5) -> list:
    draws = np.random.default_rng(0).random((count, worker.space.n_var))
    return worker.space.patterns(worker.space.canonical((draws < 0.4).astype(np.int64)))


def evaluations(folder: Path) -> list[str]:
    """Returns a run's evaluation records without their times, in one order."""
    found = [r for r in read_journal(folder / "journal.jsonl")[1] if r["type"] == "evaluation"]
    return sorted(
        json.dumps({k: v for k, v in r.items() if not k.endswith("seconds")}) for r in found
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_a_climb_gives_the_bits_of_one_measurement(make_worker, tiny_llama, dtype, monkeypatch):
    monkeypatch.setattr(stages_module, "BATCH_TOKENS", 2 * 32)  # several batches a rung
    worker = make_worker(
        model={"name_or_path": str(tiny_llama), "dtype": dtype},
        space="decoder/depth_width",
        rungs=RUNGS,
    )
    patterns, fresh = some_patterns(worker), Worker(worker.spec)
    begun: dict = {}
    for rung in (0, 1, -1):
        found = worker.evaluate_batch(patterns, "search", rung, True, begun)
        whole = fresh.evaluate_batch(patterns, "search", rung, True)
        for one, other in zip(found, whole, strict=True):
            assert bits(one.tables["clean"]) == bits(other.tables["clean"])
            assert (one.values, one.tokens) == (other.values, other.tokens)
        begun = {one.pattern.id: one.tables for one in found}


def test_only_the_rows_after_them_are_run(make_worker, monkeypatch):
    worker = make_worker(rungs=RUNGS)
    patterns = some_patterns(worker, 3)
    low = worker.evaluate_batch(patterns, "search", 0, True)
    tables, asked = worker.runner.tables, []

    def listened(options, examples, boundaries):
        asked.append((len(options), len(examples), tuple(boundaries["clean"])))
        return tables(options, examples, boundaries)

    monkeypatch.setattr(worker.runner, "tables", listened)
    # Of the middle one nothing is known, as after a restart.
    begun = {one.pattern.id: one.tables for one in (low[0], low[2])}
    found = worker.evaluate_batch(patterns, "search", 1, True, begun)
    assert sorted(asked) == [(1, 5, (3, 5, 12)), (2, 2, (2, 9))]
    assert [one.pattern for one in found] == patterns
    assert {len(one.tables["clean"]) for one in found} == {5}


def test_a_batch_that_does_not_fit_keeps_what_was_begun(make_worker, monkeypatch):
    worker = make_worker(rungs=RUNGS)
    patterns = some_patterns(worker, 3)
    low = worker.evaluate_batch(patterns, "search", 0, True)
    expected = [one.values for one in worker.evaluate_batch(patterns, "search", 1)]
    tables = worker.runner.tables

    def small(options, examples, *args):
        if len(options) > 1:
            return [RuntimeError("CUDA out of memory.") for _ in options]
        assert len(examples) == 2
        return tables(options, examples, *args)

    monkeypatch.setattr(worker.runner, "tables", small)
    begun = {one.pattern.id: one.tables for one in low}
    found = worker.evaluate_batch(patterns, "search", 1, False, begun)
    assert [one.values for one in found] == expected
    assert all(one.tables == {} for one in found)


def test_a_request_hands_on_what_was_begun(tiny_config):
    session = open_session(load_config(tiny_config(rungs=RUNGS)), Console(stream=None))
    session.close()
    local, dense = LocalEvaluator(session.spec), session.problem.space.dense
    (low,) = local.evaluate(Request([dense], rung=0, tables=True))
    broken = {name: -column for name, column in low.tables["clean"].columns.items()}
    begun = {dense.id: {"clean": Table(broken, low.tables["clean"].groups)}}
    (top,) = local.evaluate(Request([dense], tables=True, begun=begun))
    assert (top.tables["clean"].columns["n"] < 0).tolist() == [True] * 3 + [False] * 9


def test_a_search_that_lost_its_tables_ends_in_the_same_journal(tiny_config, tmp_path):
    settings = tiny_config(space="decoder/depth_width", rungs=RUNGS)
    calm = evoprune.search(settings, quiet=True).folder.path
    again = tmp_path / "again"
    shutil.copytree(calm, again, ignore=shutil.ignore_patterns("front.*"))
    lines = (again / "journal.jsonl").read_bytes().splitlines(keepends=True)
    seen, kept = [], []
    for line in lines:
        record = json.loads(line)
        seen += [record["rung"]] if record["type"] == "evaluation" else []
        if seen.count(1) > 2:  # in the middle of the second rung
            break
        kept.append(line)
    assert seen.count(0) > 3
    (again / "journal.jsonl").write_bytes(b"".join(kept))
    evoprune.search(settings | {"output": str(again)}, quiet=True)
    assert evaluations(again) == evaluations(calm)
    for name in ("front.csv", "summary.json"):
        assert (again / name).read_bytes() == (calm / name).read_bytes()


def test_only_networks_in_stages_with_the_same_positions_grow(tiny_config):
    config = load_config(tiny_config(rungs=RUNGS))
    assert [rung.grows for rung in rungs_of(config, True)] == [False, True, True]
    assert [rung.grows for rung in rungs_of(config, False)] == [False] * 3
    thin = load_config(tiny_config(rungs=THIN))
    assert [rung.grows for rung in rungs_of(thin, True)] == [False, True, False]
    assert [rung.index for rung in rungs_of(thin, True)] == [0, 1, -1]
    assert rungs_of(thin, True)[0].label == "3 samples at 4 positions each"


def test_few_positions_have_the_scores_of_those_positions(make_worker):
    worker = make_worker(rungs=THIN)
    pattern = some_patterns(worker, 1)[0]
    thin = Examples.load(worker.folder / "calibration" / thin_file(4)).clean
    scored = thin.arrays["scored"]
    assert (scored.sum(axis=1) <= 4).all() and scored.sum(axis=1).max() == 4
    found = worker.evaluate(pattern, rung=0, keep=True).tables["clean"]
    assert found.columns["n"].tolist() == scored[:3].sum(axis=1).tolist()
    # One position at a time, of the whole examples.
    total = {name: np.zeros(3) for name in found.columns}
    for position in range(scored.shape[1]):
        only = np.zeros_like(scored)
        only[:, position] = scored[:, position]
        one = Pass({"scored": only}, thin.groups, thin.sizes)
        at = worker.examples("search").scored_at(Examples({"clean": one})).first(3)
        table = worker.runner.tables([worker.space.options(pattern)], at)[0]["clean"]
        total = {name: total[name] + table.columns[name] for name in total}
    for name, column in found.columns.items():
        np.testing.assert_allclose(column, total[name], rtol=1e-4, atol=1e-6)


def test_the_dense_reference_of_few_positions_comes_with_them(make_worker):
    worker = make_worker(rungs=THIN, columns=["nll"])
    dense = [worker.evaluate(worker.space.dense, rung=rung, keep=True) for rung in (0, 1, -1)]
    for one, rung in zip(dense, (0, 1, -1), strict=True):
        known = worker._slice("search", rung).examples.dense["clean"]
        assert bits(known) == bits(one.tables["clean"])
        assert one.values["kl"] == one.values["worst_cluster_kl"] == 0
    assert dense[1].tables["clean"].columns["n"].max() == 4
    assert dense[2].tables["clean"].columns["n"].max() > 4


def test_the_head_counts_for_the_positions_that_it_is_run_on(make_worker):
    worker = make_worker(rungs=THIN)
    dense = worker.space.dense
    empty = worker.space.pattern(worker.space.upper)
    work = worker.examples("search").first(3).work
    whole = worker.examples("search").first(3).dense["clean"].columns["n"].sum()
    share = worker._slice("search", 0).examples.dense["clean"].columns["n"].sum() / whole
    X = np.zeros((1, worker.space.n_var), np.int64)
    flops, head = worker.table.cost("flops", worker.space, X)[0], 2 * 300 * 32
    assert worker.tokens(dense, rung=0) == pytest.approx(work * (1 - head / flops * (1 - share)))
    assert worker.tokens(empty, rung=0) == pytest.approx(work * head / flops * share)
    assert worker.tokens(dense) == worker.examples("search").work


def test_few_positions_at_the_top_rung(tiny_config):
    settings = tiny_config(rungs=[{"samples": 12, "positions_per_example": 4}])
    run = evoprune.search(settings, quiet=True)
    assert all(np.isfinite(point.values["val_kl"]) for point in run.front)
    worker = worker_of(run.config, run.folder)
    assert worker.evaluate(worker.space.dense, keep=True).tables["clean"].columns["n"].max() == 4
    assert worker.tokens(worker.space.dense) < worker.examples("search").work


def test_a_task_without_positions_is_refused(tmp_path):
    rungs = ["rungs=[{samples: 8, keep: 0.5, positions_per_example: 2}, {samples: 16}]"]
    changes = [*rungs, "calibration.samples=16", f"output={tmp_path / 'run'}"]
    config = load_config("experiments/quickstart_vision/config.yaml", changes)
    with pytest.raises(ConfigError, match=r"'classification' scores examples as a whole.*samples"):
        open_session(config, Console(stream=None))
    assert not (tmp_path / "run").exists()


def test_plans_count_rungs(tiny_config):
    from evoprune.planning.plan import plan

    rows = {
        name: dict(plan(tiny_config(rungs=rungs)))
        for name, rungs in (("none", []), ("some", RUNGS), ("thin", THIN))
    }
    tokens = {
        name: float(row["dense-equivalent tokens"].split()[0].replace(",", ""))
        for name, row in rows.items()
    }
    # 3 rows for all, 2 more for a half, 7 more for a quarter, of examples of nearly one length.
    expected = (3 + 0.5 * 2 + 0.25 * 7) / 12
    assert tokens["some"] / tokens["none"] == pytest.approx(expected, rel=0.05)
    assert "rungs" not in rows["none"]
    assert rows["some"]["rungs"].startswith("3 samples (") and "%" in rows["some"]["rungs"]
    assert tokens["some"] < tokens["thin"] < tokens["none"]


@pytest.mark.parametrize("algorithm", ["surrogate_nsga2", "nsga2"])
@pytest.mark.parametrize("rungs", [[], RUNGS])
def test_plans_say_that_more_may_be_called_back(tiny_config, algorithm, rungs):
    from evoprune.planning.plan import plan

    rows = plan(tiny_config(rungs=rungs, search={"algorithm": algorithm, "n_eval": 20}))
    said = any("called back" in text for _, text in rows)
    assert said == (algorithm == "surrogate_nsga2" and bool(rungs))


def test_positions_are_the_same_for_every_run_of_a_seed(make_worker, tmp_path):
    arrays = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        worker = make_worker(
            rungs=THIN,
            output=str(tmp_path / name),
            calibration={"samples": 12, "clusters": 3, "pool": 40, "seed": seed},
        )
        found = Examples.load(worker.folder / "calibration" / thin_file(4))
        arrays.append(found.clean.arrays["scored"])
    assert (arrays[0] == arrays[1]).all() and (arrays[0] != arrays[2]).any()


def test_spaced_needs_only_tokens_and_lengths():
    arrays = {"tokens": np.zeros((2, 9)), "lengths": np.array([9, 3])}
    found = CausalLM().spaced(arrays, 4, np.array([0.0, 0.9]))["scored"]
    assert found.astype(int).tolist() == [[1, 0, 1, 0, 1, 0, 1, 0], [1, 1, 0, 0, 0, 0, 0, 0]]


def test_the_rest_of_several_passes_begins_where_each_ended():
    def made(count: int) -> Pass:
        rows = np.arange(count)
        return Pass({"x": rows * 10}, rows, np.ones(count, np.int64))

    examples = Examples({"clean": made(6), "near": made(4)})
    rest = examples.after({"clean": 4, "near": 3})
    assert {name: one.arrays["x"].tolist() for name, one in rest.passes.items()} == {
        "clean": [40, 50],
        "near": [30],
    }
    assert np.shares_memory(rest.clean.arrays["x"], examples.clean.arrays["x"])
