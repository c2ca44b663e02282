"""Where searches start: candidates that need no data, and an even spread."""

from collections.abc import Callable

import numpy as np

from evoprune.space import Space


def dense(space: Space, count: int) -> np.ndarray:
    """Returns the candidate that removes nothing (1, n_var)."""
    return np.zeros((1, space.n_var), dtype=np.int64)


def uniform(space: Space, count: int) -> np.ndarray:
    """Returns ``count`` candidates of rising sparsity, the removal spread evenly over depth."""
    return _by_share(space, count, evenly)


def last_k(space: Space, count: int) -> np.ndarray:
    """Returns ``count`` candidates of rising sparsity, the removal taken from the end."""
    return _by_share(space, count, lambda n, k: np.arange(n - k, n))


def evenly(n: int, k: int) -> np.ndarray:
    """Returns k of n indices, evenly spread and never at the ends first."""
    return np.floor((np.arange(k) + 0.5) * n / max(k, 1)).astype(np.int64)


def _by_share(space: Space, count: int, pick: Callable[[int, int], np.ndarray]) -> np.ndarray:
    """Returns candidates whose genes of every kind and size move by the same share of levels.

    The level units of the genes of one kind are removed in the order that ``pick`` gives:
    genes with two levels are kept or removed whole, genes with more move together.
    """
    groups: dict[tuple[str, int], list[int]] = {}
    for index, gene in enumerate(space.genes):
        groups.setdefault((space.sites[gene.sites[0]].kind, gene.levels), []).append(index)
    shares = (np.arange(count) + 1) / (count + 1)
    X = np.zeros((count, space.n_var), dtype=np.int64)
    for row, share in enumerate(shares):
        for (_, levels), genes in groups.items():
            columns = [space.columns(gene) for gene in genes]
            if levels > 2:
                for column in columns:
                    X[row, column] = round(share * (levels - 1))
                continue
            spread = np.concatenate([np.arange(c.start, c.stop) for c in columns])
            X[row, spread[pick(len(spread), round(share * len(spread)))]] = 1
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
