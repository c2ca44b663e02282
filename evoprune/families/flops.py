"""Counts the FLOPs that are really executed, to be held against the analytic ones."""

import math
from collections.abc import Callable
from typing import Any


def executed_flops(run: Callable[[], object]) -> int:
    """Returns the FLOPs of all matrix products, convolutions and attention that ``run()`` does.

    A multiply–add counts as two; attention is counted in full, queries times all keys. What
    torch's counter counts, and the CPU's attention kernel, which it leaves out.
    """
    return int(_counted(run).get_total_flops())


def executed_flops_by_module(module: Any, example: Any) -> dict[str, int]:
    """Returns the FLOPs of one forward pass of each submodule that has none of its own.

    Args:
        module: a ``torch.nn.Module``.
        example: its input, a batch of one.
    """
    import torch

    names = {id(inner): name for name, inner in module.named_modules()}
    found: dict[str, int] = {}
    handles = []

    def count(inner: Any, inputs: tuple[Any, ...], output: Any) -> None:
        if not counting:
            return
        counting.clear()
        found[names[id(inner)]] = executed_flops(lambda: inner.forward(*inputs))
        counting.append(True)

    counting = [True]
    for inner in module.modules():
        if not list(inner.children()):
            handles.append(inner.register_forward_hook(count))
    try:
        with torch.no_grad():
            module(example)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _counted(run: Callable[[], object]) -> Any:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={kernel: _attention}) as counter:
        run()
    return counter


def _attention(query: Any, key: Any, value: Any, *args: Any, **options: Any) -> int:
    """Returns the FLOPs of attention, of shapes (B, heads, T, size); keys may have fewer heads."""
    return int(2 * math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))
