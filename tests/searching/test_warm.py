"""Warm starts that evaluate: what they find, what they cost, and that nothing is done twice."""

import math
from contextlib import contextmanager

import numpy as np
import pytest

from evoprune.core.errors import ConfigError
from evoprune.folder.journal import Journal
from evoprune.searching.algorithms import Nsga2
from evoprune.searching.archive import Archive
from evoprune.searching.budget import Budget, Rung, Spent
from evoprune.searching.controls import CONTROLS, Setting, control
from evoprune.searching.greedy import Greedy
from evoprune.searching.loop import search
from evoprune.searching.warm import Allowance, add_known, warmed
from evoprune.testing.synthetic import BLOCKS, PARTS, FakeEvaluator, problem

PLENTY = Allowance(10_000)


@contextmanager
def opened(made, path, evaluator=None):
    evaluator = evaluator or FakeEvaluator(made.space)
    with Journal.open(path / "journal.jsonl", {}) as journal:
        yield Archive(journal, lambda: evaluator), evaluator


def warm(made, path, names, allowance=PLENTY, evaluator=None, **more):
    with opened(made, path, evaluator) as (archive, evaluator):
        return warmed(made, archive, names, 99, allowance, **more), evaluator


def test_the_greedy_trail_is_that_of_the_algorithm(tmp_path):
    made = problem(4, PARTS)
    found, evaluator = warm(made, tmp_path, ["greedy"])
    stepper, trail = Greedy().begin(made, made.space.corners[:0], 0), []
    while (X := stepper.ask()) is not None:
        harm = np.array([[evaluator.harm(p, -1)] for p in made.space.patterns(X)])
        trail.append(X[int(harm.argmin())])
        stepper.tell(X, harm, np.zeros((len(X), 1)))
    assert found.X.tolist() == np.stack(trail[1:]).tolist()
    assert len(found.X) == made.space.n_var
    assert Greedy().most(made) == len(evaluator.asked) == found.spent.n_eval


def test_each_pattern_is_paid_once(tmp_path):
    """The first step of greedy removal is every single step, which the knapsack needs as well."""
    made = problem(4, PARTS)
    heard = []
    both, evaluator = warm(made, tmp_path, ["greedy", "additive"], say=heard.append)
    alone, _ = warm(made, tmp_path, ["greedy"])
    assert both.spent == alone.spent == Spent(37, 370.0)
    assert len(set(evaluator.asked)) == len(evaluator.asked) == 37
    assert heard == [
        "start     greedy: may spend 10,000 evaluations",
        "start     greedy: 37 evaluations, 370 dense-equivalent tokens, 8 candidates",
        "start     additive: may spend 10,000 evaluations",
        "start     additive: 0 evaluations, 0 dense-equivalent tokens, 20 candidates",
    ]


def test_the_lowest_rung_is_used(tmp_path):
    made = problem(3, PARTS)
    found, evaluator = warm(made, tmp_path, ["additive"], rungs=(0, -1))
    assert {rung for _, rung in evaluator.asked} == {0}
    assert found.known == ()  # nothing of the top rung is known


def test_a_greedy_walk_ends_where_its_share_does_and_says_so(tmp_path):
    made, heard = problem(4, PARTS), []
    found, evaluator = warm(made, tmp_path, ["greedy"], Allowance(20), say=heard.append)
    # The dense model, 8 steps, 7 more; 6 further would be 22.
    assert found.spent.n_eval == len(evaluator.asked) == 16
    assert found.X.sum(axis=1).tolist() == [1, 2]
    assert heard == [
        "start     greedy: may spend 20 evaluations",
        "start     greedy: 16 evaluations, 160 dense-equivalent tokens, 2 candidates",
    ]


def test_tokens_bound_it_as_well(tmp_path):
    found, _ = warm(problem(4, PARTS), tmp_path, ["greedy"], Allowance(math.inf, 200.0))
    assert found.spent == Spent(16, 160.0)


@pytest.mark.parametrize("name", ["greedy", "additive"])
def test_a_start_that_cannot_begin_is_refused_before_any_is_evaluated(tmp_path, name):
    evaluator, made = FakeEvaluator(problem(4, PARTS).space), problem(4, PARTS)
    with pytest.raises(ConfigError) as error:
        warm(made, tmp_path, ["dense", name], Allowance(8), evaluator)
    assert str(error.value) == (
        f"The warm start '{name}' needs 9 evaluations, and a quarter of the search's budget is "
        f"8 evaluations. Give the search more, or leave '{name}' out of search.warm_starts."
    )
    assert [id for id, _ in evaluator.asked] == [made.space.dense.id]


def test_a_larger_budget_goes_on_from_the_same_start(tmp_path):
    made = problem(4, PARTS)
    before, _ = warm(made, tmp_path, ["greedy"], Allowance(20))
    after, evaluator = warm(made, tmp_path, ["greedy"], Allowance(200))
    assert (after.X.tolist(), after.spent) == (before.X.tolist(), before.spent)
    assert not evaluator.asked


@pytest.mark.parametrize("moment", [1, 9, 12, 20])
def test_killed_and_begun_again_it_evaluates_only_the_rest(tmp_path, moment):
    made = problem(4, PARTS)
    killed = FakeEvaluator(made.space)
    killed.stop_after = moment
    names = ["greedy", "additive"]
    with pytest.raises(RuntimeError, match="killed"):
        warm(made, tmp_path, names, Allowance(30), killed)
    again, evaluator = warm(made, tmp_path, names, Allowance(30))
    assert not set(killed.asked) & set(evaluator.asked)
    (tmp_path / "calm").mkdir()
    calm, _ = warm(made, tmp_path / "calm", names, Allowance(30))
    assert again.X.tolist() == calm.X.tolist() and again.spent == calm.spent


def test_what_it_spends_is_the_searchs_and_what_it_finds_too(tmp_path):
    made = problem(5, PARTS)
    with opened(made, tmp_path) as (archive, _):
        found = warmed(made, archive, ["greedy"], 3, PLENTY)
        paid = found.spent.n_eval
        stepper = Nsga2(pop_size=8).begin(made, found.X, 0)
        ended = search(made, stepper, archive, Budget(n_eval=paid + 20), spent=found.spent)
        assert (ended.n_eval, ended.tokens) == (paid + 20, 10.0 * (paid + 20))
        assert len(ended.patterns) == 20
        add_known(ended, archive, found, -1)
    assert len(set(ended.patterns)) == len(ended.patterns) == len(ended.rows)
    assert set(ended.patterns) >= set(found.known)


def test_a_quarter_of_whatever_bounds_a_search():
    assert Allowance.of(Budget(n_eval=240), 16) == Allowance(60)
    assert Allowance.of(Budget(n_gen=10), 16) == Allowance(40)
    assert Allowance.of(Budget(n_eval=240, tokens=1e6), 16) == Allowance(60, 250_000)
    assert Allowance.of(Budget(tokens=1e6), 16) == Allowance(math.inf, 250_000)
    assert Allowance.of(Budget(seconds=60.0), 16).n_eval == 256


@pytest.mark.parametrize("name", sorted(CONTROLS))
def test_every_control_holds_a_front_within_the_budgets(tmp_path, name):
    made = problem(5, (BLOCKS,), params="<=90%")
    with opened(made, tmp_path) as (archive, _):
        starts = warmed(made, archive, ["dense", "greedy"], 3, PLENTY)
        setting = Setting(made, archive, starts, 400.0, 1, Rung(-1).index)
        found = control(name)(setting)
    X = made.space.encode(found.patterns)
    assert len(X) and (made.budget_violation(X) == 0).all()
