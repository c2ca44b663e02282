"""Every objective on tables small enough to reckon by hand."""

import math

import numpy as np
import pytest

from evoprune.config.parts import build
from evoprune.config.sections import Part
from evoprune.core.costs import CostTable, Row, fixed, of_site
from evoprune.core.errors import ConfigError
from evoprune.core.metrics import Table
from evoprune.core.pattern import Drop, Keep
from evoprune.core.registry import OBJECTIVES
from evoprune.core.space import Gene, Site, Space

# Two clusters; of the dense model 0.8 and 0.5 are right, of the pruned one 0.6 and 0.1.
DENSE = Table({"n": [10, 10, 10], "correct": [9, 7, 5]}, np.array([0, 0, 1]))
PRUNED = Table(
    {"n": [10, 10, 10], "nll": [20, 10, 60], "correct": [8, 4, 1], "kl": [1, 2, 6]},
    np.array([0, 0, 1]),
)
BY_HAND = {
    "token_accuracy": 13 / 30,
    "nll": 3.0,
    "perplexity": math.exp(3),
    "kl": 0.3,
    "worst_cluster_retention": 0.2,
    "worst_cluster_kl": 0.6,
    "cvar_kl": 0.6,
}
# One site of 4 channels under a droppable block of 8·4 weights; 10 weights that nothing governs.
SITES = {
    "block": Site("block", "block"),
    "block.channels": Site("block.channels", "channels", 4, parent="block"),
}
SPACE = Space(
    SITES,
    (
        Gene("block", ("block",), (Keep(1), Drop())),
        Gene("block.channels", ("block.channels",), (Keep(4), Keep(1))),
    ),
)
COSTS = CostTable(
    (
        Row("w", (of_site("block.channels", 4), fixed(8)), ("block",), {"params": 1, "flops": 2}),
        Row("free", (fixed(10),), (), {"params": 1, "bytes": 4}),
        Row("cache", (fixed(3),), ("block",), {"kv_bytes": 2}, tensor=False),
    )
)
CANDIDATES = np.array([[0, 0], [0, 1], [1, 0]])  # whole, a quarter of the channels, dropped
COUNTED = {
    "sparsity": [0.0, 0.75, 1.0],
    "params": [42, 18, 10],
    "flops": [64, 16, 0],
    "bytes": [40, 40, 40],
    "kv_bytes": [6, 6, 0],
    "units": [1.0, 2 / 5, 0.0],
}
# Inside scores 3 and 1, near 2, far 0: of the four pairs three are in order.
SCORED = {
    "clean": Table({"n": [1, 1], "correct": [1, 0], "energy": [3, 1]}, np.array([0, 1])),
    "near": Table({"n": [1], "energy": [2]}, np.array([0])),
    "far": Table({"n": [1], "energy": [0]}, np.array([0])),
}
CLASSES = {"accuracy": 0.5, "ood_auroc": 0.75}


def objective(name, **options):
    return build(OBJECTIVES, Part(type=name, options=options))


def test_every_objective_is_reckoned_by_hand_here():
    assert set(OBJECTIVES.names()) >= {*BY_HAND, *COUNTED, *CLASSES}
    ours = [n for n in OBJECTIVES.names() if OBJECTIVES.load(n).__module__.startswith("evoprune.")]
    assert sorted(ours) == sorted([*BY_HAND, *COUNTED, *CLASSES])


@pytest.mark.parametrize("name", BY_HAND)
def test_a_table_gives_the_number_reckoned_by_hand(name):
    value = objective(name).value({"clean": PRUNED}, {"clean": DENSE})
    assert value == pytest.approx(BY_HAND[name], rel=1e-12)


@pytest.mark.parametrize("name", BY_HAND)
def test_the_order_of_examples_does_not_matter(name):
    rows = np.array([2, 0, 1])
    made = objective(name)
    value = made.value({"clean": PRUNED.take(rows)}, {"clean": DENSE.take(rows)})
    assert value == pytest.approx(BY_HAND[name], rel=1e-12)


@pytest.mark.parametrize("name", COUNTED)
def test_a_cost_gives_the_number_reckoned_by_hand(name):
    np.testing.assert_array_equal(objective(name).costs(COSTS, SPACE, CANDIDATES), COUNTED[name])


@pytest.mark.parametrize(("alpha", "value"), [(0.1, 0.6), (0.5, 0.4), (0.67, 0.3), (1.0, 0.3)])
def test_cvar_is_the_mean_over_the_worst_share_of_examples(alpha, value):
    assert objective("cvar_kl", alpha=alpha).value({"clean": PRUNED}, {}) == pytest.approx(value)


@pytest.mark.parametrize("alpha", [0, 1.5])
def test_cvar_refuses_a_share_that_is_none(alpha):
    with pytest.raises(ConfigError, match="alpha"):
        objective("cvar_kl", alpha=alpha)


def test_perplexity_that_overflows_is_infinite():
    table = Table({"n": [1], "nll": [1000.0]}, np.array([0]))
    assert objective("perplexity").value({"clean": table}, {}) == math.inf


@pytest.mark.parametrize("name", CLASSES)
def test_of_a_classifier(name):
    options = {"score": "energy"} if name == "ood_auroc" else {}
    assert objective(name, **options).value(SCORED, SCORED) == pytest.approx(CLASSES[name])


def test_a_missing_outside_set_has_no_auroc():
    tables = {name: table for name, table in SCORED.items() if name != "far"}
    assert math.isnan(objective("ood_auroc", score="energy").value(tables, tables))
    assert objective("ood_auroc", score="energy", outside="near").value(tables, tables) == 0.5
