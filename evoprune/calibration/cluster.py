"""Clusters of a pool of examples, by what their embeddings say rather than by their length."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evoprune.core.errors import ConfigError, DataError, ModelError

# Embeddings nearer than this count as one when the largest possible number of clusters is named.
_SAME_DECIMALS = 6


@dataclass(frozen=True, eq=False)
class Clusters:
    """The k-means clusters of a pool of N examples; cluster 0 is the largest.

    Args:
        labels: the cluster of each example (N,).
        centroids: the centres, in the L2-normalised space (K, D).
        distances: how far each example lies from its own centroid (N,).
        inertia: the sum of the squared distances.
    """

    labels: NDArray[np.int64]
    centroids: NDArray[np.float64]
    distances: NDArray[np.float64]
    inertia: float

    @property
    def n_clusters(self) -> int:
        """How many clusters there are, K."""
        return len(self.centroids)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """How many examples each cluster has (K,)."""
        counts = np.bincount(self.labels, minlength=self.n_clusters)
        return counts.astype(np.int64, copy=False)


def l2_normalise(embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
    """Returns the rows scaled to length one (N, D); rows of zeros stay zero."""
    rows = np.asarray(embeddings, dtype=np.float64)
    # Dividing by the largest entry first keeps the squares of tiny and huge rows representable.
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    rows = rows / np.where(largest > 0, largest, 1.0)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1.0)


def kmeans(
    embeddings: NDArray[np.floating], n_clusters: int, seed: int, n_init: int = 10
) -> Clusters:
    """Returns the k-means clusters of the L2-normalised embeddings (N, D).

    The first step of EvoP's cluster-based calibration data sampling (arXiv 2502.14910, CCDS).
    Its code clusters raw embeddings, which groups by norm and so by length of text; here rows are
    normalised. One thread and a stable numbering (largest cluster first, then the one with the
    earliest example) make the labels depend on nothing but the embeddings and the seed.

    Args:
        embeddings: one row an example.
        n_clusters: K; at most the number of distinct embeddings.
        seed: of the ``n_init`` starts.
        n_init: starts, of which the one with the least inertia is kept.

    Raises:
        ConfigError: ``n_clusters`` is below one.
        DataError: there are fewer distinct embeddings than clusters.
        ModelError: an embedding is not finite.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    _check(embeddings, n_clusters)
    rows = l2_normalise(embeddings)
    distinct = len(np.unique(rows.round(_SAME_DECIMALS), axis=0))
    if n_clusters > distinct:
        raise _too_many(n_clusters, distinct)
    with threadpool_limits(limits=1):
        fit = KMeans(n_clusters, n_init=n_init, random_state=seed).fit(rows)
    found = fit.labels_.astype(np.int64)
    sizes = np.bincount(found, minlength=n_clusters)
    if (sizes == 0).any():
        raise _too_many(n_clusters, int((sizes > 0).sum()))
    order = np.lexsort((np.unique(found, return_index=True)[1], -sizes))
    labels = np.argsort(order)[found].astype(np.int64)
    centroids = np.asarray(fit.cluster_centers_, dtype=np.float64)[order]
    distances = np.linalg.norm(rows - centroids[labels], axis=1)
    return Clusters(labels, centroids, distances, float(fit.inertia_))


def purity(labels: NDArray[np.integer], kinds: Sequence[str]) -> dict[int, tuple[str, float]]:
    """Returns the commonest kind of each cluster that has members, and the share it has there.

    Of kinds equally common the first by name is taken.

    Args:
        labels: the cluster of each example (N,).
        kinds: what the data call each example (N).

    Raises:
        ValueError: labels and kinds differ in length.
    """
    counts: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for label, kind in zip(labels.tolist(), kinds, strict=True):
        counts[label][kind] += 1
    result = {}
    for label in sorted(counts):
        kind, count = min(counts[label].items(), key=lambda item: (-item[1], item[0]))
        result[label] = (kind, count / counts[label].total())
    return result


def _check(embeddings: NDArray[np.floating], n_clusters: int) -> None:
    if n_clusters < 1:
        raise ConfigError(f"n_clusters is {n_clusters}.", "Set it to 1 or more.")
    if not len(embeddings):
        raise DataError("The pool to cluster has no examples.", "Give more data.")
    broken = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(broken):
        raise ModelError(
            f"{len(broken)} of {len(embeddings)} embeddings are not finite, the first is that of "
            f"example {broken[0]}.",
            "Check the model's weights, or load it with dtype: float32.",
        )


def _too_many(n_clusters: int, possible: int) -> DataError:
    return DataError(
        f"n_clusters is {n_clusters}, but the pool has only {possible} distinct embeddings.",
        f"Set n_clusters to {possible} or less, or give more data.",
    )
