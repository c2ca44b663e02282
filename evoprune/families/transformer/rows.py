"""The cost table of a transformer: a row for each tensor, and for what attention multiplies."""

from collections.abc import Mapping
from typing import Any

from evoprune.core.costs import CostTable, Dim, Row, fixed, of_site
from evoprune.families.transformer.layout import ATTN, MLP, Block, Layout


def table_of(model: Any, layout: Layout, context: int) -> CostTable:
    """Returns the cost table; FLOPs are per position of an example of ``context`` positions.

    ``kv_bytes`` is the key–value cache per token of a model that decodes. Attention's own products
    are counted in full (queries times all keys), as the kernels execute them.
    """
    size = float(model.dtype.itemsize)
    by_module = {f"{block.module}.": i for i, block in enumerate(layout.blocks)}
    seen: dict[int, str] = {}
    rows = []
    for name, parameter in model.named_parameters(remove_duplicate=False):
        outside = layout.outside.get(name)
        times = outside.per_position + outside.per_example / context if outside else 0.0
        flops = {"flops": 2.0 * times} if times else {}
        if id(parameter) in seen:  # tied: it is stored once, and multiplied again
            if flops:
                dims = tuple(fixed(extent) for extent in parameter.shape)
                rows.append(Row(name, dims, weights=flops, tensor=False))
            continue
        seen[id(parameter)] = name
        stored = {"params": 1.0, "bytes": size}
        at = next((i for prefix, i in by_module.items() if name.startswith(prefix)), None)
        if at is None:
            dims = tuple(fixed(extent) for extent in parameter.shape)
            rows.append(Row(name, dims, weights=stored | flops))
        else:
            rows.append(_inside(name, parameter, layout.blocks[at], at, stored))
    decodes = bool(getattr(model.config, "is_decoder", False)) or _causal(model)
    for i, block in enumerate(layout.blocks):
        rows += _attention(block, i, context, size if decodes else 0.0)
    return CostTable(tuple(rows))


def _causal(model: Any) -> bool:
    return "CausalLM" in type(model).__name__ or "LMHead" in type(model).__name__


def _inside(
    name: str, parameter: Any, block: Block, index: int, stored: Mapping[str, float]
) -> Row:
    """Returns the row of a tensor of a block."""
    leaf = name.removeprefix(f"{block.module}.")
    module = leaf.rpartition(".")[0]
    found = cuts(block, index).get(module)
    dims = [fixed(extent) for extent in parameter.shape]
    reads = 1
    weights = dict(stored)
    if found is not None:
        made, read, reads = found
        if parameter.ndim == 2:
            weights["flops"] = 2.0
            dims[1 - reads] = made or dims[1 - reads]
            dims[reads] = read or dims[reads]
        elif made:
            dims[0] = made
    gate = block.gates.get(leaf, "")
    gates = (f"layers.{index}.{gate}" if gate else f"layers.{index}",)
    return Row(name, tuple(dims), gates, weights, reads=reads)


def cuts(block: Block, index: int) -> dict[str, tuple[Dim | None, Dim | None, int]]:
    """Returns by linear layer of a block what its outputs and inputs are made of, and which axis
    of its weight reads; None where they are never cut.
    """
    heads, channels = f"layers.{index}.{ATTN}.heads", f"layers.{index}.{MLP}.channels"
    found: dict[str, tuple[Dim | None, Dim | None, int]] = {}
    if block.attention is not None:
        one = block.attention
        for which, linear in enumerate(one.inputs):
            made = one.made(heads, which) if one.cut else None
            found[linear.name] = (made, None, linear.reads)
        read = one.read(heads) if one.cut else None
        found[one.output.name] = (None, read, one.output.reads)
    if block.mlp is not None:
        mlp = block.mlp
        for linear in mlp.inputs:
            made = mlp.made(channels) if mlp.cut else None
            found[linear.name] = (made, None, linear.reads)
        read = of_site(channels, mlp.channels) if mlp.cut else None
        found[mlp.output.name] = (None, read, mlp.output.reads)
    return found


def _attention(block: Block, index: int, context: int, cached: float) -> list[Row]:
    """Returns the products of attention, and the cache: costs without parameters."""
    one, attn = block.attention, f"layers.{index}.{ATTN}"
    if one is None:
        return []
    queries, keys = one.read(f"{attn}.heads"), one.made(f"{attn}.heads", 1)
    if not one.cut or one.fused:
        keys = of_site(f"{attn}.heads", one.groups, one.head_dim)
    if not one.cut:
        queries, keys = (fixed(sum(part.size for part in dim)) for dim in (queries, keys))
    # Queries times keys and weights times values: two products of two FLOPs each.
    rows = [Row(f"{attn}.scores", (queries, fixed(context)), (attn,), {"flops": 4.0}, False)]
    if cached:
        rows.append(Row(f"{attn}.cache", (keys,), (attn,), {"kv_bytes": 2.0 * cached}, False))
    return rows
