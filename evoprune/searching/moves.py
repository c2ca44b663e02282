"""Moves that keep to a budget: swaps, and candidates at its edge."""

import numpy as np

from evoprune.core.space import Space
from evoprune.searching.problem import Problem
from evoprune.searching.repair import repair


def mutated(X: np.ndarray, upper: np.ndarray, rate: float, rng: np.random.Generator) -> np.ndarray:
    """Returns candidates (P, n_var) with some variables changed: by one level, or to any other.

    Args:
        X: candidates.
        upper: the largest value of each variable (n_var,).
        rate: the chance of each variable to change; a step and a reset are equally likely.
        rng: of every choice.
    """
    hit = rng.random(X.shape) < rate
    step = np.where(rng.random(X.shape) < 0.5, 1, -1)
    # A step that would leave the range turns round.
    stepped = np.where((X + step < 0) | (X + step > upper), X - step, X + step)
    other = (X + 1 + np.floor(rng.random(X.shape) * upper).astype(np.int64)) % (upper + 1)
    return np.where(hit, np.where(rng.random(X.shape) < 0.5, stepped, other), X)


def groups(space: Space) -> np.ndarray:
    """Returns for each variable its group (n_var,): equal kind, size and number of levels.

    Within a group a level is worth the same wherever it is taken, so swaps keep every count.
    """
    labels: dict[tuple[str, int, int], int] = {}
    found = np.zeros(space.n_var, dtype=np.int64)
    for index, gene in enumerate(space.genes):
        site = space.sites[gene.sites[0]]
        key = (site.kind, site.units * len(gene.sites), gene.levels)
        found[space.columns(index)] = labels.setdefault(key, len(labels))
    return found


def swapped(
    space: Space, X: np.ndarray, counts: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Returns candidates (P, n_var) after swaps: one variable a level down, one of its group up.

    EvoPress calls it a level switch (Sieberling et al., 2024). What lies in a dropped site stays.

    Args:
        space: what the candidates belong to.
        X: canonical candidates (P, n_var).
        counts: how many swaps each makes (P,).
        rng: of every choice.
    """
    X, group = X.copy(), groups(space)
    for turn in range(int(counts.max(initial=0))):
        rows = np.flatnonzero(counts > turn)
        free = ~space.covered(X[rows])
        for row, open_ in zip(rows, free, strict=True):
            down = np.flatnonzero(open_ & (X[row] > 0))
            if not len(down):
                continue
            give = rng.choice(down)
            up = open_ & (X[row] < space.upper) & (group == group[give])
            up[give] = False
            if up.any():
                X[row, give] -= 1
                X[row, rng.choice(np.flatnonzero(up))] += 1
    return space.canonical(X)


def at_edge(problem: Problem, X: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Returns candidates (P, n_var) that remove no more than they must, at random places.

    Args:
        problem: what is searched. Where it has budgets, they are just met: no single level can
            be given back without breaking one.
        X: candidates (P, n_var).
        share: of the level steps of every kind of gene, to be removed where there is no budget;
            rounded up (EvoP's ⌈L·sparsity⌉; EvoPress removes as many attentions as MLPs).
        rng: of every choice.
    """
    if not problem.budgets:
        return _counted(problem.space, X, share, rng)
    X = repair(problem, X, rng)
    order = rng.permuted(np.tile(np.arange(problem.space.n_var), (len(X), 1)), axis=1)
    rows = np.arange(len(X))
    for variables in order.T:
        trying = rows[X[rows, variables] > 0]
        while len(trying):
            back = X[trying]
            back[np.arange(len(trying)), variables[trying]] -= 1
            back = problem.space.canonical(back)
            fits = ~problem.budget_violation(back).any(axis=1)
            trying, back = trying[fits], back[fits]
            X[trying] = back
            trying = trying[X[trying, variables[trying]] > 0]
    return X


def _counted(space: Space, X: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Returns candidates with exactly ⌈share⌉ of each group's steps removed, where it has them."""
    X, group = space.canonical(X), groups(space)
    member = (group[:, None] == np.arange(group.max() + 1)).astype(np.int64)
    # A share such as 0.07 of 100 steps is 7 of them, whatever its product rounds to.
    counts = np.ceil(share * (space.upper @ member) - 1e-9).astype(np.int64)
    for _ in range(4 * int(space.upper.sum())):
        open_ = ~space.covered(X)
        excess = (X @ member - counts)[:, group]
        movable = np.where(excess > 0, X > 0, (excess < 0) & (space.upper > X) & open_)
        can = np.flatnonzero(movable.any(axis=1))
        if not len(can):
            break
        order = np.where(movable[can], rng.random((len(can), space.n_var)), np.inf)
        at = order.argmin(axis=1)
        X[can, at] -= np.sign(excess[can, at])
        X = space.canonical(X)
    return X
