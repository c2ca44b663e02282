"""Enumerates a space."""

import numpy as np

from evoprune.errors import SpaceError
from evoprune.search.algorithms import Seen
from evoprune.search.problem import Problem

MOST = 1 << 24


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
