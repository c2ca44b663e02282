"""Greedy removal: one step after another, each the least harmful."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from evoprune.searching.algorithm import Seen, Stepper
from evoprune.searching.problem import Problem
from evoprune.searching.repair import repair
from evoprune.searching.rules import Trials, inside

# Candidates that meet the budgets, of which the least harmful is the new start where the way
# there from the dense model would be too long.
LANDINGS = 8


def free(X: np.ndarray) -> np.ndarray:
    """Returns the cost of candidates where nothing bounds a walk (P,)."""
    return np.zeros(len(X))


@dataclass(frozen=True)
class Greedy:
    """``greedy``: from the dense model always the one step that costs least of the first
    measured objective (SLEB's removal, one level of one gene at a time).

    As a warm start it gives its trail, as far as a share of the search's budget leads.
    """

    needs_blocks: ClassVar[bool] = False

    def begin(self, problem: Problem, starts: np.ndarray, seed: int) -> Stepper:
        """Returns the search at its start; it asks for the dense model first."""
        return GreedyStepper(problem)

    def least(self, problem: Problem) -> int:
        """Returns the evaluations of the dense model and the first step."""
        return 1 + problem.space.n_var

    def most(self, problem: Problem) -> int:
        """Returns those of all steps, where every step leaves the others to be taken."""
        steps, n_var = int(problem.space.upper.sum()), problem.space.n_var
        return 1 + sum(min(n_var, steps - taken) for taken in range(steps))

    def first(self, problem: Problem, count: int, trials: Trials) -> np.ndarray:
        """Returns the trail, evenly thinned out where it has more than ``count`` steps."""
        stepper = GreedyStepper(problem)
        while (X := stepper.ask()) is not None and trials.affords(X):
            stepper.tell(X, *trials(X))
        return inside(problem, np.stack(stepper.trail[1:]), count)


class GreedyStepper:
    """Asks for all patterns one level further than the current one, and goes to the best.

    A step that was asked for before is remembered instead: dropping a block, say, is a step
    from whatever was removed inside it. With budgets, only patterns inside them are worth a place
    on a front, but the way there leads outside; the loop keeps what breaks a budget off the front.
    Where tokens would not last for that way, it starts from the budget: from the least harmful of
    a few repaired patterns.

    Args:
        problem: what is searched.
        cost: returns the tokens that candidates take (P,).
        tokens: that there are.

    Attributes:
        trail: where it has been, the dense model first.
        notes: says that it started from the budget.
    """

    def __init__(
        self,
        problem: Problem,
        cost: Callable[[np.ndarray], np.ndarray] = free,
        tokens: float = math.inf,
    ) -> None:
        self._problem, self._space = problem, problem.space
        self._cost, self._left = cost, tokens
        self._steps = np.zeros((1, problem.space.n_var), dtype=np.int64)
        self._seen = Seen()
        self._worth: dict[bytes, float] = {}
        self.trail: list[np.ndarray] = []
        self.notes: tuple[str, ...] = ()
        names = list(problem.objectives)
        self._column = names.index(problem.measured[0]) if problem.measured else 0

    def ask(self) -> np.ndarray | None:
        """Returns the next steps, None when everything is removed or tokens do not last."""
        while len(self._steps):
            X = self._steps[self._seen.new(self._steps)]
            if len(X):
                self._left -= float(self._cost(X).sum())
                if self._left < 0:
                    return None
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
        landings = self._landings(current)
        if len(landings):
            self._steps = landings
            self.notes = (
                "greedy    started from the budget: tokens do not last from the dense model",
            )

    def _landings(self, current: np.ndarray) -> np.ndarray:
        """Returns where to start anew (L, n_var), none if the walk gets inside the budgets.

        As many steps are reckoned as a repair takes, each as dear as the next one.
        """
        none = self._steps[:0]
        if math.isinf(self._left) or not self._problem.budget_violation(current[None]).any():
            return none
        many = np.repeat(current[None], LANDINGS, axis=0)
        X = repair(self._problem, many, np.random.default_rng(0))
        X = X[~self._problem.budget_violation(X).any(axis=1)]
        if not len(X):
            return none
        away = np.abs(X - current).sum(axis=1).min()
        dear = float(away * self._cost(self._steps).sum())
        # What is left must also pay for the landings, should the next step lead no nearer.
        if dear + float(self._cost(self._steps).sum() + self._cost(X).sum()) <= self._left:
            return none
        X = X[Seen().new(X)]
        return X[: max(1, int(np.searchsorted(np.cumsum(self._cost(X)), self._left, "right")))]
