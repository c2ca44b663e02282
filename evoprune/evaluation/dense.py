"""The dense model: its base file, its embeddings, and what the tasks keep of its outputs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune.errors import ModelError
from evoprune.evaluation.examples import Examples
from evoprune.evaluation.passes import forward

if TYPE_CHECKING:
    import torch


def write_base(model: Any, folder: Path) -> None:
    """Writes the weights once, as they are, with the model's configuration beside them.

    Workers map ``base.safetensors``; tied tensors are written once.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    # model.parameters() leaves out duplicates, and so what is tied.
    tensors = {name: tensor.data.contiguous() for name, tensor in model.named_parameters()}
    buffers = {name: b for name, b in model.named_buffers() if name in model.state_dict()}
    save_file({**tensors, **buffers}, folder / "base.safetensors", metadata={"format": "pt"})


def load_base(folder: Path, dtype: str, device: str, trust_remote_code: bool = False) -> Any:
    """Returns the model of a base file; on the CPU its tensors stay mapped from the file."""
    import torch
    import transformers
    from safetensors.torch import load_file
    from transformers import AutoConfig, AutoModelForCausalLM

    from evoprune.families.load import quiet_transformers

    quiet_transformers()
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    kind: Any = getattr(transformers, config.architectures[0], None)
    kind = kind or AutoModelForCausalLM._model_mapping[type(config)]
    model = kind.from_pretrained(
        None,
        config=config,
        state_dict=load_file(folder / "base.safetensors"),
        dtype=getattr(torch, dtype),
    )
    return model.to(device).eval().requires_grad_(False)


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
            f"(by {error:.1e} of the largest).",
            "It is not built like Llama; write a family for it (README, «add your own»).",
        )


def embed(stages: Any, tokens: np.ndarray, lengths: np.ndarray, device: str) -> np.ndarray:
    """Returns the mean over positions of what the dense model's head reads, float64 (N, H)."""
    import torch

    found = []
    with torch.inference_mode():
        for rows, batch in _batches(tokens, device):
            features = forward(stages, batch).double()
            length = torch.from_numpy(lengths[rows]).to(device)
            mask = torch.arange(batch.shape[1], device=device)[None, :] < length[:, None]
            mean = (features * mask[..., None]).sum(1) / length[:, None]
            found.append(mean.cpu().numpy())
    return np.concatenate(found)


def _batches(
    tokens: np.ndarray, device: str, boundaries: Sequence[int] = ()
) -> Iterator[tuple[slice, "torch.Tensor"]]:
    import torch

    whole = Examples(tokens, np.zeros(0), np.zeros(0), {}, {})
    for rows in whole.batches(boundaries):
        yield rows, torch.from_numpy(tokens[rows]).to(device)


def add_reference(
    examples: Examples, stages: Any, task: Any, device: str, rungs: Sequence[int] = ()
) -> Examples:
    """Returns the examples with what the task keeps of the dense model's outputs."""
    import torch

    pieces: dict[str, list[np.ndarray]] = {}
    with torch.inference_mode():
        for rows, batch in _batches(examples.tokens, device, rungs):
            mask = task.positions(batch.cpu(), torch.from_numpy(examples.lengths[rows]))
            features = forward(stages, batch)
            for name, value in task.reference(stages, features, mask.to(device)).items():
                pieces.setdefault(name, []).append(value)
    extras = {name: np.concatenate(values) for name, values in pieces.items()}
    return replace(examples, extras=extras)
