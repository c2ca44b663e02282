"""Whether a model is built like Llama, and in words where it is not.

A model is never judged by its name: by its children first, then, in ``stages.check_stages``, by
its numbers.
"""

from typing import Any

from evoprune.core.errors import ModelError

LAYER_PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
PROJECTIONS = {
    "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}


def unlike_llama(model: Any) -> str | None:
    """Returns which child of a model is not as in Llama; None if all are.

    Args:
        model: any module.
    """
    layers = getattr(getattr(model, "model", None), "layers", None)
    if layers is None or not hasattr(layers, "__len__") or len(layers) == 0:
        return f"it holds {_listed(model)}, and no blocks at model.layers"
    if not hasattr(model, "lm_head"):
        return f"it holds {_listed(model)}, and no lm_head"
    for index, layer in enumerate(layers):
        place = f"model.layers.{index}"
        wrong = [_amiss(layer, place, tuple(sorted(LAYER_PARTS)), whole=True)]
        for part, names in PROJECTIONS.items():
            if hasattr(layer, part):
                wrong.append(_amiss(getattr(layer, part), f"{place}.{part}", names))
        if any(wrong):
            return "; ".join(filter(None, wrong))
    return None


def _amiss(module: Any, place: str, wanted: tuple[str, ...], whole: bool = False) -> str | None:
    """Returns what a module lacks, and holds in its place; None if it has what is wanted.

    Args:
        module: one of the model's.
        place: its name.
        wanted: names of children.
        whole: whether it may have no others.
    """
    missing = [name for name in wanted if not hasattr(module, name)]
    others = {name: child for name, child in module.named_children() if name not in wanted}
    if not missing and not (whole and others):
        return None
    held = ", ".join(f"{name}{_shape(child)}" for name, child in others.items())
    parts = [f"holds {held}"] if others else []
    parts += [f"has no {', '.join(missing)}"] if missing else []
    return f"{place} {' and '.join(parts)}"


def _listed(module: Any) -> str:
    """Returns the names of a module's children with their shapes; of many the first few."""
    held = [f"{name}{_shape(child)}" for name, child in module.named_children()]
    return ", ".join(held[:6]) + (", …" if len(held) > 6 else "") or "no child"


def _shape(module: Any) -> str:
    """Returns the shape of a module's own weight, to stand behind its name; nothing without."""
    weight = getattr(module, "weight", None)
    shape = getattr(weight, "shape", None)
    return "" if shape is None else f" {tuple(shape)}"


def narrower(model: Any, length: int) -> ModelError | None:
    """Returns the error of a model whose attention sees less than an example; None if it sees all.

    A configuration may name a window that its class never reads, so that this explains why the
    numbers differ and is no check by itself.

    Args:
        model: of Hugging Face's.
        length: tokens of the longest example.
    """
    window = getattr(model.config, "sliding_window", None)
    kinds = list(getattr(model.config, "layer_types", None) or ["sliding_attention"])
    if not window or length <= window or "sliding_attention" not in kinds:
        return None
    return ModelError(
        f"In model.layers.{kinds.index('sliding_attention')}.self_attn of {type(model).__name__} "
        f"a token sees {window} tokens (sliding_window), and an example has {length}.",
        f"Set data.chunk_tokens={window} or less: blocks are run without a window.",
    )
