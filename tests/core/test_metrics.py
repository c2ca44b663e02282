"""Metrics against brute force and by hand."""

import json
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprune.core import metrics
from evoprune.core.metrics import Table

SCORES = st.lists(st.integers(-3, 3) | st.just(math.inf), min_size=1, max_size=12)
FLOATS = st.floats(allow_nan=True, allow_infinity=True)


def token_table(n, nll, correct, groups):
    return Table({"n": n, "nll": nll, "correct": correct}, groups)


def random_table(rows=256, groups=8, seed=0):
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 50, rows)
    columns = {"n": n, "nll": n * rng.gamma(2, 1, rows), "correct": rng.integers(0, n + 1)}
    return Table(columns, rng.integers(0, groups, rows))


@pytest.fixture
def table():
    return token_table([10, 30, 20], [20.0, 30.0, 100.0], [5, 15, 2], [0, 0, 7])


def test_table_takes_and_concatenates(table):
    again = Table.concat([table.take(np.array([0])), table.take(np.array([False, True, True]))])
    assert len(again) == 3
    assert again.to_json() == table.to_json()


@given(st.lists(st.tuples(FLOATS, st.integers(-(2**62), 2**62)), max_size=8))
def test_table_survives_strict_json_bit_for_bit(rows):
    values = np.array([value for value, _ in rows], dtype=np.float64)
    table = Table({"x": values}, np.array([group for _, group in rows], dtype=np.int64))
    again = Table.from_json(json.loads(json.dumps(table.to_json(), allow_nan=False)))
    assert np.array_equal(again.columns["x"], values, equal_nan=True)
    assert np.array_equal(
        np.signbit(again.columns["x"][values == 0]), np.signbit(values[values == 0])
    )
    assert np.array_equal(again.groups, table.groups)


@pytest.mark.parametrize(
    ("columns", "groups", "message"),
    [
        ({"n": [1, 2, 3]}, [0, 1], "column 'n' has shape"),
        ({"n": [1, 2]}, [0.5, 1.0], "whole numbers"),
        ({"n": [[1, 2]]}, [[0, 1]], "whole numbers"),
    ],
)
def test_table_refuses_what_does_not_fit(columns, groups, message):
    with pytest.raises(ValueError, match=message):
        Table(columns, groups)


def test_concat_refuses_other_columns_and_nothing(table):
    with pytest.raises(ValueError, match="columns differ"):
        Table.concat([table, Table({"n": [1]}, [0])])
    with pytest.raises(ValueError, match="no table"):
        Table.concat([])


def test_ratios_by_hand(table):
    assert metrics.ratio(table, "nll") == 2.5
    assert metrics.perplexity(table) == pytest.approx(math.exp(2.5))
    groups, values = metrics.group_ratios(table, "nll")
    assert groups.tolist() == [0, 7]
    assert values.tolist() == [1.25, 5.0]
    assert metrics.worst_group(table, "nll") == 5.0


def test_ratios_without_units_are_nan_and_overflow_is_infinite():
    nothing = token_table([0, 0], [0, 0], [0, 0], [0, 1])
    assert math.isnan(metrics.ratio(nothing, "nll"))
    assert math.isnan(metrics.worst_group(nothing, "nll"))
    assert math.isnan(metrics.cvar(nothing, "nll"))
    assert metrics.perplexity(token_table([1], [1e6], [0], [0])) == math.inf


def test_worst_group_leaves_out_what_has_no_unit_but_not_what_is_broken():
    assert metrics.worst_group(token_table([0, 2], [0, 4], [0, 0], [0, 1]), "nll") == 2.0
    broken = token_table([1, 2], [math.nan, 4], [0, 0], [0, 1])
    assert math.isnan(metrics.worst_group(broken, "nll"))


def test_worst_group_retention_by_hand(table):
    dense = token_table([10, 30, 20], [0, 0, 0], [10, 20, 4], [0, 0, 7])
    assert metrics.worst_group_retention(table, dense) == 0.5
    silent = token_table([10, 30, 20], [0, 0, 0], [10, 20, 0], [0, 0, 7])
    assert metrics.worst_group_retention(table, silent) == pytest.approx(20 / 30)
    mute = token_table([10, 30, 20], [0, 0, 0], [0, 0, 0], [0, 0, 7])
    assert math.isnan(metrics.worst_group_retention(table, mute))


def test_worst_group_retention_refuses_other_groups(table):
    with pytest.raises(ValueError, match="different groups"):
        metrics.worst_group_retention(table, table.take(np.array([0])))


@pytest.mark.parametrize(("alpha", "rows"), [(0.1, 1), (0.07, 1), (0.34, 2), (0.5, 2), (1.0, 3)])
def test_cvar_is_the_mean_of_the_worst_rows(table, alpha, rows):
    worst = sorted([2.0, 1.0, 5.0])[3 - rows :]
    assert metrics.cvar(table, "nll", alpha) == pytest.approx(sum(worst) / rows)


def test_cvar_counts_rows_without_rounding_noise():
    table = token_table(np.ones(100), np.arange(100), np.zeros(100), np.zeros(100, dtype=int))
    assert metrics.cvar(table, "nll", 0.07) == np.mean(np.arange(93, 100))
    with pytest.raises(ValueError, match="alpha"):
        metrics.cvar(table, "nll", 0.0)


@given(SCORES, SCORES)
def test_auroc_equals_counting_pairs(inside, outside):
    wins = sum((a > b) + 0.5 * (a == b) for a in inside for b in outside)
    assert metrics.auroc(inside, outside) == wins / (len(inside) * len(outside))


def test_auroc_is_nan_without_a_side_or_with_nan():
    assert math.isnan(metrics.auroc([], [1.0]))
    assert math.isnan(metrics.auroc([1.0], [math.nan]))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=10))
def test_spearman_equals_pearson_of_mid_ranks(pairs):
    a, b = np.array(pairs, dtype=float).T
    if len(set(a)) == 1 or len(set(b)) == 1:
        assert math.isnan(metrics.spearman(a, b))
        return
    ranks = [[(v > w).sum() + (v == w).sum() / 2 for v in w] for w in (a, b)]
    assert metrics.spearman(a, b) == pytest.approx(np.corrcoef(ranks)[0, 1], abs=1e-12)


def test_spearman_of_equal_orders_is_exactly_one():
    values = np.random.default_rng(0).random(1000)
    assert metrics.spearman(values, np.exp(values)) == 1.0
    assert metrics.spearman(values, -values) == -1.0
    assert math.isnan(metrics.spearman([1.0, math.nan], [1.0, 2.0]))


def test_ece_by_hand():
    confidence, correct = [0.0, 0.5, 0.5, 1.0], [0, 1, 1, 0]
    assert metrics.ece(confidence, correct, bins=2) == pytest.approx((abs(2 - 1.0) + 1.0) / 4)
    assert math.isnan(metrics.ece([], []))
    assert math.isnan(metrics.ece([math.nan], [1]))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        metrics.ece([1.5], [1])


def test_bootstrap_is_paired():
    table = random_table()
    better = Table(
        {**table.columns, "nll": table.columns["nll"] - table.columns["n"]}, table.groups
    )

    def difference(a, b):
        return metrics.ratio(a, "nll") - metrics.ratio(b, "nll")

    low, high = metrics.bootstrap(difference, [table, better], n_boot=100)
    assert low == pytest.approx(1.0, abs=1e-12)
    assert high == pytest.approx(1.0, abs=1e-12)


def test_bootstrap_keeps_every_group_unless_told_otherwise():
    table = token_table(np.ones(40), np.ones(40), np.ones(40), [0] + [1] * 39)

    def groups(t):
        return len(np.unique(t.groups))

    assert metrics.bootstrap(groups, [table], n_boot=200) == (2.0, 2.0)
    assert metrics.bootstrap(groups, [table], n_boot=200, stratify=False) == (1.0, 2.0)


def test_bootstrap_keeps_the_size_of_every_group():
    table = random_table(60, 5)
    sizes = np.bincount(table.groups)

    def is_same(t):
        return float(np.array_equal(np.bincount(t.groups), sizes))

    assert metrics.bootstrap(is_same, [table], n_boot=50) == (1.0, 1.0)


def test_bootstrap_covers_the_mean_as_often_as_it_says():
    rng, hits = np.random.default_rng(1), 0
    for seed in range(100):
        values = rng.normal(size=60)
        table = Table({"n": np.ones(60), "x": values}, np.zeros(60, dtype=int))
        low, high = metrics.bootstrap(
            lambda t: metrics.ratio(t, "x"), [table], n_boot=200, level=0.9, seed=seed
        )
        hits += low <= 0 <= high
    assert 80 <= hits <= 97


def test_bootstrap_repeats_by_seed_and_bears_nan_and_infinity():
    table = random_table(30)
    assert metrics.bootstrap(metrics.perplexity, [table], seed=3) == metrics.bootstrap(
        metrics.perplexity, [table], seed=3
    )
    assert metrics.bootstrap(lambda t: math.inf, [table], n_boot=5) == (math.inf, math.inf)
    assert all(map(math.isnan, metrics.bootstrap(lambda t: math.nan, [table], n_boot=5)))


def test_tables_of_one_length_share_rows_and_others_do_not():
    inside, outside = random_table(20), random_table(30)

    def spread(*tables):
        low, high = metrics.bootstrap(
            lambda a, b: a.columns["nll"].sum() - b.columns["nll"].sum(), tables
        )
        return high - low

    assert spread(inside, inside) == 0 < spread(inside, outside)


def test_bootstrap_refuses_what_it_cannot_resample(table):
    with pytest.raises(ValueError, match="at least one row"):
        metrics.bootstrap(metrics.perplexity, [])
    with pytest.raises(ValueError, match="at least one row"):
        metrics.bootstrap(metrics.perplexity, [table.take(np.array([], dtype=int))])
    with pytest.raises(ValueError, match="level"):
        metrics.bootstrap(metrics.perplexity, [table], level=95)


def test_bootstrap_of_three_statistics_takes_well_under_a_second():
    table, dense = random_table(seed=1), random_table(seed=1)
    start = time.process_time()
    metrics.bootstrap(metrics.perplexity, [table])
    metrics.bootstrap(lambda t: metrics.cvar(t, "nll"), [table])
    metrics.bootstrap(metrics.worst_group_retention, [table, dense])
    assert time.process_time() - start < 2.0  # 0.1 s on two cores of a server
