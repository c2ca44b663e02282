"""Loads a model, and finds the family that it belongs to."""

from pathlib import Path
from typing import Any

from evoprune.errors import ModelError
from evoprune.registry import FAMILIES


def load_model(
    name_or_path: str,
    *,
    dtype: str = "float32",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Any:
    """Returns a causal language model of Hugging Face's in evaluation mode, on the CPU.

    Raises:
        ModelError: there is no such model, or it cannot be read.
    """
    import torch
    from transformers import AutoModelForCausalLM

    quiet_transformers()
    folder = Path(name_or_path)
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise ModelError(
            f"The folder '{name_or_path}' holds no config.json.",
            "Give a folder that `save_pretrained` wrote, or a hub id.",
        )
    try:
        model = AutoModelForCausalLM.from_pretrained(
            name_or_path,
            dtype=getattr(torch, dtype),
            revision=revision,
            trust_remote_code=trust_remote_code,
        )
    except Exception as error:  # whatever a hub, a file or a foreign class may raise
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"The model '{name_or_path}' cannot be loaded: {type(error).__name__}: {reason}.",
            "Check the path or hub id, `revision` and `trust_remote_code`.",
        ) from error
    return model.eval().requires_grad_(False)


def load_tokenizer(name_or_path: str, *, trust_remote_code: bool = False) -> Any:
    """Returns the model's tokenizer.

    Raises:
        ModelError: there is none.
    """
    from transformers import AutoTokenizer

    quiet_transformers()
    try:
        return AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=trust_remote_code)
    except Exception as error:  # whatever a hub, a file or a foreign class may raise
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"The tokenizer of '{name_or_path}' cannot be loaded: {reason}.",
            "Save the tokenizer beside the model (`tokenizer.save_pretrained`).",
        ) from error


def quiet_transformers() -> None:
    """Keeps transformers' progress bars out of our output."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def family_of(model: Any, name: str = "auto") -> Any:
    """Returns the family that takes a model apart.

    Raises:
        ModelError: no family fits, or the one asked for does not.
    """
    names = FAMILIES.names() if name == "auto" else [name]
    for candidate in names:
        family = FAMILIES.load(candidate)()
        if family.fits(model):
            return family
    kind = type(model).__name__
    raise ModelError(
        f"No family takes {kind} apart (tried {', '.join(names)}).",
        "Use a model built like Llama, or write a family for it (README, «add your own»).",
    )
