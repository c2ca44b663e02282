"""Finds the blocks of a transformer and what in them can be cut, by rule and never by its name.

Blocks are the classes that transformers itself says it records hidden states of; attention is
found likewise, or by a class name that ends so. Of the linear layers that run in a block, those
inside attention are its projections, in the order in which they run; of the others the last one
that comes back to the width of the block reads the MLP's channels, and those before it make them.
What is found is a guess until numbers confirm it (``confirm``).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from evoprune.core.errors import ModelError
from evoprune.families.transformer.layout import (
    ATTN,
    MLP,
    Attention,
    Attr,
    Block,
    FeedForward,
    Layout,
    Linear,
    Outside,
)
from evoprune.families.transformer.trace import Call, traced

# How modules of transformers call the numbers that follow their heads: per query head, per
# key–value head, and per entry of all queries.
QUERY_HEADS = ("num_attention_heads", "num_heads", "n_heads", "n_head")
KEY_HEADS = ("num_key_value_heads", "num_kv_heads", "n_kv_heads")
ENTRIES = ("all_head_size", "split_size", "inner_dim", "embed_dim")


def found(model: Any, inputs: Sequence[str], run: Callable[[], Any]) -> Layout:
    """Returns the layout of a transformer, not confirmed yet.

    Args:
        model: of Hugging Face's.
        inputs: the arguments of its forward that are given.
        run: runs it on two examples of one length.

    Raises:
        ModelError: there are no blocks, or what runs in them is not a chain.
    """
    names, rule = _blocks(model)
    calls = traced(model, run)
    by_name = {name: [call for call in calls if call.name == name] for name in names}
    once = [len(by_name[name]) == 1 for name in names]
    if not all(once):
        raise ModelError(
            f"The block '{names[once.index(False)]}' of {type(model).__name__} runs "
            f"{len(by_name[names[once.index(False)]])} times in one forward.",
            "Only blocks that run once, one after another, can be pruned.",
        )
    order = [by_name[name][0] for name in names]
    if [call.began for call in order] != sorted(call.began for call in order):
        raise ModelError(
            f"The blocks of {type(model).__name__} do not run in their order.",
            "Write a family for it (README, «add your own»).",
        )
    blocks = tuple(_block(model, call, calls) for call in order)
    heads = [c for c in calls if c.began > order[-1].ended and _linear(c.module) is not None]
    if not heads:
        raise ModelError(
            f"No linear layer runs after the blocks of {type(model).__name__}.",
            "Load the model with its head, such as AutoModelForSequenceClassification.",
        )
    return Layout(
        blocks,
        rule,
        heads[-1].name,
        tuple(_topmost(calls, order[0].began)),
        _outside(calls, order, order[0].given),
        tuple(inputs),
        order[0].given[1],
    )


def _blocks(model: Any) -> tuple[list[str], str]:
    """Returns the names of the blocks, and how they were found."""
    from torch import nn
    from transformers.modeling_layers import GradientCheckpointingLayer

    lists = {n: m for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m)}
    recorded = _classes(model, "hidden_states")
    for classes, why in (
        (recorded, "transformers records the hidden states of {}"),
        ((GradientCheckpointingLayer,), "{} can be checkpointed"),
    ):
        chosen = [n for n, m in lists.items() if classes and all(isinstance(b, classes) for b in m)]
        if len(chosen) > 1:
            raise ModelError(
                f"{type(model).__name__} has {len(chosen)} stacks of blocks ({', '.join(chosen)}).",
                "Only models of one stack can be pruned so far.",
            )
        if chosen:
            kind = type(lists[chosen[0]][0]).__name__
            return [f"{chosen[0]}.{i}" for i in range(len(lists[chosen[0]]))], why.format(kind)
    alike = {n: m for n, m in lists.items() if len(m) > 1 and len({type(b) for b in m}) == 1}
    if not alike:
        raise ModelError(
            f"{type(model).__name__} has no list of blocks.",
            "Write a family for it (README, «add your own»).",
        )
    largest = max(alike, key=lambda n: sum(p.numel() for p in alike[n].parameters()))
    kind = type(alike[largest][0]).__name__
    return [f"{largest}.{i}" for i in range(len(alike[largest]))], f"the largest list is of {kind}"


def _classes(model: Any, output: str) -> tuple[type, ...]:
    """Returns the classes whose outputs transformers records under a name."""
    told = (getattr(model, "_can_record_outputs", None) or {}).get(output, ())
    many = told if isinstance(told, (list, tuple)) else (told,)
    kinds = [getattr(one, "target_class", one) for one in many]
    return tuple(kind for kind in kinds if isinstance(kind, type))


def _linear(module: Any) -> Linear | None:
    """Returns a linear layer, without its name, with the axes of its weight; None of others."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    if isinstance(module, nn.Linear):
        return Linear("", 1)
    return Linear("", 0) if isinstance(module, Conv1D) else None


def _block(model: Any, block: Call, calls: Sequence[Call]) -> Block:
    """Returns what is found in a block."""
    inside = [c for c in calls if block.began < c.began and c.ended < block.ended]
    names = [call.name for call in inside if any(True for _ in call.module.parameters())]
    twice = sorted(name for name in set(names) if names.count(name) > 1)
    if twice:
        return Block(
            block.name,
            block.given[-1],
            block.tuple_of,
            why_not=dict.fromkeys((ATTN, MLP), f"{twice[0]} runs twice"),
        )
    linears = [call for call in inside if _linear(call.module) is not None]
    attention, why = _attention(model, block, inside, linears)
    within = f"{block.name}.{attention.outer}" if attention else ""
    others = [c for c in linears if not within or not c.name.startswith(f"{within}.")]
    mlp, why_mlp = _mlp(block, inside, others)
    whys = {ATTN: why} if why else {}
    whys |= {MLP: why_mlp} if why_mlp else {}
    made = Block(block.name, block.given[-1], block.tuple_of, attention, mlp, why_not=whys)
    return replace(made, attrs=tuple(_attrs(model, made))) if attention or mlp else made


def _attention(
    model: Any, block: Call, inside: Sequence[Call], linears: Sequence[Call]
) -> tuple[Attention | None, str]:
    """Returns the attention of a block, or why there is none that can be cut."""
    kinds = _classes(model, "attentions")
    named = [c for c in inside if type(c.module).__name__.endswith("Attention")]
    recorded = [c for c in inside if isinstance(c.module, kinds)] if kinds else []
    cores = recorded or named[-1:]
    if len(cores) != 1:
        return None, f"{len(cores)} modules of attention run in it"
    core = cores[0]
    around = [c for c in named if c.began <= core.began and core.ended <= c.ended] or [core]
    outer = around[0]
    held = [c for c in linears if core.began < c.began and c.ended < core.ended]
    after = [c for c in linears if core.ended < c.began and c.ended < outer.ended]
    width = block.given[-1]
    if after and after[0].gave[-1] == width:
        inputs, output = held, after[0]
    else:
        inputs, output = held[:-1], held[-1] if held else core
    if len(inputs) not in (1, 3) or output.gave[-1:] != (width,):
        return None, f"{len(held)} linear layers run in {core.name}"
    return _heads(model, block, core, outer, inputs, output)


def _heads(
    model: Any, block: Call, core: Call, outer: Call, inputs: Sequence[Call], output: Call
) -> tuple[Attention | None, str]:
    """Returns the attention with the sizes of its heads."""
    entries = output.given[-1]  # of all queries
    count = _number(core.module, QUERY_HEADS) or _number(model.config, QUERY_HEADS)
    size = _number(core.module, ("head_dim", "attention_head_size", "head_size"))
    size = size or (entries // count if count else None)
    if not size or entries % size:
        return None, f"heads of {size} entries do not make {entries}"
    heads = entries // size
    if len(inputs) == 3:
        keys, values = (call.gave[-1] for call in inputs[1:])
        fused = ""
    else:
        rest = inputs[0].gave[-1] - entries
        keys = values = rest // 2
        fused = "concatenated"
    if keys != values or not keys or keys % size or heads % (keys // size):
        return None, f"{entries} entries of queries, {keys} of keys and {values} of values"
    groups = keys // size
    return Attention(
        _within(block, core.name),
        _within(block, outer.name),
        tuple(_named(block, call) for call in inputs),
        _named(block, output),
        groups,
        heads // groups,
        size,
        fused,
        core.tuple_of,
    ), ""


def _mlp(
    block: Call, inside: Sequence[Call], linears: Sequence[Call]
) -> tuple[FeedForward | None, str]:
    """Returns the MLP of a block, or why there is none that can be cut."""
    width = block.given[-1]
    back = [c for c in linears if c.gave[-1] == width]
    if not back:
        return None, "no linear layer comes back to its width"
    output = back[-1]
    inputs = [c for c in linears if c.began < output.began and c is not output]
    channels = output.given[-1]
    makes = {call.gave[-1] for call in inputs}
    fused = makes == {2 * channels}
    if not (makes == {channels} and len(inputs) in (1, 2)) and not (fused and len(inputs) == 1):
        return None, f"its channels are {channels}, and linear layers make {sorted(makes)}"
    holding = [
        call
        for call in inside
        if all(call.began < c.began and c.ended < call.ended for c in (*inputs, output))
    ]
    outer = _within(block, holding[-1].name) if holding else ""
    made = tuple(_named(block, call) for call in inputs)
    return FeedForward(made, _named(block, output), channels, fused, outer), ""


def _attrs(model: Any, block: Block) -> Iterable[Attr]:
    """Yields the numbers of modules that follow the block's sites."""
    site = f"{ATTN}.heads"
    if block.attention is not None:
        one = block.attention
        name = f"{block.module}.{one.core}"
        module = model.get_submodule(name)
        sizes = (
            (QUERY_HEADS, one.per_group, one.groups * one.per_group),
            (KEY_HEADS, 1, one.groups),
            (ENTRIES, one.per_group * one.head_dim, one.groups * one.per_group * one.head_dim),
        )
        for words, per_unit, whole in sizes:
            for word in words:
                if vars(module).get(word) == whole:
                    yield Attr(name, word, site, per_unit)
        for i, linear in enumerate(one.inputs):
            per_unit = sum(part.unit for part in one.made(site, i))
            yield from _width(model, f"{block.module}.{linear.name}", site, per_unit)
    if block.mlp is not None:
        site = f"{MLP}.channels"
        for linear in block.mlp.inputs:
            per_unit = len(block.mlp.made(site))
            yield from _width(model, f"{block.module}.{linear.name}", site, per_unit)


def _width(model: Any, name: str, site: str, per_unit: int) -> Iterable[Attr]:
    """Yields how a Conv1D calls the number of its outputs, which it reshapes by."""
    if hasattr(model.get_submodule(name), "nf"):
        yield Attr(name, "nf", site, per_unit)


def _number(holder: Any, names: Sequence[str]) -> int | None:
    values = (getattr(holder, name, None) for name in names)
    return next((value for value in values if isinstance(value, int)), None)


def _within(block: Call, name: str) -> str:
    return name.removeprefix(f"{block.name}.")


def _named(block: Call, call: Call) -> Linear:
    made = _linear(call.module)
    assert made is not None  # only linear layers are asked for
    return replace(made, name=_within(block, call.name))


def _topmost(calls: Sequence[Call], first: int) -> Iterable[str]:
    """Yields the modules that have run before the first block and lie in no other such module."""
    end = -1
    for call in calls:
        if call.ended < first and call.began > end:
            yield call.name
            end = call.ended


def _outside(calls: Sequence[Call], blocks: Sequence[Call], given: tuple[int, ...]) -> Any:
    """Returns how often tensors outside the blocks are multiplied, by name."""
    import torch

    examples, positions = given[0], given[1]
    counted: dict[str, Outside] = {}
    for call in calls:
        if any(block.began <= call.began and call.ended <= block.ended for block in blocks):
            continue
        weight = getattr(call.module, "weight", None)
        if weight is None or list(call.module.children()) or weight.ndim < 2:
            continue
        if isinstance(call.module, torch.nn.Embedding):
            continue
        if isinstance(call.module, (torch.nn.Conv1d, torch.nn.Conv2d)):
            rows = 1
            for extent in call.gave[2:]:  # (B, C, height, width)
                rows *= extent
            times = Outside(per_example=float(rows))
        else:
            rows = 1
            for extent in call.gave[:-1]:
                rows *= extent
            each = rows // examples
            times = Outside(1.0, 0.0) if each == positions else Outside(0.0, float(each))
        counted[f"{call.name}.weight"] = times
    return counted
