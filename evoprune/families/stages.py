"""Networks run stage by stage (``core.networks.Stages``): batches, forwards, a check."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune.core.errors import ModelError
from evoprune.core.networks import Batch, Stages

if TYPE_CHECKING:
    import torch

NO_SITES: frozenset[str] = frozenset()
# Tokens in one forward. Fixed, so that values never depend on who shares a batch.
BATCH_TOKENS = 2048


def forward(stages: Stages, batch: Batch, dropped: Collection[str] = NO_SITES) -> "torch.Tensor":
    """Returns what the head reads, (B, T, H) or (B, H), after the blocks that a pattern keeps."""
    state = stages.begin(batch)
    for index in range(stages.n_blocks):
        state = stages.block(index, state, dropped)
    return stages.features(state)


def batches(count: int, width: int, boundaries: Sequence[int] = ()) -> list[slice]:
    """Returns the micro-batches of ``count`` examples of ``width`` positions.

    They never cross a boundary between rungs, so that an example sits in the same batch whatever
    the rung, and its values are the same to the last bit.
    """
    size = max(1, BATCH_TOKENS // width)
    ends = sorted({end for end in boundaries if 0 < end < count} | {count})
    found, start = [], 0
    for end in ends:
        found += [slice(at, min(at + size, end)) for at in range(start, end, size)]
        start = end
    return found


def batch_of(
    arrays: Mapping[str, np.ndarray], rows: slice, device: str
) -> dict[str, "torch.Tensor"]:
    """Returns some rows of arrays as tensors on the device."""
    import torch

    return {name: torch.from_numpy(array[rows]).to(device) for name, array in arrays.items()}


def micro_batches(
    stages: Stages,
    arrays: Mapping[str, np.ndarray],
    device: str,
    boundaries: Sequence[int] = (),
) -> Iterator[tuple[slice, Batch]]:
    """Yields the micro-batches of arrays, each (N, …): their rows, and tensors on the device."""
    count = len(next(iter(arrays.values())))
    for rows in batches(count, stages.positions(arrays), boundaries):
        yield rows, batch_of(arrays, rows, device)


def real_positions(batch: Batch, features: "torch.Tensor") -> "torch.Tensor":
    """Returns which positions of features (B, T, H) are no padding, boolean (B, T).

    Of features (B, H) all are real, boolean (B,). Padding is told by ``lengths`` (B,) where it
    stands at the right, else by ``attention_mask`` (B, T).
    """
    import torch

    if features.ndim == 3 and "lengths" in batch:
        steps = torch.arange(features.shape[1], device=features.device)
        return steps[None, :] < batch["lengths"].to(features.device)[:, None]
    mask = batch.get("attention_mask")
    if features.ndim == 3 and mask is not None and mask.shape == features.shape[:2]:
        return mask.to(features.device).bool()
    return torch.ones(features.shape[:-1], dtype=torch.bool, device=features.device)


def embed(stages: Stages, arrays: Mapping[str, np.ndarray], device: str) -> np.ndarray:
    """Returns the mean over real positions of what the dense head reads, float64 (N, H)."""
    import torch

    found = []
    with torch.inference_mode():
        for _, batch in micro_batches(stages, arrays, device):
            features = forward(stages, batch).double()
            mask = real_positions(batch, features)
            if features.ndim == 3:
                features = (features * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            found.append(features.cpu().numpy())
    return np.concatenate(found)


def check_stages(model: Any, stages: Any, batch: Batch) -> None:
    """Checks that the stages, chained, are the model.

    Args:
        model: as its library runs it.
        stages: the same, taken apart.
        batch: what both read.

    Raises:
        ModelError: they give other logits, so the family does not fit; or the logits are not
            finite.
    """
    import torch

    with torch.inference_mode():
        ours = stages.logits(forward(stages, batch)).float()
        theirs = stages.whole(batch).logits.float()
    if not bool(torch.isfinite(theirs).all()):
        raise ModelError(
            "The dense model returns NaN or infinite logits.",
            "Check its weights and `model.dtype` (bfloat16 instead of float16, or float32).",
        )
    tolerance = 1e-4 if model.dtype in (torch.float32, torch.float64) else 5e-2
    error = float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-9))
    if error > tolerance:
        raise ModelError(
            f"Run stage by stage, {type(model).__name__} gives other logits "
            f"(by {error:.1e} of the largest){_parting(stages, batch, tolerance)}.",
            "It is not built like Llama; write a family for it (README, «add your own»).",
        )


def _parting(stages: Any, batch: Batch, tolerance: float) -> str:
    """Returns in words where the stages part from the model; nothing if that cannot be seen."""
    import torch

    with torch.inference_mode():
        seen = stages.whole(batch, output_hidden_states=True)
        theirs = getattr(seen, "hidden_states", None)
        state = stages.begin(batch)
        if theirs is None or len(theirs) != stages.n_blocks + 1 or not hasattr(state, "hidden"):
            return ""
        # The last of theirs is normed already.
        for index, expected in enumerate(theirs[:-1]):
            error = (state.hidden - expected).abs().max() / expected.abs().max().clamp_min(1e-9)
            if float(error) > tolerance:
                shape = tuple(expected.shape)
                where = f"block {index - 1}" if index else "its embeddings"
                return f": they part in {where}, which gives {shape}"
            state = stages.block(index, state, NO_SITES)
    return f": they part in block {stages.n_blocks - 1}, the last norm or the head"
