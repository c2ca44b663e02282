"""Samplers: which examples of a clustered pool become the calibration set, and in which order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evoprune.calibration.cluster import Clusters
from evoprune.core.errors import ConfigError, DataError, did_you_mean

Quota = Literal["equal", "proportional"]
Pick = Literal["nearest", "random"]


@dataclass(frozen=True, eq=False)
class Selection:
    """The chosen examples in nested order: every rung is a prefix of it.

    Args:
        indices: their places in the pool (n,).
        clusters: the cluster each came from (n,).
        sampler: what chose them.
        seed: the seed it chose with.
    """

    indices: NDArray[np.int64]
    clusters: NDArray[np.int64]
    sampler: str
    seed: int

    def __len__(self) -> int:
        return len(self.indices)


def quotas(sizes: Sequence[int] | NDArray[np.integer], n: int, mode: Quota) -> NDArray[np.int64]:
    """Returns how many of n examples each cluster gives (K,); they sum to n.

    ``equal`` fills all clusters alike; one smaller than its quota gives what it has and the others
    share the rest, the larger clusters first. ``proportional`` follows the sizes by largest
    remainder. Either way no cluster is left out when n is at least the number of clusters.

    Args:
        sizes: how many examples each cluster has (K).
        n: how many to take.
        mode: ``equal`` or ``proportional``.

    Raises:
        ConfigError: an unknown mode, or n is below one.
        DataError: the clusters have fewer than n examples.
    """
    _check_choice("quota", mode, ("equal", "proportional"))
    capacity = np.asarray(sizes, dtype=np.int64)
    _check_enough(n, int(capacity.sum()))
    if mode == "equal":
        return _equal(capacity, n)
    return _proportional(capacity, n)


@dataclass(frozen=True)
class Ccds:
    """Clusters with an enforced quota, without replacement (EvoP's CCDS, arXiv 2502.14910).

    EvoP's code logs the same number per cluster but does not enforce it; this does. The order
    takes one example of every cluster first and then keeps each prefix as near to the quotas as
    whole examples allow; with equal quotas, a prefix is what a smaller ``n_samples`` selects.

    Args:
        quota: clusters give equally many, or in proportion to their sizes.
        pick: inside a cluster, those nearest to its centroid or random ones.
    """

    quota: Quota = "equal"
    pick: Pick = "random"

    def __post_init__(self) -> None:
        _check_choice("quota", self.quota, ("equal", "proportional"))
        _check_choice("pick", self.pick, ("nearest", "random"))

    def select(
        self, embeddings: NDArray[np.floating], clusters: Clusters, n_samples: int, seed: int
    ) -> Selection:
        """Returns n_samples examples of the pool of embeddings (N, D).

        Raises:
            DataError: the pool has fewer than n_samples.
        """
        _check_pool(embeddings, clusters, n_samples)
        sizes = clusters.sizes
        counts = quotas(sizes, n_samples, self.quota)
        weights = np.ones(len(sizes)) if self.quota == "equal" else counts.astype(np.float64)
        order = _interleave(counts, weights, _by_size(sizes))
        ranked = self._ranked(clusters, seed)
        turn = np.zeros(len(sizes), dtype=np.int64)
        indices = np.empty(n_samples, dtype=np.int64)
        for place, cluster in enumerate(order):
            indices[place] = ranked[cluster][turn[cluster]]
            turn[cluster] += 1
        return Selection(indices, order, "ccds", seed)

    def _ranked(self, clusters: Clusters, seed: int) -> list[NDArray[np.int64]]:
        if self.pick == "random":
            return _shuffled_members(clusters, np.random.default_rng(seed))
        members = _members(clusters)
        return [one[np.argsort(clusters.distances[one], kind="stable")] for one in members]


@dataclass(frozen=True)
class Random:
    """Uniform without replacement, blind to the clusters: the control that CCDS has to beat."""

    def select(
        self, embeddings: NDArray[np.floating], clusters: Clusters, n_samples: int, seed: int
    ) -> Selection:
        """Returns n_samples examples of the pool of embeddings (N, D).

        Raises:
            DataError: the pool has fewer than n_samples.
        """
        _check_pool(embeddings, clusters, n_samples)
        shuffled = np.random.default_rng(seed).permutation(len(clusters.labels))
        indices = shuffled[:n_samples].astype(np.int64)
        return Selection(indices, clusters.labels[indices], "random", seed)


@dataclass(frozen=True)
class First:
    """The first examples in the order of the pool; the seed plays no part."""

    def select(
        self, embeddings: NDArray[np.floating], clusters: Clusters, n_samples: int, seed: int
    ) -> Selection:
        """Returns n_samples examples of the pool of embeddings (N, D).

        Raises:
            DataError: the pool has fewer than n_samples.
        """
        _check_pool(embeddings, clusters, n_samples)
        indices = np.arange(n_samples, dtype=np.int64)
        return Selection(indices, clusters.labels[indices], "first", seed)


@dataclass(frozen=True)
class Evop:
    """What EvoP's published code does, as a control (luffy06/EvoP, src/utils/data_utils.py).

    Members of every cluster are shuffled. Each draw takes a cluster uniformly at random *with
    replacement* and from it the member under a counter that all clusters share, so the i-th draw
    takes the i-th member of its cluster: earlier members of rarely drawn clusters are skipped, no
    example comes twice, clusters may stay unused (with 5 clusters, all contribute to 5 draws in
    4 % of cases, to 10 in 52 %), and a cluster leaves once the counter passes its size.

    It differs from that code in three ways. There a draw is a chunk of text and chunks are
    concatenated to sequences of 2,048 tokens; here a draw is an example. There embeddings are raw
    and their clusters are its own; here every sampler sees the same clusters. There the counter
    may pass the largest cluster and the set silently stays short; here that is an error.
    """

    def select(
        self, embeddings: NDArray[np.floating], clusters: Clusters, n_samples: int, seed: int
    ) -> Selection:
        """Returns n_samples examples of the pool of embeddings (N, D).

        Raises:
            DataError: the pool, or its largest cluster, has fewer than n_samples.
        """
        _check_pool(embeddings, clusters, n_samples)
        sizes = clusters.sizes
        if n_samples > sizes.max():
            raise DataError(
                f"The sampler evop can give {sizes.max()} examples, the size of the largest "
                f"cluster, but n_samples is {n_samples}.",
                "Lower n_samples or n_clusters, give more data, or use the sampler ccds.",
            )
        rng = np.random.default_rng(seed)
        members = _shuffled_members(clusters, rng)
        drawn = np.empty(n_samples, dtype=np.int64)
        for counter in range(n_samples):
            drawn[counter] = rng.choice(np.flatnonzero(sizes > counter))
        indices = np.array([members[k][i] for i, k in enumerate(drawn)], dtype=np.int64)
        return Selection(indices, drawn, "evop", seed)


def _equal(capacity: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    counts = np.zeros_like(capacity)
    while left := n - int(counts.sum()):
        active = np.flatnonzero(counts < capacity)
        share = left // len(active)
        if share == 0:
            order = _by_size(capacity)
            counts[order[np.isin(order, active)][:left]] += 1
        else:
            counts[active] += np.minimum(share, (capacity - counts)[active])
    return counts


def _proportional(capacity: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    # Integer arithmetic throughout, so that remainders tie exactly and not by rounding.
    counts = np.zeros_like(capacity)
    free = capacity > 0
    if n >= free.sum():
        # Whoever would get less than one gets one, which leaves less for the others: repeat.
        while (short := free & (capacity * (n - counts.sum()) < capacity[free].sum())).any():
            counts[short] = 1
            free &= ~short
    left, total = n - counts.sum(), capacity[free].sum()
    if total:
        counts[free] = capacity[free] * left // total
        remainder = np.where(free, capacity * left % total, -1)
        order = np.lexsort((np.arange(len(capacity)), -capacity, -remainder))
        counts[order[: n - counts.sum()]] += 1
    return counts


def _interleave(
    counts: NDArray[np.int64], weights: NDArray[np.float64], order: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Returns each cluster as often as it counts (n,), spread by weight; ``order`` breaks ties."""
    cluster = np.repeat(np.arange(len(counts)), counts)
    turn = np.concatenate([np.arange(count) for count in counts])
    # Webster's divisor rule: the next example goes to the cluster furthest below its share.
    due = (turn + 0.5) / weights[cluster]
    return cluster[np.lexsort((np.argsort(order)[cluster], due, turn > 0))].astype(np.int64)


def _by_size(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.argsort(-sizes, kind="stable")


def _members(clusters: Clusters) -> list[NDArray[np.int64]]:
    return [np.flatnonzero(clusters.labels == k) for k in range(clusters.n_clusters)]


def _shuffled_members(clusters: Clusters, rng: np.random.Generator) -> list[NDArray[np.int64]]:
    return [rng.permutation(members) for members in _members(clusters)]


def _check_pool(embeddings: NDArray[np.floating], clusters: Clusters, n_samples: int) -> None:
    if len(embeddings) != len(clusters.labels):
        raise DataError(
            f"The pool has {len(embeddings)} embeddings but {len(clusters.labels)} cluster labels.",
            "Cluster the same pool that is sampled.",
        )
    _check_enough(n_samples, len(clusters.labels))


def _check_enough(n: int, available: int) -> None:
    if n < 1:
        raise ConfigError(f"n_samples is {n}.", "Set it to 1 or more.")
    if n > available:
        raise DataError(
            f"{n} calibration examples are asked for, but the pool has {available} examples.",
            f"Set calibration.samples to {available} or less, or give more data.",
        )


def _check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigError(f"There is no {option} '{value}'.", did_you_mean(value, choices))
