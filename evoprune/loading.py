"""Loads what evoprune wrote: an exported model, a head, an ensemble."""

from pathlib import Path
from typing import Any

from evoprune.core.errors import ModelError, check_path


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
    from evoprune.export.loading import load_export

    return load_export(folder, dtype, device)
