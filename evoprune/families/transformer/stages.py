"""A transformer as stages, without a forward written again.

The model's own forward is run once for a micro-batch with its blocks replaced by recorders, which
keep what each is called with: masks, rotary tables, position biases and windows come from there.
A block is then the library's own module, called so with other hidden states. What comes after the
blocks is the same forward once more, whose blocks hand on a given state, and in which what ran
before them answers what it answered then.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune.core.networks import Batch
from evoprune.families.transformer.layout import ATTN, MLP, Absent, Layout
from evoprune.families.transformer.running import (
    first_tensor,
    like,
    nothing,
    replaced,
    with_first,
)

if TYPE_CHECKING:
    import torch


class _Reached(Exception):
    """The forward has come as far as it was to go."""

    def __init__(self, tensor: "torch.Tensor") -> None:
        super().__init__()
        self.tensor = tensor


class Recorded:
    """What a micro-batch's forward does around its blocks; all states of it share one.

    Attributes:
        inputs: what the model read.
        calls: what each block is called with.
        before: what each module before the blocks gave, call by call.
    """

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        self.inputs = inputs
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.before: dict[str, list[Any]] = {}


@dataclass(frozen=True)
class State:
    """What one stage hands to the next."""

    hidden: "torch.Tensor"  # (B, T, H)
    shared: Recorded


class TransformerStages:
    """The stages of a transformer (``core.networks.Stages``).

    Args:
        model: of Hugging Face's.
        layout: its own, confirmed.
    """

    def __init__(self, model: Any, layout: Layout) -> None:
        self.model, self.layout = model, layout
        self.inputs, self.n_blocks = layout.inputs, len(layout.blocks)
        self._blocks = [model.get_submodule(block.module) for block in layout.blocks]
        self._head = model.get_submodule(layout.head)
        self._before = {name: model.get_submodule(name) for name in layout.before}
        self.vocabulary = int(self._head.weight.shape[0])
        self._options = {"use_cache": False} if takes(model, "use_cache") else {}
        self._last: Recorded | None = None
        self._absent: dict[tuple[int, str], dict[Any, Any]] = {}

    def block_of(self, site: str) -> int:
        """Returns the index of the block that a site lies in."""
        return int(site.split(".")[1])

    def positions(self, arrays: Mapping[str, np.ndarray]) -> int:
        """Returns the positions of an example: its tokens, or patches and what stands by them."""
        ids = arrays.get("input_ids")
        return self.layout.positions if ids is None else int(ids.shape[1])

    def whole(self, batch: Batch, **options: Any) -> Any:
        """Returns what the model's own forward says of a batch."""
        return self._run(self._read(batch), **options)

    def _read(self, batch: Batch) -> dict[str, Any]:
        """Returns what the model reads of a batch, in the types that it reads."""
        found = {name: batch[name] for name in self.inputs if name in batch}
        kind = self._head.weight.dtype
        return {n: t.to(kind) if t.is_floating_point() else t for n, t in found.items()}

    def _run(self, inputs: Mapping[str, Any], **options: Any) -> Any:
        return self.model(**inputs, **self._options, **options)

    def begin(self, batch: Batch) -> State:
        """Returns the state before the first block, with what every block is called with."""
        found = Recorded(self._read(batch))

        def recorder(gives: int, last: bool) -> Any:
            def forward(*args: Any, **kwargs: Any) -> Any:
                hidden = first_tensor(args, kwargs)
                found.calls.append((args, kwargs))
                if last:
                    raise _Reached(hidden)
                return like(gives, hidden)

            return forward

        def kept(name: str, module: Any) -> Any:
            own = type(module).forward

            def forward(*args: Any, **kwargs: Any) -> Any:
                given = own(module, *args, **kwargs)
                found.before.setdefault(name, []).append(given)
                return given

            return forward

        last = len(self._blocks) - 1
        watched = {
            block: recorder(self.layout.blocks[i].gives, i == last)
            for i, block in enumerate(self._blocks)
        }
        watched |= {module: kept(name, module) for name, module in self._before.items()}
        try:
            with replaced(watched):
                self._run(found.inputs)
        except _Reached as reached:
            return State(reached.tensor, found)
        raise AssertionError("the last block was not reached")

    def block(self, index: int, state: State, dropped: Collection[str]) -> State:
        """Returns the state after a block; a dropped part is not run and adds nothing."""
        name = f"layers.{index}"
        if name in dropped:
            return state
        args, kwargs = state.shared.calls[index]
        args, kwargs = with_first(args, kwargs, state.hidden)
        stubs: dict[Any, Any] = {}
        for part in (ATTN, MLP):
            if f"{name}.{part}" in dropped:
                stubs |= self._stubs(index, part)
        with replaced(stubs):
            given = self._blocks[index](*args, **kwargs)
        return State(given[0] if isinstance(given, tuple) else given, state.shared)

    def _stubs(self, index: int, part: str) -> dict[Any, Any]:
        """Returns the forwards that take the place of a dropped part's modules."""
        if (index, part) not in self._absent:
            block = self.layout.blocks[index]
            self._absent[index, part] = {
                self.model.get_submodule(f"{block.module}.{name}"): _standing_for(one)
                for name, one in block.absent(part).items()
            }
        return self._absent[index, part]

    def features(self, state: State) -> "torch.Tensor":
        """Returns what the head reads, (B, T, H) or (B, H)."""

        def reached(features: "torch.Tensor") -> Any:
            raise _Reached(features)

        self._last = state.shared
        try:
            self._tail(state.shared, state.hidden, reached)
        except _Reached as found:
            return found.tensor
        raise AssertionError("the head was not reached")

    def logits(self, features: "torch.Tensor") -> "torch.Tensor":
        """Returns the logits (…, V) of features (…, H).

        What the model does to what its head says, such as capping it, is done; features must then
        be of the micro-batch that ran last.
        """
        own = type(self._head).forward
        if self.layout.bare_head:
            return own(self._head, features)
        assert self._last is not None  # features come first
        hidden = first_tensor(*self._last.calls[0])
        given = self._tail(self._last, hidden, lambda *_: own(self._head, features))
        return given.logits

    def _tail(self, recorded: Recorded, hidden: "torch.Tensor", head: Any) -> Any:
        """Runs what comes after the blocks, with a head of one's own."""
        counts = dict.fromkeys(recorded.before, 0)

        def again(name: str) -> Any:
            def forward(*args: Any, **kwargs: Any) -> Any:
                at = counts[name]
                counts[name] += 1
                return recorded.before[name][at]

            return forward

        def handing_on(gives: int) -> Any:
            return lambda *args, **kwargs: like(gives, hidden)

        forwards: dict[Any, Any] = {
            module: handing_on(block.gives)
            for module, block in zip(self._blocks, self.layout.blocks, strict=True)
        }
        forwards |= {self._before[name]: again(name) for name in recorded.before}
        forwards[self._head] = head
        with replaced(forwards):
            return self._run(recorded.inputs)


def _standing_for(absent: Absent) -> Any:
    """Returns the forward of what stands for a module."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        given = first_tensor(args, kwargs)
        if absent.how != "same":
            given = nothing(given, absent.width if absent.how == "width" else None)
        return like(absent.gives, given)

    return forward


def takes(model: Any, name: str) -> bool:
    """Returns whether a model's forward has an argument of a name."""
    import inspect

    return name in inspect.signature(type(model).forward).parameters
