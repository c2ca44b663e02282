import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from threadpoolctl import threadpool_limits

from evoprune.calibration.cluster import kmeans, l2_normalise, purity
from evoprune.core.errors import ConfigError, DataError, ModelError


def blobs(sizes: list[int], seed: int = 0) -> np.ndarray:
    """Returns well separated groups of rows, of widely differing norms (N, 8)."""
    rng = np.random.default_rng(seed)
    axes = np.eye(8)[: len(sizes)]
    rows = np.repeat(axes, sizes, axis=0) + 0.02 * rng.normal(size=(sum(sizes), 8))
    return rows * rng.uniform(0.1, 50, size=(len(rows), 1))


@settings(deadline=None)
@given(arrays(np.float64, (5, 3), elements=st.floats(-1e200, 1e200)))
def test_rows_have_length_one_or_stay_zero(rows: np.ndarray) -> None:
    length = np.linalg.norm(l2_normalise(rows), axis=1)

    assert np.allclose(length, np.where(rows.any(axis=1), 1.0, 0.0))


def test_groups_are_found_whatever_their_norms_and_numbered_by_size() -> None:
    sizes = [5, 20, 10]

    found = kmeans(blobs(sizes), n_clusters=3, seed=1)

    assert found.labels.dtype == np.int64
    assert found.labels.tolist() == [2] * 5 + [0] * 20 + [1] * 10
    assert found.sizes.tolist() == [20, 10, 5]


def test_clusters_of_equal_size_are_numbered_by_their_first_member() -> None:
    found = kmeans(blobs([6, 6, 6]), n_clusters=3, seed=4)

    assert found.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6


def test_distances_and_inertia_belong_to_the_own_centroid() -> None:
    rows = blobs([5, 20, 10])

    found = kmeans(rows, n_clusters=3, seed=1)

    every = np.linalg.norm(l2_normalise(rows)[:, None] - found.centroids, axis=2)
    assert np.array_equal(every.argmin(axis=1), found.labels)
    assert np.allclose(every.min(axis=1), found.distances)
    assert np.isclose(found.inertia, (found.distances**2).sum())


def test_the_same_seed_gives_the_same_bytes_under_any_number_of_threads() -> None:
    rows = np.random.default_rng(3).normal(size=(300, 16)).astype(np.float32)

    with threadpool_limits(2):
        one = kmeans(rows, n_clusters=7, seed=31)
    with threadpool_limits(1):
        two = kmeans(rows, n_clusters=7, seed=31)

    assert one.labels.tobytes() == two.labels.tobytes()
    assert one.centroids.tobytes() == two.centroids.tobytes()
    assert one.inertia == two.inertia


def test_more_clusters_than_distinct_embeddings_names_the_largest_possible() -> None:
    rows = np.array([[1.0, 0], [2, 0], [0, 3], [0, 3]])

    with pytest.raises(DataError, match=r"n_clusters is 3, .* only 2 distinct.* to 2 or less"):
        kmeans(rows, n_clusters=3, seed=0)
    assert kmeans(rows, n_clusters=2, seed=0).sizes.tolist() == [2, 2]


def test_unusable_requests_are_refused() -> None:
    with pytest.raises(ConfigError, match="n_clusters is 0"):
        kmeans(np.ones((3, 2)), n_clusters=0, seed=0)
    with pytest.raises(DataError, match="no examples"):
        kmeans(np.ones((0, 2)), n_clusters=1, seed=0)
    with pytest.raises(ModelError, match=r"1 of 2 .* not finite.* example 1"):
        kmeans(np.array([[1.0, 2], [np.inf, 0]]), n_clusters=1, seed=0)


def test_purity_is_the_share_of_the_commonest_kind() -> None:
    labels = np.array([0, 0, 0, 2, 2])

    assert purity(labels, ["b", "a", "b", "z", "c"]) == {0: ("b", 2 / 3), 2: ("c", 0.5)}
    with pytest.raises(ValueError):
        purity(labels, ["a"])
