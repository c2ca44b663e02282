"""Brings candidates inside the budgets, one level at a time at random genes."""

import numpy as np

from evoprune.core.errors import SpaceError
from evoprune.searching.problem import Problem
from evoprune.searching.starts import stratified


def repair(problem: Problem, X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns canonical candidates (P, n_var) that meet every budget where that is possible.

    Each is moved level by level in an order drawn for it, up or down as the budget that it breaks
    most demands, and no further than that budget needs; of several budgets, only by what counts
    for that one. EvoP's repair flips random bits the same way (its ``fix``).
    """
    X = problem.space.canonical(X)
    if not problem.budgets:
        return X
    # Every gene can be moved through all its levels once; after that two budgets contradict.
    broken = np.arange(len(X))
    for _ in range(2 * int(problem.space.upper.sum())):
        violation = problem.budget_violation(X[broken])
        still = violation.max(axis=1) > 0
        broken, worst = broken[still], violation[still].argmax(axis=1)
        if len(broken) == 0:
            break
        before = X[broken]
        X[broken] = _moved(problem, before, worst, rng)
        moved = (X[broken] != before).any(axis=1)
        broken = broken[moved]
    return X


def _moved(
    problem: Problem, X: np.ndarray, worst: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Returns candidates (P, n_var) moved as few random level steps as one budget each needs.

    A budget's cost never rises while more is removed, so the number of steps is found by bisection.

    Args:
        problem: what is searched.
        X: candidates that break a budget (P, n_var).
        worst: the budget that each is to meet (P,).
        rng: draws the order of the steps.
    """
    upper, space = problem.space.upper, problem.space
    variable = np.repeat(np.arange(space.n_var), upper)
    step = np.arange(len(variable)) - np.repeat(np.cumsum(upper) - upper, upper)
    direction = problem.directions[worst][:, None]
    # What lies in a dropped site cannot be removed once more.
    left = np.where(direction > 0, np.where(space.covered(X), 0, upper - X), X)
    telling = np.where(problem.touched[worst], left, 0)
    left = np.where(telling.any(axis=1, keepdims=True), telling, left)
    order = np.where(step < left[:, variable], rng.random((len(X), len(variable))), np.inf)
    place = order.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    low, high = np.zeros(len(X), dtype=np.int64), left.sum(axis=1)
    starts = np.cumsum(upper) - upper

    def after(count: np.ndarray) -> np.ndarray:
        steps = np.add.reduceat((place < count[:, None]).astype(np.int64), starts, axis=1)
        return space.canonical(X + direction * steps)

    while (low < high).any():
        middle = (low + high) // 2
        violation = problem.budget_violation(after(middle))[np.arange(len(X)), worst]
        low, high = (
            np.where(violation > 0, np.minimum(middle + 1, high), low),
            np.where(violation > 0, high, middle),
        )
    return after(high)


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
