"""Loads what evoprune exported."""

import hashlib
import json
from pathlib import Path
from typing import Any

from evoprune.errors import ModelError, check_path

OWN_CODE = "modeling_evoprune.py"


def load(path: str | Path, dtype: str | None = None, device: str = "cpu") -> Any:
    """Returns an exported language model or head, or an ensemble, in evaluation mode.

    No code from the folder is run: a model with layers unlike each other is built by the modelling
    file that evoprune ships, and only if the folder's own file is the same; a head is built from
    the steps that its config.json lists, all of known operations.

    Args:
        path: the folder of the export, or of what its ``save_pretrained`` wrote; or of an
            ensemble, in its run or saved by itself.
        dtype: of the weights, such as ``bfloat16``; as they are stored by default. Not of an
            ensemble.
        device: where the model is put.

    Raises:
        ModelError: there is no such model, its modelling file is another one, or its weights do
            not fit it.
    """
    import torch

    from evoprune.families.load import quiet_transformers
    from evoprune.families.sparse_head.modeling_head import FORMAT

    check_path(path)
    folder = Path(path)
    if (folder / "journal.jsonl").is_file():
        raise ModelError(
            f"'{path}' is a run, not a model.",
            f"Load one of its models, such as {folder / 'models'}/ID; a run by evoprune.Run.load.",
        )
    if (folder / "ensemble.json").is_file():
        from evoprune.ensemble.module import load_ensemble

        if dtype is not None:
            raise ModelError(
                f"'{path}' is an ensemble, which keeps the dtype of its base.",
                "Leave the dtype out, or convert the module.",
            )
        return load_ensemble(folder, device)
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
    if not str(config.get("model_type", "")).startswith("evoprune_"):
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM
    from evoprune.export import modeling_evoprune

    ours, theirs = Path(modeling_evoprune.__file__), folder / OWN_CODE
    if not theirs.is_file() or _sha256(theirs) != _sha256(ours):
        raise ModelError(
            f"'{theirs}' is not the modelling file of this evoprune, so it is not trusted.",
            "Export the model again; or read the file and load the folder by transformers with "
            "trust_remote_code=True.",
        )
    name = (config.get("architectures") or [""])[0]
    try:
        return getattr(modeling_evoprune, name)
    except AttributeError as error:
        raise ModelError(
            f"'{folder}' names the class '{name}', which this transformers does not have.",
            "Install the transformers version that its config.json names.",
        ) from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
