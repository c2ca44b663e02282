from math import factorial

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from evoprune.calibration.cluster import Clusters
from evoprune.calibration.samplers import Ccds, Evop, First, Random, Selection, quotas
from evoprune.core.errors import ConfigError, DataError
from evoprune.core.registry import SAMPLERS

ALL = [
    *(Ccds(quota, pick) for quota in ("equal", "proportional") for pick in ("nearest", "random")),
    Random(),
    First(),
    Evop(),
]
# A busy machine must not fail a test that is right.
steady = settings(deadline=None)
modes = st.sampled_from(["equal", "proportional"])
many_sizes = st.lists(st.integers(1, 30), min_size=1, max_size=8)


def clusters_of(sizes: list[int], seed: int = 0) -> Clusters:
    """Returns clusters of the given sizes, their members scattered over the pool."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    distances = rng.integers(0, 5, size=len(labels)) / 4
    return Clusters(labels, np.zeros((len(sizes), 2)), distances, 0.0)


def select(sampler, clusters: Clusters, n: int, seed: int = 0) -> Selection:
    return sampler.select(np.zeros((len(clusters.labels), 2)), clusters, n, seed)


@st.composite
def requests(draw) -> tuple[list[int], int]:
    sizes = draw(many_sizes)
    return sizes, draw(st.integers(1, sum(sizes)))


@steady
@given(requests(), modes)
def test_quotas_sum_to_n_and_exceed_no_cluster(request_, mode) -> None:
    sizes, n = request_

    counts = quotas(sizes, n, mode)

    assert counts.dtype == np.int64
    assert counts.sum() == n
    assert (counts >= 0).all() and (counts <= sizes).all()
    assert n < len(sizes) or (counts >= 1).all()


@steady
@given(requests())
def test_equal_quotas_differ_by_at_most_one_unless_exhausted(request_) -> None:
    sizes, n = request_

    counts = quotas(sizes, n, "equal")

    open_ = counts[counts < sizes]
    assert not len(open_) or (open_ >= counts.max() - 1).all()


@steady
@given(requests())
def test_proportional_quotas_stay_within_one_of_the_share_where_it_is_at_least_one(request_):
    sizes, n = request_
    share = np.array(sizes) * n / sum(sizes)
    assume((share >= 1).all())

    counts = quotas(sizes, n, "proportional")

    assert (np.abs(counts - share) < 1).all()


def test_quotas_worked_by_hand() -> None:
    assert quotas([50, 3, 50], 20, "equal").tolist() == [9, 3, 8]
    assert quotas([60, 30, 10], 10, "proportional").tolist() == [6, 3, 1]
    assert quotas([47, 16, 16, 21], 10, "proportional").tolist() == [5, 2, 1, 2]
    assert quotas([97, 2, 1], 10, "proportional").tolist() == [8, 1, 1]
    assert quotas([9, 0, 9], 4, "proportional").tolist() == [2, 0, 2]


@pytest.mark.parametrize("sampler", ALL, ids=str)
@steady
@given(request_=requests(), seed=st.integers(0, 99))
def test_every_sampler_gives_n_distinct_examples_with_their_clusters(
    sampler, request_, seed
) -> None:
    sizes, n = request_
    n = min(n, max(sizes)) if isinstance(sampler, Evop) else n
    clusters = clusters_of(sizes, seed)

    one, two = select(sampler, clusters, n, seed), select(sampler, clusters, n, seed)

    assert one.indices.dtype == one.clusters.dtype == np.int64
    assert len(set(one.indices.tolist())) == len(one) == n
    assert np.array_equal(one.clusters, clusters.labels[one.indices])
    assert np.array_equal(one.indices, two.indices)


@pytest.mark.parametrize("sampler", [Ccds(), Random(), Evop()], ids=str)
def test_another_seed_chooses_other_examples(sampler) -> None:
    clusters = clusters_of([40, 40, 40])

    assert set(select(sampler, clusters, 12, 0).indices) != set(
        select(sampler, clusters, 12, 1).indices
    )


@steady
@given(requests(), modes)
def test_ccds_uses_every_cluster_when_there_is_room(request_, mode) -> None:
    sizes, n = request_
    assume(n >= len(sizes))

    chosen = select(Ccds(mode), clusters_of(sizes), n)

    assert set(chosen.clusters[: len(sizes)].tolist()) == set(range(len(sizes)))
    assert np.array_equal(np.bincount(chosen.clusters), quotas(sizes, n, mode))


@steady
@given(requests(), st.data())
def test_a_prefix_of_equal_quotas_is_what_fewer_samples_would_select(request_, data) -> None:
    sizes, n = request_
    m = data.draw(st.integers(1, n))
    clusters = clusters_of(sizes)

    prefix = select(Ccds("equal"), clusters, n).indices[:m]

    assert np.array_equal(prefix, select(Ccds("equal"), clusters, m).indices)
    counts = np.bincount(clusters.labels[prefix], minlength=len(sizes))
    assert np.array_equal(counts, quotas(sizes, m, "equal"))


def test_a_prefix_of_proportional_quotas_is_proportional() -> None:
    chosen = select(Ccds("proportional"), clusters_of([60, 30, 10]), 50)

    assert np.bincount(chosen.clusters).tolist() == [30, 15, 5]
    assert np.bincount(chosen.clusters[:20]).tolist() == [12, 6, 2]


def test_nearest_takes_those_nearest_to_the_centroid() -> None:
    clusters = clusters_of([20, 10])

    chosen = select(Ccds(pick="nearest"), clusters, 10)

    for cluster in range(2):
        taken = np.sort(clusters.distances[chosen.indices[chosen.clusters == cluster]])
        assert np.array_equal(taken, np.sort(clusters.distances[clusters.labels == cluster])[:5])


def test_first_follows_the_pool_and_random_does_not() -> None:
    clusters = clusters_of([20, 20])

    assert select(First(), clusters, 7).indices.tolist() == list(range(7))
    assert select(Random(), clusters, 40).indices.tolist() != list(range(40))


@pytest.mark.parametrize("draws", [5, 10])
def test_evop_leaves_clusters_unused_as_often_as_computed(draws: int) -> None:
    clusters, trials = clusters_of([12] * 5), 4000
    # Draws that hit all 5 clusters: by inclusion and exclusion, 4 % for 5 draws, 52 % for 10.
    ways = [
        (-1) ** k * factorial(5) // factorial(k) // factorial(5 - k) * (5 - k) ** draws
        for k in range(6)
    ]
    expected = sum(ways) / 5**draws
    assert round(expected, 2) == {5: 0.04, 10: 0.52}[draws]

    full = [len(set(select(Evop(), clusters, draws, s).clusters.tolist())) for s in range(trials)]

    share = np.mean(np.array(full) == 5)
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / trials)


def test_evop_shares_one_counter_so_small_clusters_leave_early() -> None:
    clusters = clusters_of([20, 3])

    for seed in range(30):
        assert not select(Evop(), clusters, 20, seed).clusters[3:].any()


@pytest.mark.parametrize("sampler", [Ccds("equal", "nearest"), Random(), First(), Evop()], ids=str)
def test_asking_for_more_samples_extends_the_selection(sampler) -> None:
    clusters = clusters_of([20, 9, 9])

    longer = select(sampler, clusters, 18, 5)

    assert np.array_equal(longer.indices[:7], select(sampler, clusters, 7, 5).indices)


def test_evop_says_when_its_counter_passes_the_largest_cluster() -> None:
    with pytest.raises(DataError, match=r"give 8 examples.* n_samples is 9"):
        select(Evop(), clusters_of([8, 8]), 9)


@pytest.mark.parametrize("sampler", ALL, ids=str)
def test_a_pool_too_small_names_both_numbers(sampler) -> None:
    clusters = clusters_of([4, 3])

    with pytest.raises(DataError, match="8 calibration examples are asked for, but the pool has 7"):
        select(sampler, clusters, 8)
    with pytest.raises(ConfigError, match="n_samples is 0"):
        select(sampler, clusters, 0)
    with pytest.raises(DataError, match="2 embeddings but 7 cluster labels"):
        sampler.select(np.zeros((2, 2)), clusters, 1, 0)


def test_unknown_options_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"quota 'equall'.*'equal'"):
        Ccds(quota="equall")
    with pytest.raises(ConfigError, match=r"pick 'near'.*'nearest'"):
        Ccds(pick="near")
    with pytest.raises(ConfigError, match="quota 'even'"):
        quotas([3], 1, "even")


def test_the_registry_knows_them() -> None:
    known = {name: SAMPLERS.load(name) for name in ("ccds", "random", "first", "evop")}

    assert known == {"ccds": Ccds, "random": Random, "first": First, "evop": Evop}
    for name, sampler in known.items():
        assert select(sampler(), clusters_of([4, 4]), 3).sampler == name
