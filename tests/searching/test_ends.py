"""When a search ends, and when it lists the space instead."""

import time

import pytest

from evoprune.config.sections import SearchConfig
from evoprune.core.registry import ALGORITHMS
from evoprune.folder.journal import Journal
from evoprune.searching.algorithms import Nsga2, Random
from evoprune.searching.budget import Budget
from evoprune.searching.exhaustive import Exhaustive, instead_of
from evoprune.searching.greedy import Greedy
from evoprune.searching.surrogate import SurrogateNsga2
from evoprune.testing.synthetic import BLOCKS, PARTS, FakeEvaluator, problem, run


@pytest.fixture
def clock(monkeypatch):
    """A clock that an evaluation moves on by a second."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    whole = FakeEvaluator.evaluate

    def slowly(self, request):
        for evaluation in whole(self, request):
            now[0] += 1.0
            yield evaluation

    monkeypatch.setattr(FakeEvaluator, "evaluate", slowly)
    return now


def events(path):
    with Journal.open(path / "journal.jsonl", {}) as journal:
        return [e for e in journal.records("event") if e["event"] == "out_of_time"]


def test_time_ends_a_search_after_the_generation_and_replay_ends_there_too(tmp_path, clock):
    made, algorithm = problem(5, PARTS), Nsga2(pop_size=8)
    found, _ = run(made, algorithm, tmp_path, seconds=20.0)
    assert (found.n_gen, found.n_eval) == (3, 24)
    assert [(e["seconds"], e["n_gen"]) for e in events(tmp_path)] == [(20.0, 3)]
    again, evaluator = run(made, algorithm, tmp_path, seconds=20.0)
    assert not evaluator.asked
    assert [p.id for p in again.patterns] == [p.id for p in found.patterns]
    assert len(events(tmp_path)) == 1


def test_more_time_goes_on_and_less_ends_where_it_ended(tmp_path, clock):
    made, algorithm = problem(5, PARTS), Nsga2(pop_size=8)
    run(made, algorithm, tmp_path, seconds=20.0)
    less, _ = run(made, algorithm, tmp_path, seconds=5.0)
    assert less.n_gen == 3
    more, _ = run(made, algorithm, tmp_path, seconds=30.0)
    assert more.n_gen > 3
    assert [e["n_gen"] for e in events(tmp_path)] == [3, more.n_gen]


def test_a_search_killed_before_its_time_is_up_goes_on(tmp_path, clock):
    made, algorithm = problem(5, PARTS), Nsga2(pop_size=8)
    killed = FakeEvaluator(made.space)
    killed.stop_after = 11
    with pytest.raises(RuntimeError, match="killed"):
        run(made, algorithm, tmp_path, killed, seconds=20.0)
    found, evaluator = run(made, algorithm, tmp_path, seconds=20.0)
    assert found.n_eval > 11
    assert not {id for id, _ in killed.asked} & {id for id, _ in evaluator.asked}


def test_patience_counts_generations_without_a_larger_hypervolume(tmp_path):
    made = problem(4, (BLOCKS,))
    found, _ = run(made, Random(batch=2), tmp_path, patience=3)
    assert found.n_eval < made.space.size or found.idle == 3
    (tmp_path / "one").mkdir()
    one, _ = run(made, Random(batch=2), tmp_path / "one", n_gen=found.n_gen - 3)
    assert one.hypervolume == pytest.approx(found.hypervolume, abs=1e-4)


@pytest.mark.parametrize("size", ["n_eval", "n_gen", "tokens", "seconds", "patience"])
def test_any_bound_is_an_end(size):
    assert getattr(SearchConfig.model_validate({size: 5}), size) == 5
    with pytest.raises(ValueError, match=size):
        SearchConfig.model_validate({size: 0})


def test_a_space_within_the_budget_is_listed(tmp_path):
    made = problem(3, (BLOCKS, *PARTS))
    whole, _ = run(made, Exhaustive(), tmp_path)
    for algorithm in (Nsga2(), SurrogateNsga2()):
        count = whole.n_eval
        assert instead_of(algorithm, made, Budget(n_eval=count)) == Exhaustive()
        assert instead_of(algorithm, made, Budget(n_eval=count - 1)) is algorithm
    assert whole.n_eval < made.space.size  # canonical patterns are counted, not arrays


@pytest.mark.parametrize("budget", [{}, {"n_gen": 9}, {"tokens": 1e9}, {"seconds": 9.0}])
def test_a_search_with_another_end_is_not_replaced(budget):
    made, algorithm = problem(3, (BLOCKS,)), Nsga2()
    n_eval = {} if not budget else {"n_eval": 99}
    assert instead_of(algorithm, made, Budget(**n_eval, **budget)) is algorithm


def test_rungs_and_walks_and_large_spaces_are_not_replaced():
    small, large = problem(3, (BLOCKS,)), problem(40, (BLOCKS,))
    budget = Budget(n_eval=10**9)
    assert instead_of(Nsga2(), small, budget, rungs=2).__class__ is Nsga2
    assert instead_of(Greedy(), small, budget).__class__ is Greedy
    assert instead_of(Nsga2(), large, budget).__class__ is Nsga2


def test_what_lists_the_space_instead_says_so():
    listing = {n for n in ALGORITHMS.names() if getattr(ALGORITHMS.load(n), "enumerates", False)}
    assert listing == {"nsga2", "nsga3", "smsemoa", "moevoprune", "surrogate_nsga2"}
