"""The cost table against a sum that is written out entry by entry."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprune.core.costs import CostTable, Extent, Row, entries, fixed, of_site
from evoprune.core.genes import GeneSpec, build_space
from evoprune.core.pattern import Bits, Drop, Keep
from evoprune.testing.synthetic import BLOCKS, CHANNELS, HEADS, PARTS, WIDTHS, sites, table

SPACE = build_space("s", sites(2), (BLOCKS, *PARTS, WIDTHS[0], GeneSpec("channels", bits=True)))
# Nothing is cut in the second; in the third nothing is dropped whole but by a width's level.
SPACES = (
    SPACE,
    build_space("s", sites(2), (BLOCKS, *PARTS)),
    build_space("s", sites(2), (*WIDTHS, GeneSpec("mlp", drop=True))),
)
UNITS = {name: site.units for name, site in SPACE.sites.items()}
PARTS_DRAWN = st.builds(Extent, st.integers(1, 9)) | st.builds(
    lambda site, unit: Extent(UNITS[site] * unit, site, unit),
    st.sampled_from([name for name in UNITS if UNITS[name] > 1]),
    st.integers(1, 3),
)
DIMS = st.lists(st.lists(PARTS_DRAWN, min_size=1, max_size=3).map(tuple), max_size=3).map(tuple)
GATES = st.lists(st.sampled_from(list(UNITS)), max_size=2).map(tuple)
WEIGHTS = st.dictionaries(st.sampled_from(["params", "flops"]), st.integers(1, 5).map(float))
ROWS = st.lists(st.builds(Row, st.just("row"), DIMS, GATES, WEIGHTS), max_size=4)


def alive(options, site):
    """Returns whether neither a site nor what it lies in is dropped."""
    while site is not None:
        if isinstance(options.get(site), Drop):
            return False
        site = SPACE.sites[site].parent
    return True


def kept_units(options, site):
    """Returns how many units stay at a site."""
    option = options.get(site, Keep(UNITS[site]))
    if not alive(options, site):
        return 0
    return option.units if isinstance(option, Keep) else option.count


def by_hand(row, metric, options):
    """Returns a row's cost for one pattern, from its options alone."""
    amount = row.weights.get(metric, 0.0) * all(alive(options, gate) for gate in row.gates)
    for dim in row.dims:
        amount *= sum(
            part.size if part.site is None else kept_units(options, part.site) * part.unit
            for part in dim
        )
    return amount


@given(ROWS, st.sampled_from(SPACES), st.integers(0, 2**32 - 1))
def test_cost_equals_the_sum_over_rows_by_hand(rows, space, seed):
    X = np.random.default_rng(seed).integers(0, space.upper + 1, (4, space.n_var))
    for metric in ("params", "flops"):
        found = CostTable(tuple(rows)).cost(metric, space, X)
        options = [space.options(pattern) for pattern in space.patterns(X)]
        assert found.tolist() == [sum(by_hand(row, metric, o) for row in rows) for o in options]


def test_one_table_serves_several_spaces():
    costs = table(2)
    for space in (*SPACES, *SPACES):
        X = space.corners
        assert costs.cost("params", space, X).tolist() == table(2).cost("params", space, X).tolist()


@given(st.integers(0, 2**32 - 1))
def test_removing_more_never_costs_more(seed):
    rng = np.random.default_rng(seed)
    X = SPACE.canonical(rng.integers(0, SPACE.upper + 1, (5, SPACE.n_var)))
    more = np.minimum(X + rng.integers(0, 2, X.shape), SPACE.upper)
    assert (table(2).cost("params", SPACE, more) <= table(2).cost("params", SPACE, X)).all()


def test_the_dense_model_costs_all_entries():
    dense = np.zeros((1, SPACE.n_var), dtype=np.int64)
    expected = sum(
        math.prod(sum(part.size for part in dim) for dim in row.dims) for row in table(2).rows
    )
    assert table(2).cost("params", SPACE, dense).tolist() == [expected]
    assert table(2).dense("params") == expected
    assert table(2).dense("params", prunable_only=True) == expected - 35.0


def test_prunable_rows_leave_out_what_no_site_governs():
    empty = SPACE.upper[None, :]
    assert table(2).cost("params", SPACE, empty).tolist() == [35.0]
    assert table(2).cost("params", SPACE, empty, prunable_only=True).tolist() == [0.0]


def test_metrics_and_tensors_are_listed_in_order():
    cache = Row("cache", (fixed(3),), weights={"kv_bytes": 2.0}, tensor=False)
    costs = CostTable((*table(1).rows, cache))
    assert costs.metrics == ("params", "flops", "kv_bytes")
    assert "cache" not in [row.name for row in costs.tensors()]
    assert len(list(costs.tensors())) == 4


def test_a_metric_that_no_row_weighs_costs_nothing():
    X = np.zeros((3, SPACE.n_var), dtype=np.int64)
    assert table(2).cost("bytes", SPACE, X).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("unit", "units"), [(1, CHANNELS), (3, HEADS)])
def test_entries_name_the_rows_of_the_kept_units(unit, units):
    dim = (*fixed(2), *of_site("a", units, unit), Extent(unit, "b", unit))
    kept = {"a": np.array([0, units - 1])}
    chosen = [0, 1, *range(2, 2 + unit), *range(2 + unit * (units - 1), 2 + unit * (units + 1))]
    assert entries(dim, kept).tolist() == chosen


@given(st.integers(0, 2**32 - 1), st.integers(0, CHANNELS), st.sampled_from(["channels", "heads"]))
def test_stretches_of_a_site_cost_what_the_site_does(seed, cut, kind):
    X = np.random.default_rng(seed).integers(0, SPACE.upper + 1, (4, SPACE.n_var))
    X[0] = SPACE.upper
    site = next(name for name, found in SPACE.sites.items() if found.kind == kind)
    first = min(cut, UNITS[site])
    halves = (*of_site(site, first, 2), *of_site(site, UNITS[site] - first, 2, first))
    split, whole = (
        CostTable((Row("row", (dim,), weights={"params": 1.0}),))
        for dim in (halves, of_site(site, UNITS[site], 2))
    )
    np.testing.assert_array_equal(*(t.cost("params", SPACE, X) for t in (split, whole)))
    X = SPACE.canonical(X)
    for pattern, row in zip(SPACE.patterns(X), X, strict=True):
        option = SPACE.options(pattern).get(site)
        kept = np.flatnonzero(option.mask) if isinstance(option, Bits) else np.arange(UNITS[site])
        kept = np.arange(option.units) if isinstance(option, Keep) else kept
        if not isinstance(option, Drop) and SPACE.alive(row[None], site)[0]:
            assert (
                len(entries(halves[1:], {site: kept}))
                == CostTable((Row("row", (halves[1:],), weights={"params": 1.0}),)).cost(
                    "params", SPACE, row[None]
                )[0]
            )
