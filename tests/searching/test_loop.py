"""The loop: budgets, rungs, failures and replay."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evoprune.core.errors import ModelError
from evoprune.folder.journal import Journal
from evoprune.searching.algorithm import WORST
from evoprune.searching.algorithms import Nsga2, Nsga3, PymooStepper, Random, SmsEmoa
from evoprune.searching.archive import Archive
from evoprune.searching.budget import Rung
from evoprune.searching.evop import EvopCorrected
from evoprune.searching.evopress import OnePlusLambda
from evoprune.searching.exhaustive import Exhaustive
from evoprune.searching.greedy import Greedy
from evoprune.searching.loop import box
from evoprune.searching.surrogate import SurrogateNsga2
from evoprune.searching.values import promoted
from evoprune.testing.synthetic import BLOCKS, PARTS, FakeEvaluator, problem, run

ALL = [Nsga2(pop_size=8), Random(batch=8), Exhaustive(batch=8), Greedy()]
REPLAYED = [
    *ALL[:2],
    Nsga3(pop_size=8),
    SmsEmoa(pop_size=8),
    SurrogateNsga2(initial=10, batch=6, n_gen_inner=4, pop_size_inner=8),
    OnePlusLambda(initial=8, offspring=6),
    EvopCorrected(pop_size=8),
]
LADDER = (Rung(0, 0.5), Rung(-1))


def front(found):
    """Returns a front as a set of rows."""
    return {tuple(found.F[i].tolist()) for i in found.front}


@pytest.mark.parametrize("algorithm", ALL)
@pytest.mark.parametrize("n_eval", [1, 13, 24])
def test_n_eval_is_exact(tmp_path, algorithm, n_eval):
    found, evaluator = run(problem(3), algorithm, tmp_path, n_eval=n_eval)
    assert found.n_eval == len(found.patterns) == n_eval
    corners = 2  # dense and empty span the box; either may be no part of the search
    assert n_eval <= len(evaluator.asked) <= n_eval + corners


def test_n_gen_counts_generations(tmp_path):
    found, _ = run(problem(4), Nsga2(pop_size=6), tmp_path, n_gen=3)
    assert (found.n_gen, found.n_eval) == (3, 18)


def test_seconds_of_the_algorithm_and_of_workers_are_told_apart(tmp_path, monkeypatch):
    made, ask = FakeEvaluator._one, PymooStepper.ask
    monkeypatch.setattr(FakeEvaluator, "_one", lambda *a: replace(made(*a), seconds=2.0))
    monkeypatch.setattr(PymooStepper, "ask", lambda stepper: time.sleep(0.02) or ask(stepper))
    found, _ = run(problem(4), Nsga2(pop_size=6), tmp_path, n_gen=3)
    assert found.seconds == 2.0 * found.n_eval
    assert found.own_seconds >= 0.06


def test_a_generation_that_has_begun_is_finished_beyond_the_tokens(tmp_path):
    found, _ = run(problem(4), Random(batch=8), tmp_path, tokens=101)
    assert (found.n_eval, found.tokens) == (16, 160.0)


def test_growing_the_budget_goes_on_where_the_search_stopped(tmp_path):
    made = problem(4)
    run(made, Nsga2(pop_size=6), tmp_path, n_eval=15)
    grown, evaluator = run(made, Nsga2(pop_size=6), tmp_path, n_eval=40)
    (tmp_path / "calm").mkdir()
    calm, _ = run(made, Nsga2(pop_size=6), tmp_path / "calm", n_eval=40)
    assert [p.id for p in grown.patterns] == [p.id for p in calm.patterns]
    assert len(evaluator.asked) <= 25


@settings(max_examples=20)
@given(k=st.integers(0, 45), rungs=st.sampled_from([(Rung(-1),), LADDER]), data=st.data())
def test_a_killed_search_ends_like_a_calm_one(tmp_path_factory, k, rungs, data):
    algorithm, made = data.draw(st.sampled_from(REPLAYED)), problem(4)
    calm_folder, folder = (tmp_path_factory.mktemp(name) for name in ("calm", "killed"))
    calm, whole = run(made, algorithm, calm_folder, rungs=rungs, n_eval=40)
    killed = FakeEvaluator(made.space)
    killed.stop_after = min(k, len(whole.asked) - 1)
    with pytest.raises(RuntimeError, match="killed"):
        run(made, algorithm, folder, killed, rungs=rungs, n_eval=40)
    again, rest = run(made, algorithm, folder, rungs=rungs, n_eval=40)
    assert front(again) == front(calm)
    assert [p.id for p in again.patterns] == [p.id for p in calm.patterns]
    assert killed.asked + rest.asked == whole.asked
    assert len(set(whole.asked)) == len(whole.asked)


@pytest.mark.parametrize("algorithm", ALL)
@pytest.mark.parametrize("kind", ["fail", "nan"])
def test_a_failing_pattern_is_recorded_and_never_on_the_front(tmp_path, algorithm, kind):
    made = problem(3)
    reference, _ = run(made, algorithm, tmp_path, n_eval=20)
    broken = {reference.patterns[i].id for i in reference.front} - {made.space.dense.id}
    (tmp_path / "b").mkdir()
    evaluator = FakeEvaluator(made.space, **{kind: broken})
    found, _ = run(made, algorithm, tmp_path / "b", evaluator, n_eval=20)
    assert found.n_eval == 20
    assert not broken & {pattern.id for pattern in found.patterns}
    with Journal.open(tmp_path / "b" / "journal.jsonl", {}) as journal:
        records = {r["id"]: r for r in journal.records("evaluation")}
    failed = [records[id] for id in broken & records.keys()]
    assert failed
    assert all("error" in r or np.isnan(r["values"]["harm"]) for r in failed)


def test_what_fails_is_told_as_a_large_finite_value(tmp_path):
    made, told = problem(3), []

    class Spy(Random):
        def begin(self, problem, starts, seed):
            stepper = super().begin(problem, starts, seed)
            stepper.tell = lambda X, F, G: told.append((F, G))
            return stepper

    found, _ = run(made, Random(batch=8), tmp_path, n_eval=30)
    broken = [p.id for p in found.patterns[1::2] if p != made.space.dense]
    (tmp_path / "b").mkdir()
    evaluator = FakeEvaluator(made.space, fail=broken)
    run(made, Spy(batch=8), tmp_path / "b", evaluator, n_eval=30)
    F, G = (np.concatenate(rows) for rows in zip(*told, strict=True))
    assert np.isfinite(F).all()
    assert np.isfinite(G).all()
    assert ((F == WORST).all(axis=1) == (G[:, -1] == 1)).all()
    assert (F == WORST).any()


def test_a_floor_keeps_what_breaks_it_off_the_front(tmp_path):
    made = problem(3, harm="<=1.5")
    found, _ = run(made, Nsga2(pop_size=8), tmp_path, n_eval=40)
    assert made.floors
    assert not made.budgets
    assert 0 < len(found.patterns) < 40
    assert (found.F[:, 0] <= 1.5).all()


def test_only_what_reaches_the_top_rung_counts(tmp_path):
    made = problem(4)
    found, evaluator = run(made, Nsga2(pop_size=8), tmp_path, rungs=LADDER, n_eval=32)
    low = [pattern for pattern, rung in evaluator.asked if rung == 0]
    top = [pattern for pattern, rung in evaluator.asked if rung == -1]
    assert found.n_eval == 32
    assert len(found.patterns) == 16
    assert (found.F[:, 0] < 100).all()  # lower rungs shift the harm by 100
    assert {pattern.id for pattern in found.patterns} <= set(top)
    assert set(top) - {made.space.dense.id, made.space.patterns(made.space.upper[None])[0].id} <= {
        *low
    }


@given(st.integers(1, 30), st.floats(0.05, 1), st.integers(0, 2**32 - 1))
def test_promotion_takes_whole_ranks_of_the_feasible_first(count, keep, seed):
    rng = np.random.default_rng(seed)
    F = rng.integers(0, 6, (count, 2)).astype(float)
    G = rng.integers(0, 2, (count, 1)).astype(float)
    chosen = promoted(F, G, keep)
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert len(chosen) == int(np.ceil(round(keep * count, 9)))
    left = np.setdiff1d(np.arange(count), chosen)
    assert G[left].min(initial=1) >= G[chosen].max(initial=0) or len(left) == 0
    for i in left:
        better = (F[i] <= F[chosen]).all(axis=1) & (F[i] < F[chosen]).any(axis=1)
        assert not (better & (G[chosen, 0] == G[i, 0]) & (G[i, 0] == 0)).any()


def test_the_box_spans_dense_and_empty(tmp_path):
    made = problem(3)
    with Journal.open(tmp_path / "journal.jsonl", {}) as journal:
        found = box(made, Archive(journal, lambda: FakeEvaluator(made.space)), -1)
    assert (found.ideal < found.reference).all()
    assert found.ideal[0] == 0.0
    assert found.reference[1] == made.cost("params", np.zeros((1, made.space.n_var), int))[0]


def test_the_box_stands_when_removing_everything_fails(tmp_path):
    made = problem(3)
    empty = made.space.patterns(made.space.upper[None])[0]
    found, _ = run(
        made, Nsga2(pop_size=8), tmp_path, FakeEvaluator(made.space, [empty.id]), n_eval=9
    )
    assert np.isfinite(found.box.reference).all()
    assert (found.box.ideal < found.box.reference).all()


@pytest.mark.parametrize("kind", ["fail", "nan"])
def test_a_dense_model_that_cannot_be_scored_is_refused(tmp_path, kind):
    made = problem(3)
    evaluator = FakeEvaluator(made.space, **{kind: [made.space.dense.id]})
    with pytest.raises(ModelError, match=r"dense model cannot be scored on the search split: \S+"):
        run(made, Nsga2(pop_size=8), tmp_path, evaluator, n_eval=9)


def test_a_transient_failure_is_tried_again(tmp_path):
    made = problem(2, (BLOCKS, *PARTS))
    record = {"type": "evaluation", "id": made.space.dense.id, "split": "search", "rung": -1}
    record |= {"pattern": made.space.dense.to_json(), "values": {}, "seconds": 0.0, "tokens": 0.0}
    for failure, computed in (("transient", 1), ("deterministic", 0)):
        with Journal.open(tmp_path / f"{failure}.jsonl", {}) as journal:
            journal.append([record | {"error": "it broke", "failure": failure}])
            archive = Archive(journal, lambda: FakeEvaluator(made.space))
            archive.get([made.space.dense])
        assert (archive.computed, archive.known) == (computed, 1 - computed)


def test_draining_ends_the_search_after_what_is_journalled(tmp_path, monkeypatch):
    made = problem(3)
    monkeypatch.setattr(Archive, "draining", True)
    with pytest.raises(KeyboardInterrupt):
        run(made, Random(), tmp_path, n_eval=9)
    monkeypatch.setattr(Archive, "draining", False)
    with Journal.open(tmp_path / "journal.jsonl", {}) as journal:
        assert len(journal.records("evaluation")) == 2
