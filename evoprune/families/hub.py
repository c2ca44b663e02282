"""Whether a model that is no folder can be had: asked of the hub once, not file by file."""

from functools import cache
from typing import Any

from evoprune.config.shipped import near_folder
from evoprune.core.errors import ModelError

# How long the hub may take to say whether it has a model.
TIMEOUT_S = 10.0


@cache
def only_cached(hub_id: str, revision: str | None = None) -> bool:
    """Returns whether a model must be read from this machine's cache, as the hub is out of reach.

    transformers would ask for each file, five times over.

    Raises:
        ModelError: the hub has no such model, or is out of reach and the cache lacks it.
    """
    from huggingface_hub import HfApi, errors, is_offline_mode

    if is_offline_mode():
        return _cached(hub_id, revision, "HF_HUB_OFFLINE is set")
    try:
        HfApi().model_info(hub_id, revision=revision, timeout=TIMEOUT_S)
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise ModelError(
            f"There is no model '{hub_id}': no folder is called so, and the hub shows none.",
            near_folder(hub_id) or "Check the spelling; of a private model, `hf auth login` first.",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(
            f"The model '{hub_id}' has no revision '{revision}'.",
            "Check `model.revision` on the model's page.",
        ) from error
    except Exception as error:  # whatever a network may raise
        return _cached(hub_id, revision, f"the hub cannot be reached: {_reason(error)}")
    return False


def _cached(hub_id: str, revision: str | None, why: str) -> bool:
    """Returns True where the cache has a model.

    Raises:
        ModelError: it has not.
    """
    from huggingface_hub import try_to_load_from_cache

    found: Any = try_to_load_from_cache(hub_id, "config.json", revision=revision)
    if isinstance(found, str):
        return True
    near = near_folder(hub_id)
    raise ModelError(
        f"'{hub_id}' is no folder here, this machine has no copy of such a model, and {why}.",
        near
        or "Give a folder that `save_pretrained` wrote, or download it where there is a "
        f"network (`hf download {hub_id}`) and copy HF_HOME.",
    )


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
