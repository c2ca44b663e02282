"""Repair, the start population and the memory of what was asked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evoprune.core.errors import ConfigError, SpaceError
from evoprune.core.genes import GeneSpec
from evoprune.searching.algorithm import Seen
from evoprune.searching.algorithms import first_candidates
from evoprune.searching.repair import check_budgets, repair
from evoprune.searching.starts import dense, last_k, stratified, uniform
from evoprune.searching.warm import start
from evoprune.testing.synthetic import BLOCKS, PARTS, WIDTHS, flat, problem

NESTED = (BLOCKS, *PARTS, *WIDTHS)
BITS = (BLOCKS, GeneSpec("channels", bits=True))
SEEDS = st.integers(0, 2**32 - 1)


def drawn(made, seed, count=8):
    rng = np.random.default_rng(seed)
    return rng.integers(0, made.space.upper + 1, (count, made.space.n_var)), rng


@settings(max_examples=15)
@given(st.sampled_from([NESTED, BITS]), st.integers(24, 99), st.booleans(), SEEDS)
def test_repair_meets_any_single_budget_that_can_be_met(specs, percent, at_most, seed):
    made = problem(4, specs, params=f"{'<=' if at_most else '>='}{percent}%")
    X, rng = drawn(made, seed)
    repaired = repair(made, X, rng)
    assert (made.budget_violation(repaired) == 0).all()
    assert (made.space.canonical(repaired) == repaired).all()


@settings(max_examples=15)
@given(st.integers(30, 99), st.integers(30, 99), SEEDS)
def test_repair_meets_budgets_that_point_one_way(params, flops, seed):
    made = problem(4, NESTED, params=f"<={params}%", flops=f"<={flops}%")
    X, rng = drawn(made, seed)
    assert (made.budget_violation(repair(made, X, rng)) == 0).all()


@settings(max_examples=15)
@given(SEEDS)
def test_repair_meets_a_window_wider_than_any_step(seed):
    made = problem(6, PARTS, flops="<=70%")
    low = problem(6, PARTS, params=">=40%")
    both = type(made)(
        made.space, made.table, made.objectives, made.constraints + low.constraints, made.measures
    )
    X, rng = drawn(both, seed)
    assert (both.budget_violation(repair(both, X, rng)) == 0).all()


@given(SEEDS)
def test_repair_leaves_alone_what_meets_the_budgets(seed):
    made = problem(4, NESTED, params="<=60%")
    X, rng = drawn(made, seed)
    X = made.space.canonical(X)
    fine = (made.budget_violation(X) == 0).all(axis=1)
    assert (repair(made, X, rng)[fine] == X[fine]).all()


def test_repair_without_budgets_is_canonical_form():
    made = problem(3, NESTED)
    X, rng = drawn(made, 0)
    assert (repair(made, X, rng) == made.space.canonical(X)).all()


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (
            {"params": "<=5%"},
            "No pattern of the space 'synthetic' meets params<=5%: "
            "it ranges over 35 to 278 (12.6% to 100.0%). Choose a bound inside that range.",
        ),
        ({"params": ">=1e6"}, "meets params>=1e+06: it ranges over 35 to 278."),
        (
            {"params": "<=40%", "flops": ">=90%"},
            "was found that meets params<=40% and flops>=90%. Leave more room",
        ),
    ],
)
def test_budgets_that_cannot_be_met_are_refused(bounds, message):
    with pytest.raises(SpaceError) as error:
        check_budgets(problem(3, NESTED, **bounds))
    assert message in str(error.value)


@pytest.mark.parametrize(
    "bounds", [{}, {"params": "<=100%"}, {"params": "<=80%", "flops": ">=20%"}]
)
def test_budgets_that_can_be_met_are_accepted(bounds):
    made = problem(3, NESTED, **bounds)
    check_budgets(made)
    assert len(made.budgets) == len(bounds)


def test_a_constraint_on_nothing_known_is_refused():
    with pytest.raises(ConfigError, match=r"bounds no known quantity\. Did you mean 'params'"):
        problem(2, param="<=5%")


@given(st.integers(1, 40), SEEDS)
def test_stratified_puts_one_candidate_into_each_stratum(count, seed):
    space = problem(20, PARTS).space
    X = stratified(space, count, np.random.default_rng(seed))
    shares = np.sort(X.sum(axis=1)) / space.upper.sum()
    edges = np.arange(count) / count
    half = 0.5 / space.upper.sum()
    assert (X >= 0).all() and (space.upper >= X).all()
    assert (shares >= edges - half).all()
    assert (shares <= edges + 1 / count + half).all()


@pytest.mark.parametrize("specs", [(BLOCKS,), NESTED, BITS])
@pytest.mark.parametrize("make", [uniform, last_k])
def test_rules_rise_in_sparsity_within_range(make, specs):
    made = problem(5, specs)
    X = make(made.space, 9)
    assert X.shape == (9, made.space.n_var)
    assert (X >= 0).all() and (made.space.upper >= X).all()
    assert (np.diff(X.sum(axis=1)) >= 0).all()
    assert X[0].sum() < X[-1].sum()


def test_last_k_takes_from_the_end_and_uniform_spreads():
    space = problem(6, (BLOCKS,)).space
    assert last_k(space, 2).tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1]]
    assert uniform(space, 2).tolist() == [[0, 1, 0, 0, 1, 0], [1, 0, 1, 1, 0, 1]]
    assert dense(space, 3).tolist() == [[0] * 6]
    levels = flat([3, 3, 3]).space
    assert last_k(levels, 2).tolist() == [[0, 0, 2], [0, 2, 2]]
    assert uniform(levels, 2).tolist() == [[1, 1, 1], [1, 1, 1]]


def test_an_unknown_start_is_refused():
    with pytest.raises(ConfigError, match=r"no warm start 'lastk'\. Did you mean 'last_k'"):
        start("lastk")


@given(st.lists(st.lists(st.integers(0, 1), min_size=2, max_size=2), min_size=1, max_size=9))
def test_seen_calls_each_row_new_once(rows):
    X, seen = np.array(rows), Seen()
    first = seen.new(X)
    seen.add(X[: len(X) // 2])
    expected = [row not in rows[:i] for i, row in enumerate(rows)]
    later = [e and row not in rows[: len(X) // 2] for e, row in zip(expected, rows, strict=True)]
    assert first.tolist() == expected
    assert seen.new(X).tolist() == later


@settings(max_examples=15)
@given(st.integers(1, 30), SEEDS)
def test_the_start_population_is_distinct_and_begins_with_the_starts(count, seed):
    made = problem(4, PARTS, params="<=90%")
    starts = last_k(made.space, 3)
    X = first_candidates(made, starts, count, np.random.default_rng(seed))
    assert 1 <= len(X) <= count
    assert len(np.unique(X, axis=0)) == len(X)
    assert (made.budget_violation(X) == 0).all()
    assert (X[: min(count, 2)] == starts[: min(count, 2)]).all()
