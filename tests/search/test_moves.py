"""Level steps and resets, swaps, and candidates at the edge of their budgets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import flat

from evoprune.search.moves import at_edge, groups, mutated, swapped
from evoprune.search.repair import repair
from evoprune.testing.synthetic import BLOCKS, PARTS, WIDTHS, problem

SEEDS = st.integers(0, 2**32 - 1)
MADE = {
    "blocks": problem(6, (BLOCKS,)),
    "nested": problem(4, (BLOCKS, *PARTS, *WIDTHS)),
    "levels": flat((3, 3, 8, 8, 8, 2)),
    "bits": flat((4,), 12),
}
spaces = st.sampled_from(sorted(MADE))


def drawn(made, seed, count=8):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, made.space.upper + 1, (count, made.space.n_var))
    return made.space.canonical(X), rng


@given(spaces, st.floats(0.01, 1.0), SEEDS)
def test_mutation_stays_in_range_and_changes_what_it_hits(name, rate, seed):
    made = MADE[name]
    X, rng = drawn(made, seed)
    Y = mutated(X, made.space.upper, rate, rng)
    assert (Y >= 0).all() and (made.space.upper >= Y).all()
    assert rate < 1.0 or (Y != X).all()


def test_mutation_steps_and_resets_about_equally_often():
    upper = np.full(2000, 7)
    X = np.full((1, 2000), 3)
    change = np.abs(mutated(X, upper, 1.0, np.random.default_rng(0)) - X)
    # A reset is a step as well two times in seven.
    assert (change == 1).mean() == pytest.approx(0.5 + 0.5 * 2 / 7, abs=0.05)


@given(spaces, st.integers(0, 4), SEEDS)
def test_swaps_keep_the_count_of_every_kind_of_gene(name, count, seed):
    made = MADE[name]
    X, rng = drawn(made, seed)
    if name == "nested":  # under a block that comes back everything is whole
        X[:, groups(made.space) == 0] = 0
    Y = swapped(made.space, X, np.full(len(X), count), rng)
    assert (Y >= 0).all() and (made.space.upper >= Y).all()
    if name in ("blocks", "levels"):
        for group in np.unique(groups(made.space)):
            of_group = groups(made.space) == group
            assert (Y[:, of_group].sum(axis=1) == X[:, of_group].sum(axis=1)).all()


def test_a_swap_moves_one_level_from_one_gene_to_another():
    made = MADE["blocks"]
    X = np.array([[1, 1, 0, 0, 0, 0]] * 20)
    Y = swapped(made.space, X, np.ones(20, dtype=np.int64), np.random.default_rng(0))
    assert (np.abs(Y - X).sum(axis=1) == 2).all()
    assert len(np.unique(Y, axis=0)) > 4


@settings(max_examples=15)
@given(spaces, st.integers(40, 95), SEEDS)
def test_at_the_edge_nothing_can_be_given_back(name, percent, seed):
    base = MADE[name]
    made = type(base)(
        base.space,
        base.table,
        base.objectives,
        flat((2,), params=f"<={percent}%").constraints,
        base.measures,
    )
    X, rng = drawn(made, seed, 3)
    X = at_edge(made, X, 0.5, rng)
    assert (made.budget_violation(X) == 0).all()
    for row in X:
        back = np.repeat(row[None, :], len(row), axis=0) - np.eye(len(row), dtype=np.int64)
        back = made.space.canonical(back[row > 0])
        assert (made.budget_violation(back) > 0).all()


@given(st.sampled_from(["blocks", "levels", "bits"]), st.floats(0.05, 0.9), SEEDS)
def test_without_a_budget_a_share_of_the_levels_is_removed_exactly(name, share, seed):
    made = MADE[name]
    X, rng = drawn(made, seed)
    X = at_edge(made, X, share, rng)
    assert (X.sum(axis=1) == int(np.ceil(share * made.space.upper.sum()))).all()


@settings(max_examples=15)
@given(st.integers(35, 90), st.integers(35, 90), SEEDS)
def test_two_budgets_at_once_keep_the_population_apart(params, flops, seed):
    """Embedding, norms and parts of unequal size: the two budgets bind in different patterns."""
    made = problem(12, PARTS, params=f"<={params}%", flops=f"<={flops}%")
    X, rng = drawn(made, seed, 40)
    repaired = repair(made, X, rng)
    assert (made.budget_violation(repaired) == 0).all()
    assert len(np.unique(repaired, axis=0)) >= 0.9 * min(40, len(np.unique(X, axis=0)))


@given(SEEDS)
def test_repair_goes_no_further_than_a_budget_needs(seed):
    made = flat([2] * 20, params="<=50%")
    X, rng = drawn(made, seed, 20)
    before, after = X.sum(axis=1), repair(made, X, rng).sum(axis=1)
    assert (after == np.maximum(before, 10)).all()
