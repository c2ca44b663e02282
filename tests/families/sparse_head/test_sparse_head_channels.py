"""Backbones are cut as far as their graphs allow, and cost what they then are."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evoprune.core.genes import GeneSpec, build_space
from evoprune.export.head import HeadSubject, build
from evoprune.families.flops import executed_flops
from evoprune.families.sparse_head.channels import Channels, analyse, cut
from evoprune.families.sparse_head.family import SparseHead
from evoprune.families.sparse_head.graph import Graph, trace
from evoprune.families.sparse_head.heads import one_thread
from evoprune.families.sparse_head.modeling_head import PrunedNetwork
from tests.families.sparse_head.backbones import (
    TRACED,
    Attending,
    Branching,
    Deep,
    Fire,
    Flat,
    Grouped,
    Normed,
    Pixels,
    Plain,
    Repeated,
    Residual,
    images,
    made,
    subjects,
    written,
)

INPUTS = torch.from_numpy(images(5)).float()[:, None]


@pytest.fixture(autouse=True, scope="module")
def still():
    """Keeps torch off busy cores."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def traced() -> dict[type, tuple[Graph, dict[str, torch.Tensor]]]:
    """Returns the graph and the tensors of each backbone."""
    return {kind: trace(made(kind), INPUTS[:2]) for kind in TRACED}


def rows(name: str, first: int = 0, leaves: tuple[str, ...] = ("weight", "bias")) -> dict:
    return {f"backbone.{name}.{leaf}": Channels(0, first) for leaf in leaves}


NORM = ("weight", "bias", "running_mean", "running_var")


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Plain, rows("last")),
        (Fire, rows("expand1x1") | rows("expand3x3", 8)),
        (Deep, rows("expand1x1") | rows("expand3x3", 8)),
        (Residual, rows("outer") | rows("norm", leaves=NORM)),
        (Attending, rows("pooler")),
        (
            Normed,
            rows("body.0", leaves=("weight",))
            | rows("body.1", leaves=NORM)
            | {"backbone.scale": Channels(0, 0)},
        ),
        (Flat, {}),
        (Grouped, {}),
        (Repeated, {}),
        (Pixels, {}),
    ],
)
def test_what_makes_one_feature_each_is_found(traced, kind, expected):
    assert analyse(traced[kind][0]).tensors == expected


@pytest.mark.parametrize(
    ("kind", "stop"),
    [
        (Residual, r"'relu' \(relu\) is also read whole"),
        (Flat, r"'flatten' \(flatten.using_ints\) cannot be cut by channel"),
        (Grouped, r"'linear_1' \(linear\) cannot be cut by channel"),
        (Repeated, r"'mul.*' \(mul.Tensor\) is also read whole"),
    ],
)
def test_what_stops_a_cut_is_said(traced, kind, stop):
    found = analyse(traced[kind][0]).stops
    assert len(found) == 1 and re.fullmatch(stop, found[0])


@settings(max_examples=30)
@given(st.sampled_from(TRACED), st.sets(st.integers(0, 11), min_size=1))
def test_a_cut_backbone_gives_the_kept_features(traced, kind, chosen):
    graph, tensors = traced[kind]
    features, cuts = np.array(sorted(chosen)), analyse(graph)
    smaller, indices = cut(graph, cuts, features)
    held = {name: torch.from_numpy(index) for name, index in indices.items()}
    for name, shape in smaller.tensors.items():
        if name not in indices:
            held[name] = tensors[name]
            if name in cuts.tensors:
                where = features - cuts.tensors[name].first
                where = where[(where >= 0) & (where < len(tensors[name]))]
                held[name] = tensors[name][where]
            assert held[name].shape == shape
    expected = made(kind)(INPUTS)[:, features]
    torch.testing.assert_close(PrunedNetwork(smaller.config(), held)(INPUTS), expected)


@pytest.mark.parametrize("kind", TRACED)
def test_a_graph_survives_json(traced, kind):
    graph = traced[kind][0]
    assert Graph.from_json(graph.to_json()) == graph


@pytest.mark.parametrize(
    ("kind", "hidden", "count"),
    [(Plain, (6, 4), 20), (Fire, (5,), 20), *((kind, (5,), 6) for kind in TRACED[2:])],
)
def test_costs_are_those_of_the_network_that_is_built(tmp_path: Path, kind, hidden, count):
    network = written(made(kind), tmp_path, hidden)
    for subject in subjects(network, count):
        config, tensors = build(subject, "standalone", "float32")  # counts parameters itself
        built = PrunedNetwork(config, tensors)
        X = subject.space.encode([subject.pattern])
        counted = subject.table.cost("flops", subject.space, X)[0]
        parameters = sum(parameter.numel() for parameter in built.parameters())
        assert parameters == subject.params(subject.pattern)
        with torch.inference_mode():
            assert executed_flops(lambda net=built: net(INPUTS[:1])) == pytest.approx(counted)


def test_a_prefix_of_the_features_is_cut_as_well(tmp_path: Path):
    network = written(made(Fire), tmp_path)
    space = build_space("k", SparseHead().sites(network), [GeneSpec("features", keep=(0.75,))])
    subject = HeadSubject.of(SparseHead(), network, space, space.pattern(np.array([1])))
    config, tensors = build(subject, "standalone", "float32")
    assert len(tensors["backbone.expand1x1.weight"]) == 8
    assert len(tensors["backbone.expand3x3.weight"]) == 1
    expected = subject.logits(made(Fire)(INPUTS).numpy())
    found = PrunedNetwork(config, tensors)(INPUTS).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_backbone_without_a_graph_is_never_cut(tmp_path: Path):
    network = written(made(Branching), tmp_path)
    dense, single = subjects(network, 4)[3], subjects(network, 4)[0]
    assert network.blueprint.graph is None
    assert "cannot be traced" in network.blueprint.reason
    # 12 features less 1, for 5 neurons.
    assert dense.params(dense.pattern) - single.params(single.pattern) >= 55
    X = dense.space.encode([single.pattern])
    backbone = [row for row in single.table.rows if row.name.startswith("backbone.")]
    assert not any(row.prunable for row in backbone)
    assert single.table.cost("flops", single.space, X)[0] > sum(
        row.weights["flops"] for row in backbone
    )


def test_flops_that_no_parameter_has_are_counted(tmp_path: Path):
    network = written(made(Attending), tmp_path)
    (other,) = (row for row in subjects(network, 4)[3].table.rows if not row.tensor)
    # Queries times keys and weights times values: 2 heads of size 4, 8 positions.
    assert other.weights["flops"] == 2 * (2 * 8 * 8 * 2 * 4)
