"""Routing: each input goes to the one member that is best for its calibration cluster.

EvoP (2025) keeps a pattern for each cluster and asks at inference which cluster an input is nearest
to. A routed ensemble runs one member an input, after the embedding of the dense model, which tells
the cluster: of a language model nearly another dense pass. Only where the cluster is told is the
member all that runs.
"""

from pathlib import Path

import numpy as np

CENTROIDS = "centroids.safetensors"


def read_centroids(path: Path) -> np.ndarray | None:
    """Returns the centroids (G, D) of a file; None where it does not exist."""
    from safetensors.numpy import load_file

    return load_file(path)["centroids"] if path.is_file() else None


def nearest(embedding: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Returns the cluster of each example (N,), as calibration assigns it.

    Args:
        embedding: (N, D), not normalised.
        centroids: of the L2-normalised embeddings (G, D).
    """
    from evoprune.calibration.cluster import l2_normalise

    scores = l2_normalise(embedding) @ centroids.T - (centroids**2).sum(1) / 2
    return np.asarray(scores.argmax(axis=1), dtype=np.int64)


def best_by_cluster(losses: np.ndarray, clusters: np.ndarray, n_clusters: int) -> dict[int, int]:
    """Returns for each cluster the position with the smallest mean loss on its examples.

    A cluster without examples gets the best over all; of equals the first is taken.

    Args:
        losses: of P patterns at M positions (P, M).
        clusters: of the positions (M,).
        n_clusters: how many clusters there are.
    """
    overall = int(losses.mean(axis=1).argmin())
    routes = {}
    for cluster in range(n_clusters):
        here = losses[:, clusters == cluster]
        routes[cluster] = int(here.mean(axis=1).argmin()) if here.shape[1] else overall
    return routes
