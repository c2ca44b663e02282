"""Routing: each input goes to the one member that is best for its calibration cluster.

EvoP (2025) keeps a pattern for each cluster and asks at inference which cluster an input is nearest
to. A routed ensemble runs one member an input, after the embedding of the dense model, which tells
the cluster: of a language model nearly another dense pass. Only where the cluster is told is the
member all that runs.
"""

from pathlib import Path

import numpy as np

from evoprune.core.errors import ModelError

CENTROIDS = "centroids.safetensors"


def read_centroids(path: Path) -> np.ndarray | None:
    """Returns the centroids (G, D) of a file; None where it does not exist.

    Raises:
        ModelError: the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)["centroids"] if path.is_file() else None
    except (SafetensorError, KeyError) as error:
        raise ModelError(
            f"'{path}' holds no centroids.", "Restore it from the run, or copy the folder whole."
        ) from error


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

    A cluster without examples gets the best over all; of equals the first is taken. What is not a
    number is the worst.

    Args:
        losses: of P patterns at M positions (P, M).
        clusters: of the positions (M,).
        n_clusters: how many clusters there are.
    """
    losses = np.where(np.isnan(losses), np.inf, losses)
    overall = int(losses.mean(axis=1).argmin())
    routes = {}
    for cluster in range(n_clusters):
        here = losses[:, clusters == cluster]
        routes[cluster] = int(here.mean(axis=1).argmin()) if here.shape[1] else overall
    return routes
