"""Networks run stage by stage: embed → block 0 … block n−1 → head.

A family whose networks can be run so needs no runner of its own. Its ``stages(model)`` has
``n_blocks``, ``embed(tokens)``, ``block(index, state, dropped)``, ``features(state)`` and
``logits(features)``. A block returns a new state and leaves the one it was given as it was. With
``block_of(site)``, the index of the block that a site lies in, patterns that begin alike share the
blocks they begin with; without it every pattern runs from the start.

Where a state's ``hidden`` (B, T, H) is what runs through the blocks, they can be compared by what
they do to it (``evaluation.blocks``).
"""

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune.core.errors import ModelError

if TYPE_CHECKING:
    import torch

NO_SITES: frozenset[str] = frozenset()
# Tokens in one forward. Fixed, so that values never depend on who shares a batch.
BATCH_TOKENS = 2048


def forward(
    stages: Any, tokens: "torch.Tensor", dropped: Collection[str] = NO_SITES
) -> "torch.Tensor":
    """Returns what the head reads (B, T, H), after the blocks that a pattern keeps."""
    state = stages.embed(tokens)
    for index in range(stages.n_blocks):
        state = stages.block(index, state, dropped)
    return stages.features(state)


def batches(count: int, width: int, boundaries: Sequence[int] = ()) -> list[slice]:
    """Returns the micro-batches of ``count`` examples of ``width`` tokens.

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


def embed(stages: Any, tokens: np.ndarray, lengths: np.ndarray, device: str) -> np.ndarray:
    """Returns the mean over positions of what the dense model's head reads, float64 (N, H)."""
    import torch

    found = []
    with torch.inference_mode():
        for rows, batch in token_batches(tokens, device):
            features = forward(stages, batch).double()
            length = torch.from_numpy(lengths[rows]).to(device)
            mask = torch.arange(batch.shape[1], device=device)[None, :] < length[:, None]
            mean = (features * mask[..., None]).sum(1) / length[:, None]
            found.append(mean.cpu().numpy())
    return np.concatenate(found)


def token_batches(
    tokens: np.ndarray, device: str, boundaries: Sequence[int] = ()
) -> Iterator[tuple[slice, "torch.Tensor"]]:
    """Yields micro-batches of tokens (N, T): their rows, and the tensor on the device."""
    import torch

    for rows in batches(len(tokens), tokens.shape[1], boundaries):
        yield rows, torch.from_numpy(tokens[rows]).to(device)


def check_stages(model: Any, stages: Any, tokens: "torch.Tensor") -> None:
    """Checks that the stages, chained, are the model.

    Raises:
        ModelError: they give other logits, so the family does not fit; or the logits are not
            finite.
    """
    import torch

    with torch.inference_mode():
        ours = stages.logits(forward(stages, tokens)).float()
        theirs = model(tokens, use_cache=False).logits.float()
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
            f"(by {error:.1e} of the largest){_parting(model, stages, tokens, tolerance)}.",
            "It is not built like Llama; write a family for it (README, «add your own»).",
        )


def _parting(model: Any, stages: Any, tokens: "torch.Tensor", tolerance: float) -> str:
    """Returns in words where the stages part from the model; nothing if that cannot be seen."""
    import torch

    with torch.inference_mode():
        seen = model(tokens, use_cache=False, output_hidden_states=True)
        theirs = getattr(seen, "hidden_states", None)
        state = stages.embed(tokens)
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
