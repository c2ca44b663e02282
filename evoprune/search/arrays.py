"""NSGA-II on arrays alone, for objectives that cost nothing.

pymoo's own keeps an object for each candidate, which is most of the time where a model answers for
a whole population at once.
"""

from collections.abc import Callable

import numpy as np

from evoprune.search.moves import mutated
from evoprune.search.problem import Problem
from evoprune.search.repair import repair

Told = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def evolved(
    problem: Problem, X: np.ndarray, told: Told, n_gen: int, rng: np.random.Generator
) -> np.ndarray:
    """Returns every distinct candidate that some generations came across (P, n_var).

    Binary tournaments, uniform crossover, level mutation, repair, and survival by rank and
    crowding of parents and children together.

    Args:
        problem: what is searched.
        X: the first population (N, n_var).
        told: returns objectives (P, M) and violations (P, C) of candidates.
        n_gen: generations.
        rng: of every choice.
    """
    from evoprune.search.loop import ranked

    size, (F, G) = len(X), told(X)
    everything = [X]
    for _ in range(n_gen):
        order = ranked(F, G)[:size]
        X, F, G = X[order], F[order], G[order]
        # The population is sorted, so the smaller of two places wins a tournament.
        a, b = rng.integers(0, len(X), (2, size, 2)).min(axis=2)
        children = np.where(rng.random((size, X.shape[1])) < 0.5, X[a], X[b])
        children = mutated(children, problem.space.upper, 1.0 / X.shape[1], rng)
        children = repair(problem, children, rng)
        everything.append(children)
        children_F, children_G = told(children)
        X, first = np.unique(np.concatenate([X, children]), axis=0, return_index=True)
        F = np.concatenate([F, children_F])[first]
        G = np.concatenate([G, children_G])[first]
    return np.unique(np.concatenate(everything), axis=0)
