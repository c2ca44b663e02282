"""Counts the FLOPs that are really executed, to be held against the analytic ones."""

import math
from collections.abc import Callable
from typing import Any


def executed_flops(run: Callable[[], object]) -> int:
    """Returns the FLOPs of all matrix products, convolutions and attention that ``run()`` does.

    A multiply–add counts as two; attention is counted in full, queries times all keys. What
    torch's counter counts, and the CPU's attention kernel, which it leaves out.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={kernel: _attention}) as counter:
        run()
    return int(counter.get_total_flops())


def _attention(query: Any, key: Any, value: Any, *args: Any, **options: Any) -> int:
    """Returns the FLOPs of attention, of shapes (B, heads, T, size); keys may have fewer heads."""
    return int(2 * math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1]))
