"""Backbones become data, and data runs nothing but the listed operations."""

import json
import warnings

import pytest
import torch
from torch import nn

from evoprune.families.sparse_head.graph import UntraceableError, trace
from evoprune.families.sparse_head.heads import one_thread
from evoprune.families.sparse_head.modeling_head import OPERATIONS, PrunedNetwork, operation
from tests.families.sparse_head.backbones import TRACED, Branching, Normed, Plain, made

INPUTS = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(3))


@pytest.fixture(autouse=True, scope="module")
def still():
    """Keeps torch off busy cores."""
    with one_thread():
        yield


class Fixed(nn.Module):
    """It takes batches of two only."""

    def forward(self, images):
        return images.reshape(2, 64)


class Remembering(nn.Module):
    """It writes into a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, images):
        self.seen += 1
        return images.flatten(1) * self.seen


class Drawing(nn.Module):
    """It draws at random."""

    def forward(self, images):
        return images.flatten(1) + torch.rand(64)


class Tied(nn.Module):
    """Two layers share a kernel; another is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
        self.other.weight = self.one.weight
        self.idle = nn.Linear(3, 3)

    def forward(self, images):
        return self.other(torch.relu(self.one(images[:, 0].mean(1))))


def config(**changes) -> dict:
    """Returns a network of one layer."""
    steps = [["out", "linear", ["@images", "%w"], {}]]
    plain = {"input": {"name": "images", "shape": [3]}, "output": "out", "buffers": []}
    return plain | {"steps": steps} | changes


@pytest.mark.parametrize("kind", TRACED)
@pytest.mark.parametrize("count", [1, 4])
def test_steps_compute_what_the_backbone_computes(kind, count):
    backbone = made(kind)
    graph, tensors = trace(backbone, INPUTS[:2])
    as_json = json.loads(json.dumps(graph.config(), allow_nan=False))
    found = PrunedNetwork(as_json, tensors)(INPUTS[:count])
    assert (found != 0).float().mean() > 0.7
    torch.testing.assert_close(found, backbone(INPUTS[:count]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Branching, r"torch\.export says"),
        (Fixed, r"torch\.export says"),
        (Remembering, "writes into its buffers"),
        (Drawing, "it runs 'rand', which is not listed"),
    ],
)
def test_what_has_no_graph_says_why_and_prints_nothing(kind, why, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UntraceableError, match=why):
            trace(made(kind), INPUTS[:2])
    assert capfd.readouterr() == ("", "")


def test_tied_tensors_are_held_once_and_idle_ones_not_at_all():
    _, tensors = trace(made(Tied), INPUTS[:2])
    assert list(tensors) == ["backbone.one.weight"]


def test_dropout_and_changed_arguments_are_gone():
    graph, _ = trace(made(Normed), INPUTS[:2])
    operations = {step.op for step in graph.steps}
    assert "batch_norm" in operations and "relu" in operations
    assert not operations & {"dropout", "relu_", "clone"}


@pytest.mark.parametrize(
    "name",
    ["from_file", "save", "rand", "conv2d.__class__", "linear.nothing", "relu_", "os.system", ""],
)
def test_only_listed_operations_run(name):
    with pytest.raises(ValueError, match="none of the operations"):
        operation(name)
    steps = [["x", name, [], {}], ["out", "linear", ["@images", "%w"], {}]]
    with pytest.raises(ValueError, match="none of the operations"):
        PrunedNetwork(config(steps=steps), {"w": torch.rand(2, 3)})


def test_no_listed_operation_changes_its_arguments_or_reads_a_file():
    for name in OPERATIONS:
        packet = getattr(torch.ops.aten, name)
        default = packet.overloads()[0] if "default" not in packet.overloads() else "default"
        schema = getattr(packet, default)._schema
        assert not schema.is_mutable
        assert not any(argument.name in ("filename", "generator") for argument in schema.arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": [["out", "linear", ["@later", "%w"], {}]]}, "before it is there"),
        ({"output": "nothing"}, "do not belong together"),
        ({"steps": [["out", "relu", ["@images"], {}]]}, r"do not belong together: \['w'\]"),
        ({"steps": [["out", "linear", ["@images", "%v"], {}]]}, "do not belong together"),
    ],
)
def test_steps_and_tensors_must_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        PrunedNetwork(config(**changes), {"w": torch.rand(2, 3)})


@pytest.mark.parametrize("constant", ["load", "__builtins__", "ops", "hub"])
def test_constants_are_dtypes_and_their_like_only(constant):
    steps = [["a", "to.dtype", ["@images", f"${constant}"], {}]]
    steps.append(["out", "linear", ["@a", "%w"], {}])
    with pytest.raises(ValueError, match="no constant of torch"):
        PrunedNetwork(config(steps=steps), {"w": torch.rand(2, 3)})(torch.rand(1, 3))


def test_inputs_of_another_shape_are_refused():
    network = PrunedNetwork(config(), {"w": torch.rand(2, 3)})
    with pytest.raises(ValueError, match=r"\(2, 4\); this network reads \(N, 3\)"):
        network(torch.rand(2, 4))


def test_values_are_freed_when_nothing_reads_them_any_more():
    graph, tensors = trace(made(Plain), INPUTS[:2])
    network, alive = PrunedNetwork(graph.config(), tensors), []
    whole = network._given

    def watched(argument, values):
        alive.append(len(values))
        return whole(argument, values)

    network._given = watched
    network(INPUTS)
    assert max(alive) == 1
