"""A backbone as data: its steps, traced once, so that it can be cut and run without its class."""

import contextlib
import io
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from evoprune.families.flops import executed_flops
from evoprune.families.sparse_head.modeling_head import PYTHON, PrunedNetwork, named, operation

INPUT, OWNER = "images", "backbone"
# Operations that multiply with their second argument, a row an output.
LAYERS = ("linear", "conv1d", "conv2d", "conv3d")
TOLERANCE = 1e-4
# They hand on their first argument; dropout only where it is not in training.
NOTHING = ("aten.alias", "aten.lift_fresh_copy", "aten.dropout")
# What the two spellings of a batch norm call it; the second is that of functional graphs.
BATCH_NORM = "aten._native_batch_norm_legit_no_training"


class UntraceableError(Exception):
    """A backbone has no graph; the message is half a sentence for the user."""


@dataclass(frozen=True)
class Step:
    """One operation.

    Attributes:
        name: of its value.
        op: the operation, such as ``conv2d`` (``modeling_head`` lists them).
        args, kwargs: with references to values and tensors, as there.
        shape: of the value, -1 for the batch; None if it is no tensor.
    """

    name: str
    op: str
    args: list[Any]
    kwargs: dict[str, Any]
    shape: tuple[int, ...] | None = None

    def to_json(self) -> list[Any]:
        """Returns the step as JSON."""
        return [self.name, self.op, self.args, self.kwargs]


@dataclass(frozen=True)
class Graph:
    """A network as steps.

    Attributes:
        shape: of an example of its input.
        steps: in the order that they are run in.
        output: the name of the value that comes out.
        tensors: the shape of every tensor that a step reads, by name.
        buffers: which of them are no parameters.
    """

    shape: tuple[int, ...]
    steps: tuple[Step, ...]
    output: str
    tensors: Mapping[str, tuple[int, ...]]
    buffers: tuple[str, ...] = ()
    input: str = INPUT

    def shape_of(self, name: str) -> tuple[int, ...] | None:
        """Returns the shape of what a reference names (``@conv2d``, ``%output.bias``)."""
        if name[0] == "%":
            return self.tensors[name[1:]]
        if name[1:] == self.input:
            return (-1, *self.shape)
        return self._shapes[name[1:]]

    @cached_property
    def _shapes(self) -> dict[str, tuple[int, ...] | None]:
        return {step.name: step.shape for step in self.steps}

    def config(self) -> dict[str, Any]:
        """Returns what ``modeling_head.PrunedNetwork`` is made of, but for the tensors."""
        return {
            "input": {"name": self.input, "shape": list(self.shape)},
            "output": self.output,
            "buffers": list(self.buffers),
            "steps": [step.to_json() for step in self.steps],
        }

    def to_json(self) -> dict[str, Any]:
        """Returns the graph as JSON."""
        shapes = [None if step.shape is None else list(step.shape) for step in self.steps]
        tensors = {name: list(shape) for name, shape in self.tensors.items()}
        return self.config() | {"shapes": shapes, "tensors": tensors}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Graph":
        """Returns the graph that ``to_json`` wrote."""
        steps = [
            Step(name, op, args, kwargs, None if shape is None else tuple(shape))
            for (name, op, args, kwargs), shape in zip(data["steps"], data["shapes"], strict=True)
        ]
        return cls(
            shape=tuple(data["input"]["shape"]),
            steps=tuple(steps),
            output=data["output"],
            tensors={name: tuple(shape) for name, shape in data["tensors"].items()},
            buffers=tuple(data["buffers"]),
            input=data["input"]["name"],
        )


def trace(backbone: nn.Module, images: torch.Tensor) -> tuple[Graph, dict[str, torch.Tensor]]:
    """Returns a backbone's graph, for batches of any size, and the tensors that it reads.

    Args:
        backbone: maps images to features (N, D).
        images: a batch of two or more.

    Raises:
        UntraceableError: it has none, it runs an operation that is not listed, or the graph
            computes something else than the backbone.
    """
    program = _exported(backbone, images)
    graph, tensors = _Reader(backbone, program).graph(tuple(images.shape[1:]))
    with torch.no_grad():
        expected = backbone(images)
        found = PrunedNetwork(graph.config(), tensors)(images)
    # Negated so that NaN fails.
    if not (found - expected).abs().max() <= TOLERANCE * expected.abs().max().clamp_min(1e-9):
        raise UntraceableError("its graph computes something else")
    return graph, tensors


def flops_by_tensor(
    graph: Graph, tensors: Mapping[str, torch.Tensor], images: torch.Tensor
) -> Counter[str]:
    """Returns the FLOPs of one pass by the kernel that a step multiplies with; else under ''."""
    network, found = PrunedNetwork(graph.config(), tensors), Counter[str]()

    def counted(step: Step, call: Callable[..., Any]) -> Callable[..., Any]:
        layer = step.op.partition(".")[0] in LAYERS and step.args[1][0] == "%"

        def run(*args: Any, **kwargs: Any) -> Any:
            kept: list[Any] = []
            flops = executed_flops(lambda: kept.append(call(*args, **kwargs)))
            found[step.args[1][1:] if layer else ""] += flops
            return kept[0]

        return run

    network._calls = [counted(s, c) for s, c in zip(graph.steps, network._calls, strict=True)]
    with torch.no_grad():
        network(images)
    return found


def _exported(backbone: nn.Module, images: torch.Tensor) -> Any:
    """Returns the program that ``torch.export`` finds; nothing in it changes its arguments."""
    batch = torch.export.Dim("batch")
    with _quiet(), torch.no_grad():
        try:
            program = torch.export.export(
                backbone, (images,), dynamic_shapes=({0: batch},), strict=False
            )
            if any(_changes(node) for node in program.graph.nodes):
                program = program.run_decompositions({})
        except Exception as error:  # whatever a backbone or torch may raise
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            said = " ".join(first.split()).split(". ")[0][:200].rstrip(".")
            raise UntraceableError(f"torch.export says: {said}") from error
    signature = program.graph_signature
    if signature.buffers_to_mutate or signature.user_inputs_to_mutate:
        raise UntraceableError("it writes into its buffers or its input")
    return program


def _changes(node: Any) -> bool:
    schema = getattr(node.target, "_schema", None)
    return node.op == "call_function" and schema is not None and schema.is_mutable


class _Reader:
    """Reads a program of ``torch.export`` into steps."""

    def __init__(self, backbone: nn.Module, program: Any) -> None:
        self.program = program
        self.names: dict[str, str] = {}  # of a node → its reference
        self.tensors: dict[str, torch.Tensor] = {}
        signature = program.graph_signature
        owned = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        held = {**program.state_dict, **program.constants}
        first: dict[Any, str] = {}  # of tied tensors only the first has a name
        for placeholder, name in owned.items():
            tensor = held[name].detach()
            key = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else name
            known = first.setdefault(key, f"{OWNER}.{name}")
            self.names[placeholder] = f"%{known}"
            self.tensors[known] = tensor.contiguous()
        for name in signature.user_inputs:
            self.names[name] = f"@{INPUT}"
        self.parameters = {
            self.names[placeholder][1:] for placeholder in signature.inputs_to_parameters
        }

    def graph(self, shape: tuple[int, ...]) -> tuple[Graph, dict[str, torch.Tensor]]:
        """Returns the graph and the tensors that it reads."""
        nodes = list(self.program.graph.nodes)
        (output,) = self.program.graph_signature.user_outputs
        needed, steps = _needed(nodes, output), []
        for node in nodes:
            if node.op == "call_function" and node in needed:
                step = self._step(node)
                if step is not None:
                    steps.append(step)
                    self.names[node.name] = f"@{step.name}"
        last = self.names.get(output)
        if last is None or last not in {f"@{step.name}" for step in steps}:
            raise UntraceableError("it computes nothing")
        read = [name[1:] for s in steps for name in named([s.args, s.kwargs]) if name[0] == "%"]
        tensors = {name: self.tensors[name] for name in dict.fromkeys(read)}
        return Graph(
            shape=shape,
            steps=tuple(steps),
            output=last[1:],
            tensors={name: tuple(tensor.shape) for name, tensor in tensors.items()},
            buffers=tuple(name for name in tensors if name not in self.parameters),
        ), tensors

    def _step(self, node: Any) -> Step | None:
        """Returns the step of a node; None if it does nothing and its argument stands for it."""
        name, args = _name(node.target), list(node.args)
        base = name.rpartition(".")[0] or name
        copies = base == "aten.clone" and not node.kwargs
        if copies or (base in NOTHING and not (len(args) > 2 and args[2])):
            self.names[node.name] = self._said(args[0])
            return None
        if base == BATCH_NORM:
            name, args = "aten.batch_norm.default", [*args[:5], False, *args[5:], False]
        elif name == "python.getitem" and _name(args[0].target).startswith(BATCH_NORM):
            self.names[node.name] = self._said(args[0])
            return None
        op = name.removeprefix("aten.").removesuffix(".default")
        try:
            operation(op)
        except ValueError:
            raise UntraceableError(f"it runs '{op}', which is not listed") from None
        kwargs = {key: self._said(one) for key, one in node.kwargs.items() if one is not None}
        kwargs.pop("pin_memory", None)
        return Step(node.name, op, [self._said(one) for one in args], kwargs, _shape(node))

    def _said(self, argument: Any) -> Any:
        """Returns an argument as JSON."""
        if isinstance(argument, torch.fx.Node):
            if argument.name not in self.names:
                raise UntraceableError(f"an operation of it reads '{argument.name}', no tensor")
            return self.names[argument.name]
        if isinstance(argument, (list, tuple)):
            return [self._said(one) for one in argument]
        if isinstance(argument, str):
            return f"={argument}"
        if isinstance(argument, torch.device):
            return "$device"
        if isinstance(argument, (torch.dtype, torch.layout, torch.memory_format)):
            return f"${str(argument).removeprefix('torch.')}"
        if isinstance(argument, float) and argument - argument != 0:
            return f"${argument}"
        if argument is None or isinstance(argument, (bool, int, float)):
            return argument
        raise UntraceableError(f"an operation of it is given {argument!r:.60}")


def _needed(nodes: Sequence[Any], output: str) -> set[Any]:
    """Returns the nodes that the output depends on."""
    found = {node for node in nodes if node.name == output}
    for node in reversed(nodes):
        if node in found:
            found.update(node.all_input_nodes)
    return found


def _name(target: Any) -> str:
    """Returns ``aten.conv2d.default`` or ``python.mul``."""
    return next((name for name, function in PYTHON.items() if function is target), str(target))


def _shape(node: Any) -> tuple[int, ...] | None:
    """Returns the shape of a node's value, -1 where it depends on the batch."""
    value = node.meta.get("val")
    if isinstance(value, (list, tuple)) and _name(node.target).startswith(BATCH_NORM):
        value = value[0]
    if not isinstance(value, torch.Tensor):
        return None
    return tuple(extent if isinstance(extent, int) else -1 for extent in value.shape)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what torch says while it tries to trace off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    heard = io.StringIO()
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(heard),
            contextlib.redirect_stderr(heard),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
