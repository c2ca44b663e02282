"""The front after the search: filtered on validation, with intervals on report."""

import json

import numpy as np
import pytest

import evoprune
from evoprune.config.schema import load_config
from evoprune.core.metrics import Table
from evoprune.core.pareto import nondominated, oriented
from evoprune.folder.journal import read_journal
from evoprune.objectives.quality import Nll
from evoprune.progress.console import Console
from evoprune.scoring import interval
from evoprune.session import open_session

MEASURED = ("kl", "worst_cluster_kl")


@pytest.fixture
def run(tiny_config):
    """Returns a finished search of a whole space."""
    search = {"algorithm": {"type": "exhaustive"}, "n_eval": 16}
    return evoprune.search(tiny_config(search=search, controls=["last_k"]), quiet=True)


def test_points_hold_values_intervals_and_costs(run):
    assert len(run.front) > 2
    for point in run.front:
        for name in MEASURED:
            low, high = (point.values[f"report_{name}_{end}"] for end in ("low", "high"))
            assert low <= point.values[f"report_{name}"] <= high
            assert {f"search_{name}", f"val_{name}"} <= set(point.values)
        assert point.values["params"] > 0


def test_the_dense_row_is_exact(run):
    dense = run.front.dense
    assert dense["sparsity"] == 0
    assert [dense[f"{split}_kl"] for split in ("search", "val", "report")] == [0, 0, 0]
    assert dense["report_kl_low"] == dense["report_kl_high"] == 0


def test_the_front_is_non_dominated_on_validation_and_in_order(run):
    F = oriented(run.front.array("val"), list(run.front.goals.values()))
    assert nondominated(F).all()
    keys = [(*row, point.id) for row, point in zip(F.tolist(), run.front, strict=True)]
    assert keys == sorted(keys)


def test_what_validation_dominates_is_left_out(tiny_config):
    session = open_session(load_config(tiny_config()), Console(stream=None))
    try:
        space = session.problem.space
        patterns = space.patterns([[i >> bit & 1 for bit in range(4)] for i in range(16)])
        points = session.scorer.front(patterns, "all")
        everything = session.scorer.points(patterns, "all")
    finally:
        session.close()
    goals = session.problem.goals
    rows = [[p.values.get(f"val_{n}", p.values.get(n)) for n in goals] for p in everything]
    best = nondominated(oriented(np.array(rows), list(goals.values())))
    expected = {p.id for p, kept in zip(everything, best, strict=True) if kept}
    assert {p.id for p in points} == expected != {p.id for p in everything}


def test_no_patterns_give_no_points(tiny_config):
    session = open_session(load_config(tiny_config()), Console(stream=None))
    try:
        assert session.scorer.front([], "none") == []
    finally:
        session.close()


def test_the_interval_is_that_of_the_examples_spread():
    rng = np.random.default_rng(0)
    nll = rng.normal(3, 1, 400)
    table = {"clean": Table({"n": np.ones(400), "nll": nll}, np.zeros(400, np.int64))}
    low, high = interval(Nll().value, table, table)
    assert low < nll.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * nll.std() / 20, rel=0.1)


@pytest.fixture
def useful(tiny_config, taught_llama):
    """Returns a finished search of a whole space of a model that knows something."""
    search = {"algorithm": {"type": "exhaustive"}, "n_eval": 16}
    sections = {"search": search, "model": {"name_or_path": str(taught_llama)}}
    return evoprune.search(tiny_config(**sections), quiet=True)


def test_points_say_how_much_of_the_gain_over_frequencies_they_keep(useful):
    front = useful.front
    for split in ("search", "val", "report"):
        assert front.dense[f"{split}_quality_kept"] == 1
        assert front.zero[f"{split}_quality_kept"] == 0
    for point in front:
        dense, zero = (ends["val_nll"] for ends in (front.dense, front.zero))
        share = (zero - point.values["val_nll"]) / (zero - dense)
        assert point.values["val_quality_kept"] == pytest.approx(share)
        assert point.values["report_quality_kept_low"] <= point.values["report_quality_kept"]
        assert point.rung in ("homogeneous", "heterogeneous", "dense-masked")


def test_what_is_no_better_than_frequencies_is_on_no_front(useful):
    front, records = useful.front, read_journal(useful.folder.journal)[1]
    searched = [r for r in records if r["type"] == "evaluation" and r["split"] == "search"]
    beyond = [
        r["id"]
        for r in searched
        if any(r["values"][name] >= front.zero[f"search_{name}"] for name in ("kl", "nll"))
    ]
    assert beyond, "this test needs a pattern that is worth nothing"
    assert not {point.id for point in front} & set(beyond)
    assert all(point.values["val_kl"] < front.zero["val_kl"] for point in front)
    assert all(point.values["val_quality_kept"] > 0 for point in front)
    assert f"{len(set(beyond))} patterns are no better" in useful.folder.log.read_text()


def test_the_box_of_hypervolume_ends_at_the_zero(useful):
    bounds = json.loads(useful.folder.manifest.read_text())["hypervolume"]
    assert bounds["reference"]["kl"] == useful.front.zero["search_kl"]
    assert bounds["ideal"]["kl"] == 0


def test_a_model_that_knows_nothing_keeps_no_quality_and_says_so(run):
    assert "val_quality_kept" not in run.front.dense
    assert "no better than knowing frequencies" in run.folder.log.read_text()
