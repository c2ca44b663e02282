"""Greedy removal: one step after another, each the least harmful."""

import numpy as np

from evoprune.search.problem import Problem


class GreedyStepper:
    """Asks for all patterns one level further than the current one, and goes to the best.

    With budgets, only patterns inside them are worth a place on a front, but the way there leads
    outside; the loop keeps what breaks a budget off the front.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._current = np.zeros(problem.space.n_var, dtype=np.int64)
        self._started = False
        names = list(problem.objectives)
        self._column = names.index(problem.measured[0]) if problem.measured else 0

    def ask(self) -> np.ndarray | None:
        """Returns the next steps, None when everything is removed."""
        if not self._started:
            self._started = True
            return self._current[None, :]
        space = self._problem.space
        open_ = np.flatnonzero(self._current < space.upper)
        steps = np.repeat(self._current[None, :], len(open_), axis=0)
        steps[np.arange(len(open_)), open_] += 1
        X = space.canonical(steps)
        X = X[(self._current != X).any(axis=1)]
        return X if len(X) else None

    def tell(self, X: np.ndarray, F: np.ndarray, G: np.ndarray) -> None:
        """Goes to the step that keeps the first measured objective best."""
        # The step must remove something, or a canonical form could lead in a circle.
        self._current = X[int(F[:, self._column].argmin())]
