"""Brings candidates inside the budgets, one level at a time at random genes."""

import numpy as np

from evoprune.errors import SpaceError
from evoprune.search.problem import Problem
from evoprune.search.starts import stratified


def repair(problem: Problem, X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns canonical candidates (P, n_var) that meet every budget where that is possible.

    Each step moves a candidate by one level of one random gene, up or down as the budget that it
    breaks most demands. EvoP's repair flips random bits the same way (its ``fix``).
    """
    X = problem.space.canonical(X)
    if not problem.budgets:
        return X
    upper, directions = problem.space.upper, problem.directions
    # Every gene can be moved through all its levels once; after that two budgets contradict.
    for _ in range(2 * int(upper.sum())):
        violation = problem.budget_violation(X)
        broken = np.flatnonzero(violation.max(axis=1) > 0)
        if len(broken) == 0:
            break
        steps = directions[violation[broken].argmax(axis=1)]
        # A random order of genes for each row; the first that can move in the direction does.
        order = rng.random((len(broken), len(upper)))
        # What lies in a dropped site cannot be removed once more.
        open_ = (X[broken] < upper) & ~problem.space.covered(X[broken])
        movable = np.where(steps[:, None] > 0, open_, X[broken] > 0)
        order[~movable] = np.inf
        gene = order.argmin(axis=1)
        can = movable[np.arange(len(broken)), gene]
        X[broken[can], gene[can]] += steps[can]
        X = problem.space.canonical(X)
        if not can.any():
            break
    return X


def check_budgets(problem: Problem) -> None:
    """Checks that the budgets can be met, each and together.

    Raises:
        SpaceError: one cannot, or no candidate of a repaired sample meets all.
    """
    if len(set(problem.directions.tolist())) < 2:
        return  # what meets one bound further on meets all
    rng = np.random.default_rng(0)
    X = repair(problem, stratified(problem.space, 32, rng), rng)
    if not (problem.budget_violation(X) == 0).all(axis=1).any():
        together = " and ".join(str(budget) for budget in problem.budgets)
        raise SpaceError(
            f"No pattern of the space '{problem.space.name}' was found that meets {together}.",
            "Leave more room between these bounds.",
        )
