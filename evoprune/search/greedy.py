"""Greedy removal: one step after another, each the least harmful."""

import numpy as np

from evoprune.search.algorithms import Seen
from evoprune.search.problem import Problem


class GreedyStepper:
    """Asks for all patterns one level further than the current one, and goes to the best.

    A step that was asked for before is remembered instead: dropping a block, say, is a step
    from whatever was removed inside it. With budgets, only patterns inside them are worth a place
    on a front, but the way there leads outside; the loop keeps what breaks a budget off the front.

    Attributes:
        trail: where it has been, the dense model first.
    """

    def __init__(self, problem: Problem) -> None:
        self._space = problem.space
        self._steps = np.zeros((1, problem.space.n_var), dtype=np.int64)
        self._seen = Seen()
        self._worth: dict[bytes, float] = {}
        self.trail: list[np.ndarray] = []
        names = list(problem.objectives)
        self._column = names.index(problem.measured[0]) if problem.measured else 0

    def ask(self) -> np.ndarray | None:
        """Returns the next steps, None when everything is removed."""
        while len(self._steps):
            X = self._steps[self._seen.new(self._steps)]
            if len(X):
                self._seen.add(X)
                return X
            self._go()
        return None

    def tell(self, X: np.ndarray, F: np.ndarray, G: np.ndarray) -> None:
        """Goes to the step that keeps the first measured objective best."""
        for row, value in zip(X, F[:, self._column], strict=True):
            self._worth[row.tobytes()] = float(value)
        self._go()

    def _go(self) -> None:
        worth = [self._worth[row.tobytes()] for row in self._steps]
        current = self._steps[int(np.argmin(worth))]
        self.trail.append(current)
        open_ = np.flatnonzero(current < self._space.upper)
        steps = np.repeat(current[None, :], len(open_), axis=0)
        steps[np.arange(len(open_)), open_] += 1
        # A step must remove something, or a canonical form could lead in a circle.
        X = self._space.canonical(steps)
        self._steps = X[(current != X).any(axis=1)]
