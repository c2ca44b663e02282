"""Loads an exported model, and runs no code of its folder."""

import json
from pathlib import Path
from typing import Any

from evoprune.core.errors import ModelError
from evoprune.core.files import sha256_of


def load_export(folder: Path, dtype: str | None, device: str) -> Any:
    """Returns the model or head of a folder, in evaluation mode (``evoprune.load``)."""
    import torch

    from evoprune.families.load import quiet_transformers
    from evoprune.families.sparse_head.modeling_head import FORMAT

    config = _config(folder)
    if dtype is not None and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise ModelError(f"'{dtype}' is no dtype.", "Use float32, bfloat16, float16 or float64.")
    if config.get("format") == FORMAT:
        return _head(folder, None if dtype is None else getattr(torch, dtype), device)
    kind = _class_of(folder, config)
    quiet_transformers()
    model = _strictly(kind, folder, "auto" if dtype is None else getattr(torch, dtype))
    return model.to(device).eval()


def _head(folder: Path, dtype: Any, device: str) -> Any:
    """Returns the head of a folder."""
    from evoprune.families.sparse_head import modeling_head

    try:
        return modeling_head.load(folder, dtype, device)
    except Exception as error:  # whatever a file may make torch raise
        raise _broken(folder, error) from error


def _broken(folder: Path, error: Exception) -> ModelError:
    reason = " ".join(str(error).split())[:300].rstrip(".")
    return ModelError(
        f"The model in '{folder}' cannot be loaded: {type(error).__name__}: {reason}.",
        "Export it again, or copy the folder whole.",
    )


def _strictly(kind: Any, folder: Path, dtype: Any) -> Any:
    """Returns the model of a folder; every tensor must be there, and no other."""
    try:
        model, info = kind.from_pretrained(
            folder,
            dtype=dtype,
            output_loading_info=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    except Exception as error:  # whatever a file or a class may raise
        raise _broken(folder, error) from error
    wrong = sorted({*info["missing_keys"], *info["unexpected_keys"]})
    if wrong:
        raise ModelError(
            f"{len(wrong)} tensors of '{folder}' and of its model differ, such as '{wrong[0]}'.",
            "Export it again, or copy the folder whole.",
        )
    return model


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"'{folder}' holds no config.json that can be read.",
            "Give the folder that `evoprune export` wrote.",
        ) from error
    return config if isinstance(config, dict) else {}


def _class_of(folder: Path, config: dict[str, Any]) -> Any:
    """Returns the class that loads a folder; one of ours where the layers differ."""
    import transformers

    name, kind = (config.get("architectures") or [""])[0], str(config.get("model_type", ""))
    if not kind.startswith("evoprune_"):
        return getattr(transformers, name, transformers.AutoModelForCausalLM)
    from evoprune.export import modeling_evoprune, modeling_evoprune_cut

    own = modeling_evoprune_cut if kind.startswith("evoprune_cut_") else modeling_evoprune
    ours = Path(str(own.__file__))
    theirs = folder / ours.name
    if not theirs.is_file() or sha256_of(theirs) != sha256_of(ours):
        raise ModelError(
            f"'{theirs}' is not the modelling file of this evoprune, so it is not trusted.",
            "Export the model again; or read the file and load the folder by transformers with "
            "trust_remote_code=True.",
        )
    try:
        return getattr(own, name)
    except AttributeError as error:
        raise ModelError(
            f"'{folder}' names the class '{name}', which this transformers does not have.",
            "Install the transformers version that its config.json names.",
        ) from error
