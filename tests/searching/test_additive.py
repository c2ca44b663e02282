"""The additive rule: its knapsack against brute force, and what it makes of failures."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evoprune.core.genes import GeneSpec
from evoprune.searching.additive import GRID, Additive, _savings, knapsacks, on_grid, singles
from evoprune.searching.algorithm import WORST
from evoprune.testing.synthetic import BLOCKS, PARTS, WIDTHS, FakeEvaluator, flat, problem

NESTED = (BLOCKS, *PARTS, *WIDTHS)
BITS = (BLOCKS, GeneSpec("channels", bits=True))
COUNT = 5


def brute(space, X, units, harms):
    """Returns the saving and the harm of every candidate if those of single steps add up."""
    grid = np.indices(space.upper + 1).reshape(space.n_var, -1).T
    every = np.unique(space.canonical(grid), axis=0)
    keys = {(int(row.argmax()), int(row.max())): i for i, row in enumerate(X)}
    steps = [[keys[v, int(row[v])] for v in np.flatnonzero(row)] for row in every]
    return every, np.array([[units[s].sum(), harms[s].sum()] for s in steps])


@settings(max_examples=40)
@given(st.data())
def test_the_knapsack_is_the_best_of_all(data):
    levels = data.draw(st.lists(st.integers(2, 4), min_size=1, max_size=5))
    space = flat(levels).space
    X = singles(space)[1:]
    numbers = st.lists(st.integers(0, 60), min_size=len(X), max_size=len(X))
    savings = np.array(data.draw(numbers), dtype=float)
    harms = np.array(data.draw(st.lists(st.floats(-3, 9), min_size=len(X), max_size=len(X))))
    units = on_grid(savings, X)
    every, sums = brute(space, X, units, harms)
    found = knapsacks(space, X, savings, harms, COUNT)
    for row, one in enumerate(found):
        least = np.ceil(sums[:, 0].max() * (row + 1) / (COUNT + 1))
        saving, harm = sums[(every == one).all(axis=1)][0]
        assert saving >= least
        assert harm == pytest.approx(sums[sums[:, 0] >= least, 1].min(), abs=1e-9)


@settings(max_examples=15)
@given(st.sampled_from([NESTED, PARTS, (BLOCKS, *WIDTHS), BITS]), st.integers(0, 2**32 - 1))
def test_what_lies_in_a_dropped_block_is_not_counted_twice(specs, seed):
    made = problem(1, specs)
    if made.space.n_var < 4:
        made = problem(2, specs)
    X = singles(made.space)
    savings, harms = _savings(made, X), np.random.default_rng(seed).gamma(1.0, 1.0, len(X) - 1)
    every, sums = brute(made.space, X[1:], savings, harms)
    real = made.cost("params", X[:1])[0] - made.cost("params", every)
    assert (sums[:, 0] == real).all() or any(g.bits for g in made.space.genes)
    found = knapsacks(made.space, X[1:], savings, harms, COUNT)
    for row, one in enumerate(found):
        least = np.ceil(real.max() * (row + 1) / (COUNT + 1))
        here = (every == one).all(axis=1)
        assert here.sum() == 1, "it is not canonical"
        best = sums[sums[:, 0] >= least, 1].min()
        assert sums[here, 1][0] <= best + 1e-9 and sums[here, 0][0] >= least - made_unit(savings)


def made_unit(savings):
    """Returns the most that rounding to the grid may hide."""
    return savings.sum() / GRID * len(savings)


def test_single_steps_are_all_levels_alone():
    assert singles(flat([2, 3]).space).tolist() == [[0, 0], [1, 0], [0, 1], [0, 2]]


def test_savings_have_their_common_unit_or_a_fine_grid():
    X = singles(flat([2, 2, 2]).space)[1:]
    assert on_grid(np.array([300.0, 600.0, 900.0]), X).tolist() == [1, 2, 3]
    fine = on_grid(np.array([1e9 + 1, 2e9, 3e9]), X)
    assert fine.tolist() == [round(GRID / 6), round(GRID / 3), GRID // 2]
    assert on_grid(np.zeros(3), X).tolist() == [0, 0, 0]


def stepped(made, change=lambda F: F, steps=31):
    stepper = Additive(steps=steps).begin(made, made.space.corners[:0], 0)
    X, evaluator = stepper.ask(), FakeEvaluator(made.space)
    harm = [evaluator.harm(pattern, -1) for pattern in made.space.patterns(X)]
    F = change(np.stack([harm, made.cost("params", X)], axis=1))
    stepper.tell(X, F, np.zeros((len(X), 1)))
    return X, stepper


def test_a_step_that_fails_is_the_last_to_be_taken():
    made = problem(6, (BLOCKS,))
    X, _ = stepped(made)
    bad = int(np.flatnonzero(X[:, 0])[0])

    def fails(F):
        F[bad] = WORST
        return F

    _, stepper = stepped(made, fails, steps=5)
    assert not stepper.found[:-1, 0].any() and np.isfinite(stepper.found).all()
    _, stepper = stepped(made, lambda F: np.full_like(F, WORST), steps=5)
    assert len(stepper.found) == 5


def test_budgets_are_met_one_or_two_at_once():
    for bounds in ({"params": "<=70%"}, {"params": "<=70%", "flops": ">=20%"}):
        made = problem(6, PARTS, **bounds)
        _, stepper = stepped(made, steps=6)
        assert 1 <= len(stepper.found) <= 6
        assert (made.budget_violation(stepper.found) == 0).all()


def test_without_a_counted_objective_parameters_are_saved():
    from dataclasses import replace

    made = problem(4, PARTS)
    alone = replace(made, objectives={"harm": made.objectives["harm"]})
    X = singles(made.space)
    assert (_savings(alone, X) == _savings(made, X)).all()


def test_it_asks_for_single_steps_then_for_what_is_new():
    made = problem(4, PARTS)
    X, stepper = stepped(made)
    assert (singles(made.space) == X).all()
    more = stepper.ask()
    assert len(more) and not {r.tobytes() for r in more} & {r.tobytes() for r in X}
    stepper.tell(more, np.zeros((len(more), 2)), np.zeros((len(more), 1)))
    assert stepper.ask() is None
