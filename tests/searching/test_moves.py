"""Level steps and resets, swaps, and candidates at the edge of their budgets."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evoprune.core.constraints import parse_constraints
from evoprune.core.costs import CostTable, Row, fixed
from evoprune.searching.moves import at_edge, groups, mutated, swapped
from evoprune.searching.repair import repair
from evoprune.testing.synthetic import BLOCKS, PARTS, WIDTHS, flat, problem

SEEDS = st.integers(0, 2**32 - 1)
MADE = {
    "blocks": problem(6, (BLOCKS,)),
    "nested": problem(4, (BLOCKS, *PARTS, *WIDTHS)),
    "levels": flat((3, 3, 8, 8, 8, 2)),
    "bits": flat((4,), 12),
}
spaces = st.sampled_from(sorted(MADE))


LIMITED = ("params", "flops")


def kinds(made):
    """Returns the kind of site of each variable."""
    return np.array([made.space.sites[gene.sites[0]].kind for gene in made.space.genes])


@dataclass(frozen=True)
class Removed:
    """How many sites of one kind are dropped."""

    kind: str
    goal: ClassVar[str] = "max"
    unit: ClassVar[str] = "sites"
    deterministic: ClassVar[bool] = True

    def costs(self, table, space, X):
        here = [space.sites[gene.sites[0]].kind == self.kind for gene in space.genes]
        return X[:, here].sum(axis=1).astype(float)


def counted_parts(attn, mlp):
    """Returns a problem of attentions and MLPs, exactly so many of each to be dropped."""
    made = problem(12, PARTS)
    counts = {"attn": attn, "mlp": mlp}
    measures = {f"{op}{kind}": Removed(kind) for op in ("least_", "most_") for kind in counts}
    bounds = {
        name: f"{'>=' if name.startswith('least') else '<='}{counts[name.split('_')[1]]}"
        for name in measures
    }
    return replace(
        made, constraints=parse_constraints(bounds), measures={**made.measures, **measures}
    )


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
    for group in np.unique(groups(made.space)):
        of_group = groups(made.space) == group
        count = np.ceil(share * made.space.upper[of_group].sum() - 1e-9)
        assert (X[:, of_group].sum(axis=1) == count).all()


@pytest.mark.parametrize(("share", "count"), [(0.07, 7), (0.29, 29), (0.071, 8), (1.0, 100)])
def test_a_share_is_rounded_up_and_not_by_rounding(share, count):
    made = problem(100, (BLOCKS,))
    X = at_edge(made, made.space.corners, share, np.random.default_rng(0))
    assert X.sum(axis=1).tolist() == [count, count]


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


def two_prices(params, flops, layers=24, levels=5):
    """Returns a space of widths whose parameters grow with depth while their FLOPs shrink.

    As in a convolutional network: a weight of an early layer is used at many positions (FALCON).
    """
    made = flat([levels] * layers)
    positions = 2.0 ** -(np.arange(layers) // 6)
    rows = tuple(
        Row(row.name, (*row.dims, fixed(int(4 / at))), (), {"params": 1.0, "flops": 4 * at})
        for row, at in zip(made.table.rows, positions**2, strict=True)
    )
    bounds = {"params": f"<={params}%", "flops": f"<={flops}%"}
    return replace(made, table=CostTable(rows), constraints=parse_constraints(bounds))


@settings(max_examples=10)
@given(st.integers(35, 85), st.integers(35, 85), SEEDS)
def test_two_budgets_on_widths_are_met_tightly_by_different_candidates(params, flops, seed):
    made = two_prices(params, flops)
    X, rng = drawn(made, seed, 60)
    X = at_edge(made, X, 0.5, rng)
    assert (made.budget_violation(X) == 0).all()
    assert len(np.unique(X, axis=0)) == 60
    limits = {"params": params, "flops": flops}
    used = np.stack([made.cost(n, X) / made.cost(n, made.space.corners[:1]) for n in limits])
    left = np.array([[params], [flops]]) / 100 - used
    # One step of the dearest layer is 2 % of the parameters, or of the FLOPs.
    assert left.min(axis=0).max() <= 0.03
    # The candidates do not agree on which layers pay for it.
    assert np.mean(X.std(axis=0) > 0.3) >= 0.8


def test_where_both_budgets_can_bind_both_do_in_some_candidates():
    made = two_prices(60, 60)
    X, rng = drawn(made, 0, 200)
    X = at_edge(made, X, 0.5, rng)
    tight = [made.cost(n, X) / made.cost(n, made.space.corners[:1]) > 0.585 for n in LIMITED]
    assert all(one.mean() > 0.3 for one in tight)
    assert np.mean(tight[0] & tight[1]) > 0.1


@given(st.integers(0, 12), st.integers(0, 12), SEEDS)
def test_exact_counts_of_two_kinds_are_met_by_touching_only_what_counts(attn, mlp, seed):
    made = counted_parts(attn, mlp)
    X, rng = drawn(made, seed, 20)
    Y = repair(made, X, rng)
    is_attn = kinds(made) == "attn"
    assert (Y[:, is_attn].sum(axis=1) == attn).all()
    assert (Y[:, ~is_attn].sum(axis=1) == mlp).all()
    # Nothing is moved beyond what the counts ask for.
    for part, count in ((is_attn, attn), (~is_attn, mlp)):
        before = X[:, part].sum(axis=1)
        assert (np.abs(Y - X)[:, part].sum(axis=1) == np.abs(before - count)).all()


def test_what_a_budget_touches_is_what_its_cost_depends_on():
    made = counted_parts(3, 4)
    of_attn = kinds(made) == "attn"
    expected = [of_attn, ~of_attn, of_attn, ~of_attn]
    assert made.touched.tolist() == [one.tolist() for one in expected]
    assert problem(3, (BLOCKS,), params="<=70%").touched.all()
    bits = flat((), 600, params="<=70%")  # more variables than are looked at together
    assert bits.touched.all()
