"""Holds what was found in a transformer against numbers; what they do not confirm is left out."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune.core.costs import entries
from evoprune.core.networks import Batch
from evoprune.families.transformer.layout import ATTN, MLP, Block, Layout, Linear
from evoprune.families.transformer.rows import cuts
from evoprune.families.transformer.stages import State, TransformerStages

if TYPE_CHECKING:
    import torch

# Of the largest entry of what a block gives: float32, and coarser types.
TOLERANCE = {"torch.float64": 1e-9, "torch.float32": 1e-4}


def confirmed(model: Any, layout: Layout, batch: Batch) -> Layout:
    """Returns the layout with what numbers confirm, and which tensors need which part.

    For every part of every block: dropping it is as good as an output projection of zeros; a block
    whose heads or channels are cut gives what it gives when the rest reads zeros there. Tensors
    that change nothing of a block without a part go with that part.
    """
    import torch

    stages = TransformerStages(model, layout)
    made = []
    with torch.no_grad():
        state = stages.begin(batch)
        for index, block in enumerate(layout.blocks):
            checked = _checked(stages, index, block, state)
            made.append(checked)
            state = stages.block(index, state, ())
        layout = replace(layout, blocks=tuple(made))
        stages = TransformerStages(model, layout)
        features = stages.features(state)
        bare = stages.layout.head
        said = type(model.get_submodule(bare)).forward(model.get_submodule(bare), features)
        whole = stages.logits(features)
    bare_head = said.shape == whole.shape and bool(torch.equal(said, whole))
    return replace(layout, bare_head=bare_head)


def _checked(stages: TransformerStages, index: int, block: Block, state: State) -> Block:
    """Returns a block with the parts that numbers confirm."""
    whys, gates = dict(block.why_not), dict[str, str]()
    for part in (ATTN, MLP):
        held = block.attention if part == ATTN else block.mlp
        if held is None:
            continue
        site = f"layers.{index}.{part}"
        why = _dropping(stages, index, block, held.output, site, state)
        if why is not None:
            whys[part] = why
            block = replace(block, attention=None) if part == ATTN else replace(block, mlp=None)
            continue
        gates |= dict.fromkeys(_idle(stages, index, block, site, state), part)
        block, why = _cut_as_well(stages, index, block, part, state)
        if why is not None:
            whys["heads" if part == ATTN else "channels"] = why
    return replace(block, gates=gates, why_not=whys)


def _cut_as_well(
    stages: TransformerStages, index: int, block: Block, part: str, state: State
) -> tuple[Block, str | None]:
    """Returns the block as its units can be cut, or why they cannot be."""
    name = "attention" if part == ATTN else "mlp"
    held = getattr(block, name)
    ways = [held]
    if part == ATTN and held.fused:
        ways.append(replace(held, fused="interleaved"))
    why = None
    for way in ways:
        tried = replace(block, **{name: way})
        why = _cutting(stages, index, tried, part, state)
        if why is None:
            return tried, None
    return replace(block, **{name: replace(held, cut=False)}), why


def _cutting(
    stages: TransformerStages, index: int, block: Block, part: str, state: State
) -> str | None:
    """Returns why a block without some units is not the block that reads zeros there."""
    held = block.attention if part == ATTN else block.mlp
    assert held is not None  # a part that was not found has no units
    site = f"layers.{index}.{part}.{'heads' if part == ATTN else 'channels'}"
    units = block.attention.groups if part == ATTN else block.mlp.channels  # type: ignore[union-attr]
    if units < 2:
        return "there is one"
    kept = np.arange(0, units, 2)
    tensors = _tensors(stages.model, block, index, {site: kept})
    output = stages.model.get_submodule(f"{block.module}.{held.output.name}")
    blank = output.weight.detach().clone()
    read = cuts(block, index)[held.output.name][1]
    assert read is not None  # it reads the units
    gone = np.ones(blank.shape[held.output.reads], dtype=bool)
    gone[entries(read, {site: kept})] = False
    blank.index_fill_(held.output.reads, torch_index(gone, blank), 0.0)
    attrs = {
        (stages.model.get_submodule(one.module), one.name): one.per_unit * len(kept)
        for one in block.attrs
        if site.endswith(one.site)
    }
    try:
        with swapped(tensors, attrs):
            ours = stages.block(index, state, ()).hidden
    except Exception as caught:  # whatever a module may raise that is given fewer
        reason = " ".join(str(caught).split())[:100]
        return f"cut, the block fails: {type(caught).__name__}: {reason}"
    with swapped({(output, "weight"): blank}, {}):
        theirs = stages.block(index, state, ()).hidden
    error = relative(ours, theirs)
    if not error <= TOLERANCE.get(str(ours.dtype), 5e-2):
        return f"cut, the block gives something else (by {error:.1e} of the largest entry)"
    return None


def _tensors(
    model: Any, block: Block, index: int, kept: Mapping[str, np.ndarray]
) -> "dict[tuple[Any, str], torch.Tensor]":
    """Returns the tensors of a block's linear layers that lose units, cut."""
    found = {}
    for name, (made, read, reads) in cuts(block, index).items():
        module = model.get_submodule(f"{block.module}.{name}")
        for leaf, parameter in module._parameters.items():
            dims = {1 - reads: made, reads: read} if leaf == "weight" else {0: made}
            tensor = parameter
            for axis, dim in dims.items():
                if tensor is not None and dim and any(part.site in kept for part in dim):
                    index_ = torch_index(entries(dim, kept), tensor)
                    tensor = tensor.index_select(axis, index_)
            if tensor is not None and tensor is not parameter:
                found[module, leaf] = tensor
    return found


def torch_index(where: np.ndarray, beside: "torch.Tensor") -> "torch.Tensor":
    """Returns indices, or where a mask is set, as a tensor on another's device."""
    import torch

    where = np.flatnonzero(where) if where.dtype == bool else where
    return torch.from_numpy(where).to(beside.device)


@contextmanager
def swapped(
    tensors: "Mapping[tuple[Any, str], torch.Tensor]", attrs: Mapping[tuple[Any, str], int]
) -> Iterator[None]:
    """Gives modules other parameters and numbers while the context lasts.

    Args:
        tensors: by module and the parameter's name in it.
        attrs: by module and name.
    """
    import torch

    before = {key: key[0]._parameters[key[1]] for key in tensors}
    numbers = {key: getattr(*key) for key in attrs}
    try:
        for (module, leaf), tensor in tensors.items():
            module._parameters[leaf] = torch.nn.Parameter(tensor.data, requires_grad=False)
        for (module, name), value in attrs.items():
            setattr(module, name, value)
        yield
    finally:
        for (module, leaf), parameter in before.items():
            module._parameters[leaf] = parameter
        for (module, name), value in numbers.items():
            setattr(module, name, value)


def _dropping(
    stages: TransformerStages,
    index: int,
    block: Block,
    output: Linear,
    site: str,
    state: State,
) -> str | None:
    """Returns why dropping a part is not what it should be; None where it is."""
    module = stages.model.get_submodule(f"{block.module}.{output.name}")
    try:
        ours = stages.block(index, state, {site}).hidden
    except Exception as caught:  # whatever a module may raise that is given what it did not expect
        return f"without it the block fails: {type(caught).__name__}: {caught}"
    zeros = {
        (module, leaf): parameter.new_zeros(parameter.shape)
        for leaf, parameter in module._parameters.items()
        if parameter is not None
    }
    with swapped(zeros, {}):
        theirs = stages.block(index, state, ()).hidden
    error = relative(ours, theirs)
    if not error <= TOLERANCE.get(str(ours.dtype), 5e-2):
        return f"without it the block gives something else (by {error:.1e} of the largest entry)"
    return None


def _idle(
    stages: TransformerStages, index: int, block: Block, site: str, state: State
) -> list[str]:
    """Returns the tensors of a block that change nothing once a part is dropped."""
    import torch

    held = dict(stages.model.get_submodule(block.module).named_parameters())
    with torch.enable_grad():
        for parameter in held.values():
            parameter.requires_grad_(True)
        try:
            hidden = state.hidden.detach().clone().requires_grad_(True)
            given = stages.block(index, State(hidden, state.shared), {site}).hidden
            # A random direction: gradients of a plain sum may vanish behind a norm.
            weight = torch.randn(given.shape, generator=torch.Generator().manual_seed(0))
            total = (given * weight.to(given)).sum()
            found = torch.autograd.grad(total, list(held.values()), allow_unused=True)
        finally:
            for parameter in held.values():
                parameter.requires_grad_(False)
    return [
        name
        for name, slope in zip(held, found, strict=True)
        if slope is None or not bool(slope.any())
    ]


def relative(ours: "torch.Tensor", theirs: "torch.Tensor") -> float:
    """Returns the largest difference of two tensors, relative to the largest entry."""
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-9))
