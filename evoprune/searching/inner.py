"""What a model of the objectives proposes: pymoo's NSGA-II and a greedy trail, both on the model.

Asking the model costs next to nothing, so what is counted here is the search's own time.
experiments/benchmarks/search_gap/README.md says what an ask takes.
"""

from collections.abc import Callable

import numpy as np

from evoprune.searching.algorithms import Nsga2
from evoprune.searching.problem import Problem

# Returns objectives (P, M) and violations (P, C) of candidates.
Told = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
# A trail has about this many stops, and looks at about this many candidates.
STOPS, LOOKED_AT = 24, 1024


def evolved(
    problem: Problem, X: np.ndarray, told: Told, n_gen: int, rng: np.random.Generator
) -> np.ndarray:
    """Returns all candidates that some generations of NSGA-II ask for (P, n_var), sorted.

    Args:
        problem: what is searched.
        X: the first population (N, n_var), no two alike.
        told: what the model says.
        n_gen: generations after the first.
        rng: of every choice.
    """
    stepper = Nsga2(max(4, len(X))).begin(problem, X, int(rng.integers(2**31)), on_model=True)
    everything = []
    for _ in range(n_gen + 1):
        asked = stepper.ask()
        if asked is None:
            break
        stepper.tell(asked, *told(asked))
        everything.append(asked)
    return np.unique(np.concatenate(everything), axis=0)


def trail(problem: Problem, told: Told, worth: np.ndarray) -> np.ndarray:
    """Returns stops on the way from the dense candidate to the empty one (P, n_var).

    Each removes next what costs least quality for its FLOPs by the model. It leads through all
    sizes where crossover and mutation from a few dozen candidates need hundreds of generations.

    Args:
        problem: what is searched.
        told: what the model says.
        worth: what a unit of each objective is worth, 0 for those that do not count (M,).
    """
    space = problem.space
    stride = -(-int(space.upper.sum()) // STOPS)
    ahead = max(1, -(-STOPS * space.n_var // LOOKED_AT))
    x, stops = np.zeros((1, space.n_var), dtype=np.int64), []
    while len(order := _cheapest_first(problem, told, worth, x)):
        for variables in np.split(order, np.arange(stride, len(order), stride))[:ahead]:
            x = x.copy()
            x[0, variables] += 1
            x = space.canonical(x)
            stops.append(x[0])
    return np.unique(stops, axis=0)


def _cheapest_first(problem: Problem, told: Told, worth: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Returns the variables of a candidate (1, n_var) that can go a level up, the best first."""
    space = problem.space
    free = np.flatnonzero((x[0] < space.upper) & ~space.covered(x)[0])
    further = np.repeat(x, len(free), axis=0)
    further[np.arange(len(free)), free] += 1
    further = space.canonical(further)
    changed = (further != x).any(axis=1)  # the last unit of bits stays
    free, further = free[changed], further[changed]
    if not len(free):
        return free
    harm = (told(further)[0] - told(x)[0]) @ worth
    saved = np.maximum(problem.share(x) - problem.share(further), 1e-9)
    return free[np.argsort(harm / saved, kind="stable")]
