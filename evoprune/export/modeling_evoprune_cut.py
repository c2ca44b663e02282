"""A transformer that evoprune made smaller: the class of transformers that it was, then cut.

``evoprune_cuts`` in config.json says what is cut, by the names of modules and tensors:

- ``shapes``: tensors that are smaller than the original class makes them;
- ``numbers``: numbers of modules that follow (heads, widths that are reshaped by);
- ``absent``: modules that are not there, and what stands for them: ``zeros`` as its input is,
  ``width`` (zeros so wide), ``same`` (its input), each as the first of ``gives`` values;
- ``attending``: of a model that decodes the layers with attention, which have a slot of the cache.

This file needs torch and transformers only, and travels with the model. ``EvopruneCutBertConfig``
and ``EvopruneCutBertForSequenceClassification`` are made on demand from ``BertConfig`` and
``BertForSequenceClassification``, and so for all other classes.
"""

import copy
from typing import Any

import torch
import transformers
from torch import nn

PREFIX = "EvopruneCut"
# Stands after the activation's name in config.json. A stock class finds no such activation and
# fails with these words; without them it would put random weights where a part is missing.
NOTE = " (it is cut: load it with trust_remote_code=True or evoprune.load)"
ACTIVATIONS = ("hidden_act", "activation_function", "hidden_activation")


class CutConfig:
    """What is added to a stock configuration class; comes before it among the bases."""

    def __post_init__(self, **kwargs: Any) -> None:
        for name in ACTIVATIONS:
            said = getattr(self, name, None)
            if isinstance(said, str):
                setattr(self, name, said.removesuffix(NOTE))
        super().__post_init__(**kwargs)  # type: ignore[misc]

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Any:
        """Returns the configuration; caches, which ask for the decoder's, see attending layers."""
        attending = getattr(self, "evoprune_cuts", {}).get("attending")
        if not decoder or encoder or attending is None:
            return super().get_text_config(decoder=decoder, encoder=encoder)  # type: ignore[misc]
        view: Any = copy.copy(self)
        attending = attending or [0]  # a cache without any slot cannot be asked its length
        # The view is asked again for its own view, which must be itself.
        view.evoprune_cuts = {**view.evoprune_cuts, "attending": list(range(len(attending)))}
        view.num_hidden_layers = len(attending)
        if getattr(self, "layer_types", None) is not None:
            view.layer_types = [self.layer_types[i] for i in attending]  # type: ignore[attr-defined]
        return view

    def to_dict(self) -> dict[str, Any]:
        """Returns what config.json holds."""
        output: dict[str, Any] = super().to_dict()  # type: ignore[misc]
        for name in ACTIVATIONS:
            if isinstance(output.get(name), str):
                output[name] = output[name].removesuffix(NOTE) + NOTE
        return output


class CutModel:
    """What is added to a stock model class; comes before it among the bases."""

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)  # type: ignore[call-arg]
        cuts, model = config.evoprune_cuts, self
        for name, said in cuts["absent"].items():
            owner, _, leaf = name.rpartition(".")
            setattr(model.get_submodule(owner), leaf, Absent(**said))  # type: ignore[attr-defined]
        for name, shape in cuts["shapes"].items():
            owner, _, leaf = name.rpartition(".")
            module = model.get_submodule(owner)  # type: ignore[attr-defined]
            setattr(module, leaf, nn.Parameter(torch.zeros(shape)))
            if isinstance(module, nn.Linear) and leaf == "weight":
                module.out_features, module.in_features = shape
        for name, numbers in cuts["numbers"].items():
            for word, number in numbers.items():
                setattr(model.get_submodule(name), word, number)  # type: ignore[attr-defined]
        for slot, name in enumerate(cuts.get("slots", ())):
            # Slot 0 must be written: the length of a cache is read there.
            model.get_submodule(name).layer_idx = slot  # type: ignore[attr-defined]
        self.post_init()  # type: ignore[attr-defined]


class Absent(nn.Module):
    """What stands for a module that is not there.

    Args:
        how: ``zeros``, ``width`` or ``same``.
        gives: how many values it returns as a tuple; 0 for the tensor alone.
        width: of the zeros, where they are not as wide as the input.
    """

    def __init__(self, how: str, gives: int = 0, width: int = 0) -> None:
        super().__init__()
        self.how, self.gives, self.width = how, gives, width

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Returns its first tensor as it is, or zeros (B, T, …)."""
        given = next(a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor))
        if self.how != "same":
            shape = (*given.shape[:-1], self.width) if self.how == "width" else given.shape
            given = given.new_zeros(shape)
        return (given, *[None] * (self.gives - 1)) if self.gives else given


def _config_class(name: str, stock: Any) -> type:
    made: Any = type(
        name,
        (CutConfig, stock),
        {"model_type": f"evoprune_cut_{stock.model_type}", "__module__": __name__},
    )
    made.register_for_auto_class("AutoConfig")
    return made


def _model_class(name: str, stock: Any) -> type:
    config_class = __getattr__(PREFIX + stock.config_class.__name__)
    made: Any = type(
        name, (CutModel, stock), {"config_class": config_class, "__module__": __name__}
    )
    made.register_for_auto_class(auto_class(stock))
    return made


def auto_class(stock: Any) -> str:
    """Returns the name of the automatic class that loads a class of transformers."""
    for name in dir(transformers):
        if not name.startswith("AutoModelFor"):
            continue
        mapping = getattr(getattr(transformers, name), "_model_mapping", None)
        if mapping is None:
            continue
        for said in mapping._model_mapping.values():
            if stock.__name__ in (said if isinstance(said, (list, tuple)) else (said,)):
                return name
    return "AutoModel"


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
