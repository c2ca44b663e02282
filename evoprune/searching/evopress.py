"""EvoPress: one parent, many offspring, all at one sparsity (Sieberling et al., 2024)."""

from dataclasses import dataclass

import numpy as np

from evoprune.searching.algorithm import WORST, Seen, Stepper
from evoprune.searching.algorithms import worth
from evoprune.searching.moves import at_edge, swapped
from evoprune.searching.problem import Problem

TRIES = 50


@dataclass(frozen=True)
class OnePlusLambda:
    """``one_plus_lambda``: EvoPress' (1+λ) search of the first measured objective at one sparsity.

    64 random candidates at the edge of the budgets, then the best and 32 offspring of it a
    generation; an offspring swaps one to three levels within a kind of gene (the smaller of two
    draws). Its staged tokens are ``rungs``: ``[{samples: …, keep: 0.0625}, {samples: …}]`` takes 2
    of 32 further, by that objective alone. With k of n blocks removed, its code runs k·(n − k)/1.5
    generations after the first; say so by ``n_gen``.

    It differs from that code in three ways. There every stage draws fresh tokens and scores the
    parent again; here slices are fixed, so that values of all generations can be compared and
    nothing is evaluated twice. There the first 64 are scored on the low stage only; here 4 of them
    reach the top, where the parent's value comes from. There a candidate may come back; here not.

    Attributes:
        initial: random candidates at the start.
        offspring: candidates of a generation.
        max_swaps: the most swaps of an offspring.
        share: level steps of every kind of gene that are removed where no budget says how many.
    """

    initial: int = 64
    offspring: int = 32
    max_swaps: int = 3
    share: float = 0.25

    def __post_init__(self) -> None:
        for name in ("initial", "offspring", "max_swaps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}; it must lie in (0, 1]")

    def begin(self, problem: Problem, starts: np.ndarray, seed: int) -> Stepper:
        """Returns the search at its start; warm starts are brought to the edge as well."""
        return _OnePlusLambdaStepper(self, problem, starts, seed)


class _OnePlusLambdaStepper:
    def __init__(
        self, settings: OnePlusLambda, problem: Problem, starts: np.ndarray, seed: int
    ) -> None:
        self._settings, self._problem, self._starts = settings, problem, starts
        self._rng = np.random.default_rng([seed, 4])
        self._seen = Seen()
        self._parent: np.ndarray | None = None
        self._value = np.inf

    def ask(self) -> np.ndarray | None:
        found: list[np.ndarray] = []
        count = self._settings.initial if self._parent is None else self._settings.offspring
        for _ in range(TRIES):
            X = self._first(count) if self._parent is None else self._offspring(count)
            X = X[self._seen.new(X)][: count - sum(len(rows) for rows in found)]
            self._seen.add(X)
            found.append(X)
            if sum(len(rows) for rows in found) == count:
                break
        X = np.concatenate(found)
        return X if len(X) else None

    def _first(self, count: int) -> np.ndarray:
        space = self._problem.space
        X = self._rng.integers(0, space.upper + 1, (count, space.n_var))
        X, self._starts = np.concatenate([self._starts, X]), self._starts[:0]
        return at_edge(self._problem, X, self._settings.share, self._rng)

    def _offspring(self, count: int) -> np.ndarray:
        assert self._parent is not None
        swaps = self._rng.integers(1, self._settings.max_swaps + 1, (count, 2)).min(axis=1)
        X = np.repeat(self._parent[None, :], count, axis=0)
        X = swapped(self._problem.space, X, swaps, self._rng)
        fits = ~self._problem.budget_violation(X).any(axis=1)
        return X[fits]

    def ranked(self, F: np.ndarray, G: np.ndarray) -> np.ndarray:
        """Returns who goes on to the next rung first: by the one objective, as EvoPress does."""
        return np.argsort(worth(self._problem, F, G), kind="stable")

    def tell(self, X: np.ndarray, F: np.ndarray, G: np.ndarray) -> None:
        values = worth(self._problem, F, G)
        best = int(np.argmin(values))
        if self._parent is None or values[best] <= min(self._value, WORST):
            self._parent, self._value = X[best], float(values[best])
