"""Enumerates a space."""

from dataclasses import dataclass

import numpy as np

from evoprune.core.errors import SpaceError
from evoprune.searching.algorithm import Algorithm, Seen, Stepper
from evoprune.searching.budget import Budget
from evoprune.searching.problem import Problem

MOST = 1 << 24
# Spaces beyond this are not counted to see whether a budget covers them.
COUNTED = 1 << 18


@dataclass(frozen=True)
class Exhaustive:
    """``exhaustive``: every pattern, in order; the truth that searches are measured against.

    Attributes:
        batch: candidates asked for at once.
    """

    batch: int = 256

    def begin(self, problem: Problem, starts: np.ndarray, seed: int) -> Stepper:
        """Returns the search at its start.

        Raises:
            SpaceError: the space has more than 2^24 candidates.
        """
        return ExhaustiveStepper(self.batch, problem)


def instead_of(algorithm: Algorithm, problem: Problem, budget: Budget, rungs: int = 1) -> Algorithm:
    """Returns the algorithm, or ``exhaustive`` where the budget covers the whole space.

    Only an algorithm that looks for the whole front is replaced (it has ``enumerates``), and only
    where evaluations alone end the search and every one of them is in full.
    """
    others = (budget.n_gen, budget.tokens, budget.seconds, budget.patience)
    if not getattr(algorithm, "enumerates", False) or budget.n_eval is None or rungs > 1:
        return algorithm
    if problem.space.size > COUNTED or any(bound is not None for bound in others):
        return algorithm
    stepper, count = ExhaustiveStepper(1 << 12, problem), 0
    while count <= budget.n_eval and (X := stepper.ask()) is not None:
        count += len(X)
    return Exhaustive() if count <= budget.n_eval else algorithm


class ExhaustiveStepper:
    """Every canonical candidate inside the budgets, once."""

    def __init__(self, batch: int, problem: Problem) -> None:
        size = problem.space.size
        if size > MOST:
            raise SpaceError(
                f"The space '{problem.space.name}' has {problem.space.size_text} candidates, "
                "too many to try all.",
                "Search it with nsga2.",
            )
        self._problem, self._batch, self._at, self._size = problem, batch, 0, size
        self._seen = Seen()

    def ask(self) -> np.ndarray | None:
        """Returns the next candidates, None after the last."""
        shape = tuple(int(top) + 1 for top in self._problem.space.upper)
        while self._at < self._size:
            index = np.arange(self._at, min(self._at + self._batch, self._size))
            self._at += len(index)
            X = np.stack(np.unravel_index(index, shape), axis=1)
            X = self._problem.space.canonical(X)
            X = X[self._seen.new(X)]
            X = X[(self._problem.budget_violation(X) == 0).all(axis=1)]
            self._seen.add(X)
            if len(X):
                return X
        return None

    def tell(self, X: np.ndarray, F: np.ndarray, G: np.ndarray) -> None:
        """An enumeration learns nothing."""
