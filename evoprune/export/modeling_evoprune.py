"""A causal language model that evoprune made smaller, its layers unlike each other.

It is a decoder of transformers (Llama, Mistral, Qwen2, Qwen3, SmolLM3 and their like) whose layers
have widths of their own, lack their attention or their MLP, or have biases that the original lacks.
``per_layer_config`` says so, layer by layer; a layer that it does not name is like the original's:

- ``num_attention_heads``, ``num_key_value_heads``, ``intermediate_size``: what the layer keeps;
- ``skip``: ``attention`` or ``mlp``, which the layer does not have at all;
- ``added_biases``: layers with a bias that the original's class does not give them.

This file needs torch and transformers only, and travels with the model. ``EvopruneLlamaConfig`` and
``EvopruneLlamaForCausalLM`` are made on demand from ``LlamaConfig`` and ``LlamaForCausalLM``, and
so for the other classes.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import transformers
from torch import nn

PREFIX = "Evoprune"
# Stands after the activation's name in config.json. A stock class finds no such activation and
# fails with these words; without them it would put random weights where a part is missing.
NOTE = " (its layers differ: load it with trust_remote_code=True or evoprune.load)"
SIZES = ("num_attention_heads", "num_key_value_heads", "intermediate_size")


class PrunedConfig:
    """What is added to a stock configuration class; comes before it among the bases."""

    layer_overrides: dict[int, dict[str, Any]]

    def __post_init__(
        self,
        per_layer_config: Mapping[Any, Mapping[str, Any]] | None = None,
        added_biases: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__post_init__(**kwargs)  # type: ignore[misc]
        self.hidden_act = self.hidden_act.removesuffix(NOTE)  # type: ignore[has-type]
        # transformers' own per_layer_config makes the stock layers' constructors fail.
        said = (per_layer_config or {}).items()
        self.layer_overrides = {int(index): dict(value) for index, value in said}

    def layer(self, index: int) -> dict[str, Any]:
        """Returns the sizes of a layer, what it skips and which biases are added."""
        sizes: dict[str, Any] = {name: getattr(self, name) for name in SIZES}
        return {**sizes, "skip": [], "added_biases": [], **self.layer_overrides.get(index, {})}

    def attending(self) -> list[int]:
        """Returns the layers with attention: those that need a slot of the key–value cache."""
        layers = range(self.num_hidden_layers)  # type: ignore[attr-defined]
        return [i for i in layers if _attends(self.layer(i))]

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Any:
        """Returns the configuration; caches, which ask for the decoder's, see attending layers."""
        if not decoder or encoder:
            return super().get_text_config(decoder=decoder, encoder=encoder)  # type: ignore[misc]
        view: Any = copy.copy(self)
        attending = self.attending() or [0]  # a cache without any slot cannot be asked its length
        types = getattr(self, "layer_types", None)
        view.num_hidden_layers = len(attending)
        # The view is asked again for its own view, which must be itself.
        said = self.layer_overrides
        view.layer_overrides = {n: said[i] for n, i in enumerate(attending) if i in said}
        if types is not None:
            view.layer_types = [types[i] for i in attending]
        return view

    def to_dict(self) -> dict[str, Any]:
        """Returns what config.json holds."""
        output: dict[str, Any] = super().to_dict()  # type: ignore[misc]
        overrides = output.pop("layer_overrides", {})
        output["per_layer_config"] = {str(index): overrides[index] for index in sorted(overrides)}
        output["added_biases"] = []  # the schema wants a global value of all that layers override
        output["hidden_act"] = self.hidden_act + NOTE
        return output


class PrunedCausalLM:
    """What is added to a stock model class; comes before it among the bases."""

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)  # type: ignore[call-arg]
        slot = 0
        for index, layer in enumerate(self.model.layers):  # type: ignore[attr-defined]
            said = config.layer(index)
            if _attends(said):
                # Slot 0 must be written: the length of a cache is read there.
                layer.self_attn.layer_idx = slot
                slot += 1
            _narrow(layer, said, config)
        self.post_init()  # type: ignore[attr-defined]

    def _get_static_cache_init_shape(self) -> None:
        """Keeps caches from being made before their layers are seen: head counts differ."""


class PartialLayer:
    """A decoder layer without its attention or without its MLP; comes before the stock class."""

    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """Returns the hidden states (B, T, H) with what the parts that are there add to them."""
        layer: Any = self
        if isinstance(layer.self_attn, Constant):
            hidden_states = layer.self_attn(hidden_states)
        elif layer.self_attn is not None:
            normed = layer.input_layernorm(hidden_states)
            hidden_states = hidden_states + layer.self_attn(hidden_states=normed, **kwargs)[0]
        if isinstance(layer.mlp, Constant):
            return layer.mlp(hidden_states)
        if layer.mlp is not None:
            normed = layer.post_attention_layernorm(hidden_states)
            hidden_states = hidden_states + layer.mlp(normed)
        return hidden_states


class Constant(nn.Module):
    """What is left of a part without units: its bias, and parameters that nothing reads.

    Args:
        part: the part, whole.
        out: the projection that it ends with.
        bias: whether this has a bias.
    """

    def __init__(self, part: nn.Module, out: str, bias: bool) -> None:
        super().__init__()
        projection: Any = part.get_submodule(out)
        for name, child in part.named_children():
            if not isinstance(child, nn.Linear):
                self.add_module(name, child)
        if bias:
            left = nn.Module()
            left.bias = nn.Parameter(torch.zeros(projection.out_features))
            self.add_module(out, left)
        self.out = out if bias else ""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Returns the hidden states (B, T, H), the bias added."""
        if not self.out:
            return hidden_states
        return hidden_states + self.get_parameter(f"{self.out}.bias")


def _attends(said: Mapping[str, Any]) -> bool:
    return "attention" not in said["skip"] and said["num_key_value_heads"] > 0


def _narrow(layer: Any, said: Mapping[str, Any], config: Any) -> None:
    """Gives a whole layer the parts, widths and biases that it is said to have."""
    added = said["added_biases"]
    if "attention" in said["skip"]:
        layer.self_attn = layer.input_layernorm = None
    else:
        units = said["num_key_value_heads"], config.num_key_value_heads
        layer.self_attn = _cut(layer.self_attn, "o_proj", units, "self_attn.o_proj" in added)
    if "mlp" in said["skip"]:
        layer.mlp = layer.post_attention_layernorm = None
    else:
        units = said["intermediate_size"], config.intermediate_size
        layer.mlp = _cut(layer.mlp, "down_proj", units, "mlp.down_proj" in added)
        if hasattr(layer.mlp, "intermediate_size"):
            layer.mlp.intermediate_size = units[0]
    if any(part is None or isinstance(part, Constant) for part in (layer.self_attn, layer.mlp)):
        stock = type(layer)
        # The name stays: accelerate and FSDP know by it what must not be split.
        layer.__class__ = type(stock.__name__, (PartialLayer, stock), {"__module__": __name__})


def _cut(part: Any, out: str, units: tuple[int, int], add_bias: bool) -> Any:
    """Returns a part whose projections have ``units[0]`` of ``units[1]`` units."""
    kept, whole = units
    projection = part.get_submodule(out)
    bias = add_bias or projection.bias is not None
    if kept == 0:
        return Constant(part, out, bias)
    for name, child in list(part.named_children()):
        if not isinstance(child, nn.Linear) or (kept == whole and not (name == out and add_bias)):
            continue
        rows, columns = child.out_features, child.in_features
        if name == out:
            columns = columns // whole * kept
        else:
            rows = rows // whole * kept
        has = bias if name == out else child.bias is not None
        part.add_module(name, nn.Linear(columns, rows, bias=has))
    return part


def _config_class(name: str, stock: Any) -> type:
    made: Any = type(
        name,
        (PrunedConfig, stock),
        {"model_type": f"{PREFIX.lower()}_{stock.model_type}", "__module__": __name__},
    )
    made.register_for_auto_class("AutoConfig")
    return made


def _model_class(name: str, stock: Any) -> type:
    config_class = __getattr__(PREFIX + stock.config_class.__name__)
    made: Any = type(
        name,
        (PrunedCausalLM, stock),
        {"config_class": config_class, "__module__": __name__},
    )
    made.register_for_auto_class("AutoModelForCausalLM")
    return made


def __getattr__(name: str) -> Any:
    """Returns the class that stands for a stock one, making it on first use."""
    if name in globals():
        return globals()[name]
    stock = getattr(transformers, name.removeprefix(PREFIX), None)
    if not name.startswith(PREFIX) or not isinstance(stock, type):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    make = _model_class if issubclass(stock, transformers.PreTrainedModel) else _config_class
    globals()[name] = make(name, stock)
    return globals()[name]
