"""pymoo operators for arrays of levels and bits."""

from typing import Any

import numpy as np
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.repair import Repair

from evoprune.searching.moves import mutated
from evoprune.searching.problem import Problem
from evoprune.searching.repair import repair


class LevelMutation(Mutation):
    """Changes each variable with a small chance: half the time by one level, else to any other.

    A variable with two levels flips.
    """

    def __init__(self, rate: float | None = None) -> None:
        super().__init__(prob=1.0, prob_var=None)
        self._rate = rate

    def _do(self, problem: Any, X: np.ndarray, *args: Any, **kwargs: Any) -> np.ndarray:
        rate = self._rate or 1.0 / problem.n_var
        return mutated(X, problem.xu.astype(np.int64), rate, kwargs["random_state"])


def less_broken(pop: Any, P: np.ndarray, **kwargs: Any) -> np.ndarray:
    """Returns the winner of each tournament of two (T, 1): the less infeasible, else either.

    pymoo's own for NSGA-III draws between equally infeasible ones without the search's seed.
    """
    rng: np.random.Generator = kwargs["random_state"]
    violation = np.array([float(one.CV[0]) for one in pop])[P]
    coin = rng.integers(0, 2, len(P))
    pick = np.where(violation[:, 0] == violation[:, 1], coin, violation.argmin(axis=1))
    return P[np.arange(len(P)), pick][:, None]


class Repaired(Repair):
    """Canonical form and budgets."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self._problem = problem

    def _do(self, problem: Any, X: np.ndarray, **kwargs: Any) -> np.ndarray:
        return repair(self._problem, X, kwargs["random_state"])


class NewOnly(DuplicateElimination):
    """Removes candidates that were asked for before, in this generation or any other.

    pymoo's own elimination only looks at the population.
    """

    def __init__(self, seen: Any) -> None:
        super().__init__()
        self._seen = seen

    def _do(self, pop: Any, other: Any, is_duplicate: np.ndarray) -> np.ndarray:
        X = np.asarray(pop.get("X")).astype(np.int64)
        if other is None:
            return ~self._seen.new(X)
        here = {row.tobytes() for row in np.asarray(other.get("X")).astype(np.int64)}
        return np.array([row.tobytes() in here for row in X], dtype=bool)
