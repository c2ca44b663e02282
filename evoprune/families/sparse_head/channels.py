"""Which parts of a backbone make one feature each, and the backbone without some of them.

To keep some features is to select channels of the last value. That selection is pushed back
through the steps: past what treats channels alike (activations, pooling, batch norm, a mean over
places, concatenation …), into the convolution or linear layer that makes them, whose kernel then
has fewer rows. Where a step mixes channels, or a value is also read whole elsewhere (the other
branch of a residual sum), the selection stays where it got to, as a step of its own.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from evoprune.families.sparse_head.graph import LAYERS, Graph, Step
from evoprune.families.sparse_head.modeling_head import named

_ALIKE = """
relu relu6 elu celu selu gelu silu mish leaky_relu hardtanh hardswish hardsigmoid
sigmoid log_sigmoid tanh softplus add sub rsub mul div neg abs sign exp log log1p expm1 sqrt
rsqrt square pow reciprocal sin cos erf floor ceil round clamp clamp_min clamp_max
maximum minimum clone contiguous to _to_copy detach
"""
ALIKE = frozenset(_ALIKE.split())
PLACES = ("max_pool", "avg_pool", "adaptive_avg_pool")
REDUCTIONS = ("mean", "sum", "amax", "amin")
RESHAPES = ("view", "reshape", "flatten", "squeeze", "unsqueeze")
GROUPS = 6  # which argument of a convolution


@dataclass(frozen=True)
class Channels:
    """Entry i along an axis of a tensor or value belongs to the feature ``first + i``.

    Attributes:
        axis: which axis.
        first: the feature of its first entry.
    """

    axis: int
    first: int


# What a step reads, with the channels that it needs of it; None: all that there is.
Reads = list[tuple[str, Channels | None]]


@dataclass(frozen=True)
class Cuts:
    """Where a graph can be cut.

    Attributes:
        tensors: the tensors that lose entries, by name.
        values: the values that lose channels, by step.
        reads: for each of these steps what it reads.
        stops: what kept the selection from going further back, a clause each.
    """

    tensors: Mapping[str, Channels] = field(default_factory=dict)
    values: Mapping[str, Channels] = field(default_factory=dict)
    reads: Mapping[str, Reads] = field(default_factory=dict)
    stops: tuple[str, ...] = ()


def analyse(graph: Graph) -> Cuts:
    """Returns where a backbone's graph can be cut if some of its features are dropped."""
    wanted: dict[str, list[Channels | None]] = defaultdict(list)
    wanted[f"@{graph.output}"].append(Channels(1, 0))
    readers = Counter(name for step in graph.steps for name in named([step.args, step.kwargs]))
    values: dict[str, Channels] = {}
    reads: dict[str, Reads] = {}
    stops: list[str] = []
    for step in reversed(graph.steps):
        asked = wanted[f"@{step.name}"]
        channels, whole = _agreed(asked), _whole(step)
        pushed = whole if channels is None else _pushed(graph, step, channels, readers)
        if channels is not None and pushed is not None:
            values[step.name], reads[step.name] = channels, pushed
        elif any(asked):
            cause = "is also read whole" if channels is None else "cannot be cut by channel"
            stops.append(f"'{step.name}' ({step.op}) {cause}")
        for name, need in pushed or whole:
            wanted[name].append(need)
    tensors = {name: _agreed(wanted[f"%{name}"]) for name in graph.tensors}
    found = {name: channels for name, channels in tensors.items() if channels is not None}
    return Cuts(found, values, reads, tuple(stops))


def _agreed(asked: Sequence[Channels | None]) -> Channels | None:
    """Returns the channels that all who read a value need; None if it must be whole."""
    return asked[0] if asked and all(one == asked[0] for one in asked) else None


def _whole(step: Step) -> Reads:
    return [(name, None) for name in named([step.args, step.kwargs])]


def _pushed(graph: Graph, step: Step, out: Channels, readers: Mapping[str, int]) -> Reads | None:
    """Returns what a step reads to give only some channels, or None if it must give all."""
    base = step.op.partition(".")[0]
    if base in LAYERS:
        pushed = _made(step, out, readers)
    else:
        rule = _rule(base)
        plain = rule is not None and step.shape is not None and step.shape[out.axis] > 1
        pushed = rule(graph, step, out) if rule is not None and plain else None
    named_so = pushed is not None and [n for n, _ in pushed] == [n for n, _ in _whole(step)]
    return pushed if named_so else None


def _rule(base: str) -> Callable[[Graph, Step, Channels], Reads | None] | None:
    if base in ALIKE:
        return _alike
    if base == "batch_norm":
        return _normed
    if base == "cat":
        return _joined
    if base in REDUCTIONS:
        return _reduced
    if base in RESHAPES:
        return _reshaped
    if base in ("permute", "transpose"):
        return _permuted
    return _pooled if base.rstrip("123d") in PLACES else None


def _made(step: Step, out: Channels, readers: Mapping[str, int]) -> Reads | None:
    """A layer that makes channels: its kernel and bias lose rows, its input stays."""
    inputs, weight, *rest = step.args
    bias = rest[0] if rest else None
    shape, held = step.shape, [name for name in (weight, bias) if name is not None]
    groups = step.args[GROUPS] if len(step.args) > GROUPS else 1
    axis = len(shape or ()) - 1 if step.op == "linear" else 1
    if out.axis != axis or step.kwargs or (step.op != "linear" and groups != 1):
        return None
    if any(name[0] != "%" or readers[name] > 1 for name in held):
        return None
    return [(inputs, None), *((name, Channels(0, out.first)) for name in held)]


def _alike(graph: Graph, step: Step, out: Channels) -> Reads | None:
    """Each entry by itself; what is broadcast along the channels is read whole."""
    assert step.shape is not None
    reads: Reads = []
    for name in named([step.args, step.kwargs]):
        shape = graph.shape_of(name)
        axis = out.axis - (len(step.shape) - len(shape or ()))
        whole = shape is None or axis < 0 or shape[axis] != step.shape[out.axis]
        reads.append((name, None if whole else Channels(axis, out.first)))
    return reads


def _normed(graph: Graph, step: Step, out: Channels) -> Reads | None:
    """A batch norm: scale, shift, mean and variance lose entries with its channels."""
    inputs, *held = step.args[:5]
    if out.axis != 1 or step.args[5] or step.kwargs:
        return None
    if any(name is not None and name[0] != "%" for name in held):
        return None
    return [(inputs, out), *((name, Channels(0, out.first)) for name in held if name is not None)]


def _joined(graph: Graph, step: Step, out: Channels) -> Reads | None:
    """A concatenation: along the channels each part has features of its own."""
    parts, *rest = step.args
    axis = (rest[0] if rest else 0) % len(step.shape or ())
    first = out.first
    reads: Reads = []
    for name in parts:
        shape = graph.shape_of(name)
        if shape is None or len(shape) != len(step.shape or ()):
            return None
        reads.append((name, Channels(out.axis, first)))
        first += shape[axis] if axis == out.axis else 0
    return reads


def _reduced(graph: Graph, step: Step, out: Channels) -> Reads | None:
    """A mean (or sum, or extreme) over other axes than the channels'."""
    shape = graph.shape_of(step.args[0])
    if shape is None or len(step.args) < 2 or step.args[1] is None:
        return None
    over = step.args[1] if isinstance(step.args[1], list) else [step.args[1]]
    gone = {axis % len(shape) for axis in over}
    keeps = len(step.args) > 2 and step.args[2]
    left = [axis for axis in range(len(shape)) if keeps or axis not in gone]
    if left[out.axis] in gone:
        return None
    return [(step.args[0], Channels(left[out.axis], out.first))]


def _reshaped(graph: Graph, step: Step, out: Channels) -> Reads | None:
    """Another shape in which the channels still are one axis."""
    before, after = graph.shape_of(step.args[0]), step.shape
    assert after is not None
    inner = after[out.axis + 1 :]
    sizes: Reads = [(name, None) for name in named(step.args[1:])]
    for axis, extent in enumerate(before or ()):
        behind = (before or ())[axis + 1 :]
        same = extent == after[out.axis] and math.prod(behind) == math.prod(inner)
        if same and -1 not in (*behind, *inner):
            return [(step.args[0], Channels(axis, out.first)), *sizes]
    return None


def _permuted(graph: Graph, step: Step, out: Channels) -> Reads | None:
    count = len(step.shape or ())
    if step.op.startswith("permute"):
        order = [axis % count for axis in step.args[1]]
    else:
        order = list(range(count))
        one, other = (axis % count for axis in step.args[1:3])
        order[one], order[other] = other, one
    return [(step.args[0], Channels(order[out.axis], out.first))]


def _pooled(graph: Graph, step: Step, out: Channels) -> Reads | None:
    """Pooling over the places of each channel (N, C, …)."""
    dims = int(step.op.partition(".")[0][-2])
    if out.axis != 1 or len(step.shape or ()) != dims + 2:
        return None
    return [(step.args[0], out)]


@dataclass
class _Cutter:
    """Cuts one graph for one set of features."""

    graph: Graph
    cuts: Cuts
    features: np.ndarray
    steps: list[Step] = field(default_factory=list)
    kept: dict[str, np.ndarray] = field(default_factory=dict)

    def run(self) -> tuple[Graph, dict[str, np.ndarray]]:
        for step in self.graph.steps:
            channels = self.cuts.values.get(step.name)
            if channels is None:
                self.steps.append(step)
            elif len(self.inside(step.shape, channels)):
                self.steps.append(self.cut(step, channels))
        output = f"@{self.graph.output}"
        if self.graph.output not in self.cuts.values:
            output = self.selected(output, Channels(1, 0))
        read = {name for step in self.steps for name in named([step.args, step.kwargs])}
        tensors = {
            name: self.size(shape, self.cuts.tensors.get(name))
            for name, shape in self.graph.tensors.items()
            if f"%{name}" in read
        } | {name: index.shape for name, index in self.kept.items()}
        buffers = (*(name for name in self.graph.buffers if name in tensors), *self.kept)
        made = replace(
            self.graph,
            steps=tuple(self.steps),
            output=output[1:],
            tensors=tensors,
            buffers=buffers,
        )
        return made, self.kept

    def inside(self, shape: tuple[int, ...] | None, channels: Channels) -> np.ndarray:
        """Returns which entries along the channels' axis stay."""
        assert shape is not None
        index = self.features - channels.first
        return index[(index >= 0) & (index < shape[channels.axis])]

    def size(self, shape: tuple[int, ...], channels: Channels | None) -> tuple[int, ...]:
        if channels is None:
            return shape
        left = len(self.inside(shape, channels))
        return (*shape[: channels.axis], left, *shape[channels.axis + 1 :])

    def cut(self, step: Step, channels: Channels) -> Step:
        """Returns a step that gives only the channels that stay."""
        assert step.shape is not None
        names = iter([self.read(name, need) for name, need in self.cuts.reads[step.name]])
        args, kwargs = _renamed(step.args, names), _renamed(step.kwargs, names)
        shape = self.size(step.shape, channels)
        if step.op in ("view", "reshape") and args[1][channels.axis] != -1:
            args[1][channels.axis] = shape[channels.axis]
        return replace(step, args=args, kwargs=kwargs, shape=shape)

    def read(self, name: str, need: Channels | None) -> str | None:
        """Returns what a step that was cut reads instead; None for what has no channel left."""
        held = self.cuts.tensors if name[0] == "%" else self.cuts.values
        if need is None:
            return name
        if not len(self.inside(self.graph.shape_of(name), need)):
            return None
        return name if name[1:] in held else self.selected(name, need)

    def selected(self, name: str, channels: Channels) -> str:
        """Returns the name of a step that selects channels of a value, or of a tensor."""
        shape = self.graph.shape_of(name)
        index = self.inside(shape, channels)
        assert shape is not None
        if len(index) == shape[channels.axis]:
            return name
        stop = channels.first + shape[channels.axis]
        held = f"kept.{channels.first}_{stop}"
        self.kept[held] = index
        made = f"{name[1:].replace('.', '_')}_{channels.first}_axis{channels.axis}"
        if made not in {step.name for step in self.steps}:
            args = [name, channels.axis, f"%{held}"]
            self.steps.append(Step(made, "index_select", args, {}, self.size(shape, channels)))
        return f"@{made}"


def _renamed(argument: Any, names: Iterator[str | None]) -> Any:
    """Returns an argument with other references in their order; lists lose those that are None."""
    if isinstance(argument, list):
        found = [(one, _renamed(one, names)) for one in argument]
        return [new for one, new in found if one is None or new is not None]
    if isinstance(argument, dict):
        return {key: _renamed(one, names) for key, one in argument.items()}
    return next(names) if any(named(argument)) else argument


def cut(graph: Graph, cuts: Cuts, features: np.ndarray) -> tuple[Graph, dict[str, np.ndarray]]:
    """Returns the graph that gives only some features, and the indices that it selects by.

    Only what has no channel left is taken out. What made something for it alone stays, since the
    cost table counts it.

    Args:
        graph: of the backbone.
        cuts: where it can be cut.
        features: those to keep, ascending; at least one.
    """
    return _Cutter(graph, cuts, np.asarray(features, dtype=np.int64)).run()
