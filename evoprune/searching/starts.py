"""Where searches start: candidates that need no data, and an even spread."""

from collections.abc import Callable

import numpy as np

from evoprune.core.space import Space


def dense(space: Space, count: int) -> np.ndarray:
    """Returns the candidate that removes nothing (1, n_var)."""
    return np.zeros((1, space.n_var), dtype=np.int64)


def uniform(space: Space, count: int) -> np.ndarray:
    """Returns ``count`` candidates of rising sparsity, the removal spread evenly over depth."""

    def spread(n: int, top: int, share: float) -> np.ndarray:
        if top > 1:
            return np.full(n, round(share * top))
        return np.isin(np.arange(n), evenly(n, round(share * n)))

    return _by_share(space, count, spread)


def last_k(space: Space, count: int) -> np.ndarray:
    """Returns ``count`` candidates of rising sparsity, the removal taken from the end."""

    def from_the_end(n: int, top: int, share: float) -> np.ndarray:
        return np.clip(round(share * n * top) - top * np.arange(n)[::-1], 0, top)

    return _by_share(space, count, from_the_end)


def evenly(n: int, k: int) -> np.ndarray:
    """Returns k of n indices, evenly spread and never at the ends first."""
    return np.floor((np.arange(k) + 0.5) * n / max(k, 1)).astype(np.int64)


def _by_share(
    space: Space, count: int, taken: Callable[[int, int, float], np.ndarray]
) -> np.ndarray:
    """Returns candidates whose variables of every kind and size lose the same share of levels.

    Args:
        space: what they are of.
        count: how many.
        taken: returns the level of each of so many variables, of so many levels beside the
            first, that takes a share of all.
    """
    groups: dict[tuple[str, int], list[int]] = {}
    for index, gene in enumerate(space.genes):
        columns = space.columns(index)
        key = space.sites[gene.sites[0]].kind, gene.levels - 1
        groups.setdefault(key, []).extend(range(columns.start, columns.stop))
    X = np.zeros((count, space.n_var), dtype=np.int64)
    for row, share in enumerate((np.arange(count) + 1) / (count + 1)):
        for (_, top), variables in groups.items():
            X[row, variables] = taken(len(variables), top, share)
    return X


def stratified(space: Space, count: int, rng: np.random.Generator) -> np.ndarray:
    """Returns ``count`` random candidates spread evenly over sparsity (count, n_var).

    One candidate falls into each of ``count`` equal strata of the share of removed level units;
    given its share, every set of units is equally likely. MO-EvoPruneDeepTL draws the share
    uniformly; strata keep the spread and leave out the clumps.
    """
    upper = space.upper
    total = int(upper.sum())
    shares = (rng.permutation(count) + rng.random(count)) / count
    X = np.zeros((count, space.n_var), dtype=np.int64)
    for row, share in enumerate(shares):
        X[row] = rng.multivariate_hypergeometric(upper, round(share * total))
    return X
