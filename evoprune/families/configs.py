"""What configurations of transformers say of smaller models."""

import copy
from collections.abc import Collection, Mapping
from typing import Any

# How they call the channels of an MLP, those of every layer alike.
CHANNELS = ("intermediate_size", "n_inner", "ffn_dim", "d_ff")


def with_blocks(config: Any, kept: list[int]) -> Any:
    """Returns a copy of a model's configuration for the blocks that stay.

    Every list with an entry per layer (``layer_types`` …) is cut as well.
    """
    cut = copy.deepcopy(config)
    layers = config.num_hidden_layers
    for name, value in list(vars(config).items()):
        # A list of end tokens may be as long as the model is deep.
        if name == "architectures" or name.endswith(("token_id", "token_ids")):
            continue
        if isinstance(value, (list, tuple)) and len(value) == layers:
            setattr(cut, name, [value[i] for i in kept])
    cut.num_hidden_layers = len(kept)
    return cut


def with_widths(config: Any, widths: Mapping[str, int]) -> Any:
    """Returns a copy of a configuration with equal widths in every layer.

    Args:
        config: of a model.
        widths: units that every layer keeps, by kind of site (``heads``, ``channels``).
    """
    cut = copy.deepcopy(config)
    if "heads" in widths:
        heads = config.num_attention_heads
        groups = getattr(config, "num_key_value_heads", None) or heads
        # Fewer heads would change the default, hidden size ÷ heads.
        cut.head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        cut.num_attention_heads = widths["heads"] * (heads // groups)
        if hasattr(config, "num_key_value_heads"):
            cut.num_key_value_heads = widths["heads"]
    if "channels" in widths:
        name = next((name for name in CHANNELS if hasattr(config, name)), CHANNELS[0])
        setattr(cut, name, widths["channels"])
    return cut


def refusal(config: Any) -> str:
    """Returns why a configuration's own class refuses what it says; empty where it does not."""
    try:
        type(config).from_dict(config.to_dict())
    except Exception as error:  # a configuration class validates with errors of its own
        reason = " ".join(str(error).split("\n")[-1].split()).removeprefix("ValueError: ")
        return f"{type(config).__name__} refuses these widths: {reason.rstrip('.')}."
    return ""


def renumbered(blocks: str, kept: list[int], names: Collection[str]) -> dict[str, str]:
    """Returns new name → old name of the tensors of a model with only some of its blocks.

    Args:
        blocks: the name of their list in the model.
        kept: which of them stay.
        names: of all tensors.
    """
    renamed = {old: new for new, old in enumerate(kept)}
    found = {}
    for name in names:
        if not name.startswith(f"{blocks}."):
            found[name] = name
            continue
        index, part = name.removeprefix(f"{blocks}.").split(".", 1)
        if int(index) in renamed:
            found[f"{blocks}.{renamed[int(index)]}.{part}"] = name
    return found
