"""Loads a model, finds the family that it belongs to, and keeps the base that workers map."""

import copy
import hashlib
import importlib
import os.path
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evoprune.config.shipped import find, resolved
from evoprune.core.errors import ModelError
from evoprune.core.registry import BACKBONES, FAMILIES
from evoprune.families.hub import only_cached
from evoprune.families.placement import check_device, spread, streamed, visible


def load_model(
    name_or_path: str,
    *,
    dtype: str = "float32",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Any:
    """Returns a model of Hugging Face's in evaluation mode, on the CPU.

    Its class is the one that its configuration names; a language model's where it names none.

    Raises:
        ModelError: there is no such model, it cannot be read, or a part of it has no weights.
    """
    import torch

    quiet_transformers()
    folder = Path(name_or_path)
    if os.path.isdir(folder) and not (folder / "config.json").is_file():
        raise ModelError(
            f"The folder '{name_or_path}' holds no config.json.",
            "Give a folder that `save_pretrained` wrote, or a hub id.",
        )
    cached = not os.path.isdir(folder) and only_cached(name_or_path, revision)
    where = {
        "revision": revision,
        "trust_remote_code": trust_remote_code,
        "local_files_only": cached,
    }
    try:
        kind = _class_named(name_or_path, where)
        model, info = kind.from_pretrained(
            name_or_path, dtype=getattr(torch, dtype), output_loading_info=True, **where
        )
    except Exception as error:  # whatever a hub, a file or a foreign class may raise
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"The model '{name_or_path}' cannot be loaded: {type(error).__name__}: {reason}.",
            "Check the path or hub id, `revision` and `trust_remote_code`.",
        ) from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"'{name_or_path}' has no weights for {len(missing)} tensors of "
            f"{type(model).__name__}, such as '{missing[0]}'.",
            "Give a model that was trained with its head.",
        )
    return model.eval().requires_grad_(False)


def _class_named(name_or_path: str, where: Mapping[str, Any]) -> Any:
    """Returns the class that a model's configuration names, if it is one of transformers'."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(name_or_path, **where)
    named = (getattr(config, "architectures", None) or [""])[0]
    # A class without a head has no logits to measure.
    own = getattr(transformers, named, None) if "For" in named or "LMHead" in named else None
    return own or transformers.AutoModelForCausalLM


def load_tokenizer(name_or_path: str, *, trust_remote_code: bool = False) -> Any:
    """Returns the model's tokenizer.

    Raises:
        ModelError: there is none.
    """
    from transformers import AutoTokenizer

    quiet_transformers()
    cached = not os.path.isdir(name_or_path) and only_cached(name_or_path)
    try:
        return AutoTokenizer.from_pretrained(
            name_or_path, trust_remote_code=trust_remote_code, local_files_only=cached
        )
    except Exception as error:  # whatever a hub, a file or a foreign class may raise
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"The tokenizer of '{name_or_path}' cannot be loaded: {reason}.",
            "Save the tokenizer beside the model (`tokenizer.save_pretrained`).",
        ) from error


def load_processor(name_or_path: str, *, trust_remote_code: bool = False) -> Any:
    """Returns a model's tokenizer, or what turns pictures into its inputs.

    Raises:
        ModelError: there is neither.
    """
    from transformers import AutoImageProcessor

    quiet_transformers()
    try:
        return load_tokenizer(name_or_path, trust_remote_code=trust_remote_code)
    except ModelError as no_tokenizer:
        try:
            return AutoImageProcessor.from_pretrained(
                name_or_path, trust_remote_code=trust_remote_code
            )
        except Exception:  # whatever a hub or a file may raise: the first error says more
            raise no_tokenizer from None


def quiet_transformers() -> None:
    """Keeps transformers' progress bars out of our output."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def copied(model: Any, dtype: str) -> Any:
    """Returns a copy of a live model as it would be loaded: its units are reordered in place."""
    import torch

    copied = copy.deepcopy(model).to(getattr(torch, dtype)).eval().requires_grad_(False)
    # Workers load the base with sdpa, too; eager attention without a mask is not causal.
    if getattr(copied.config, "_attn_implementation", None) == "eager":
        copied.set_attn_implementation("sdpa")
    return copied


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
    from transformers import AutoModelForCausalLM

    config = base_config(folder, trust_remote_code)
    kind: Any = getattr(transformers, config.architectures[0], None)
    kind = kind or AutoModelForCausalLM._model_mapping[type(config)]
    model = kind.from_pretrained(
        None,
        config=config,
        state_dict=load_file(folder / "base.safetensors"),
        dtype=getattr(torch, dtype),
    )
    return model.to(device).eval().requires_grad_(False)


def base_config(folder: Path, trust_remote_code: bool = False) -> Any:
    """Returns the configuration of a base, without its tensors."""
    from transformers import AutoConfig

    quiet_transformers()
    return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)


def family_of(model: Any, name: str = "auto") -> Any:
    """Returns the family that takes a Hugging Face model apart.

    Raises:
        ModelError: no family fits, or the one asked for does not.
    """
    names = FAMILIES.names() if name == "auto" else [name]
    families = [FAMILIES.load(candidate)() for candidate in names]
    families = [family for family in families if family.loader == "huggingface"]
    for family in families:
        if family.fits(model):
            return family
    raise _no_family(model, families)


def _no_family(model: Any, families: Sequence[Any]) -> ModelError:
    """Returns the error of a model that no family takes apart, with each family's reason."""
    reasons = [
        f"{family.name}: {family.misfit(model) if hasattr(family, 'misfit') else 'it does not fit'}"
        for family in families
    ]
    return ModelError(
        f"No family takes {type(model).__name__} apart ({'; '.join(reasons)}).",
        "Use a model built like Llama, or write a family for it (README, «add your own»).",
    )


def open_network(settings: Any, live: Any = None) -> tuple[Any, Any, str]:
    """Returns the family and the network that a configuration's ``model`` section means.

    The third is the digest of the weights as they were loaded.

    Args:
        settings: the section (``config.ModelConfig``).
        live: a live module to use instead of the weights named there.

    Raises:
        ModelError: the network cannot be had, or no family takes it apart.
    """
    check_device(settings.device)
    names = FAMILIES.names() if settings.family == "auto" else [settings.family]
    families = [FAMILIES.load(name)() for name in names]
    loader = "factory" if settings.factory is not None else "huggingface"
    families = [family for family in families if family.loader == loader]
    if not families:
        raise ModelError(
            f"The family '{settings.family}' does not take a model from "
            f"`{'factory' if loader == 'factory' else 'name_or_path'}`.",
            "See `evoprune ls families`, or leave `model.family` out.",
        )
    if live is not None and loader == "huggingface":
        _check_transformers(live)
    loaded = live_copy(live, settings) if live is not None else LOADERS[loader](settings)
    digest = weights_digest(loaded)
    for family in families:
        network = family.adopt(loaded, settings)
        if family.fits(network):
            return family, placed(family, network, settings.device, settings.device_map), digest
    raise _no_family(loaded, families)


def _check_transformers(live: Any) -> None:
    """Checks that a live module is one of transformers'.

    Raises:
        ModelError: it is another module, such as a network for images.
    """
    if not hasattr(getattr(live, "config", None), "save_pretrained"):
        raise ModelError(
            f"The model handed over is {type(live).__name__}, no model of transformers.",
            "Hand over what its AutoModelFor… gives; another network for images is searched as the "
            "backbone of a head, with `task: classification` and `model: {family: sparse_head}`.",
        )


def placed(family: Any, network: Any, device: str, device_map: str | None) -> Any:
    """Returns a network where a configuration's ``model`` section wants it.

    Raises:
        ModelError: its blocks cannot lie apart from the rest.
    """
    if device_map is None:
        return network.to(device)
    if device_map == "streamed":
        return streamed(family, network, device)
    return spread(family, network, visible(device))


def read_placed(family: Any, folder: Path, how: Any) -> Any:
    """Returns the network of a base file where a worker wants it.

    Unless it all goes to one device it is mapped first, so that each block is read to its own.

    Args:
        family: of the network.
        folder: with the base.
        how: has ``dtype``, ``device``, ``device_map`` and ``trust_remote_code``.

    Raises:
        ModelError: this machine does not have the device.
    """
    check_device(how.device)
    if how.device_map is None:
        return family.read(folder, how.dtype, how.device, how.trust_remote_code)
    mapped = family.read(folder, how.dtype, "cpu", how.trust_remote_code)
    return placed(family, mapped, how.device, how.device_map)


def live_copy(live: Any, settings: Any) -> Any:
    """Returns a copy of a live module as a configuration's ``model`` section would load it."""
    return copied(live, settings.dtype) if settings.factory is None else copy.deepcopy(live).eval()


def weights_digest(model: Any) -> str:
    """Returns the SHA-256 of a module's weights and saved buffers with their names."""
    import torch

    saved = model.state_dict()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in saved}
    whole = hashlib.sha256()
    for name, tensor in sorted({**dict(model.named_parameters()), **buffers}.items()):
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        whole.update(memoryview(flat.numpy()))
    return whole.hexdigest()


def _hugging_face(settings: Any) -> Any:
    return load_model(
        resolved(settings.name_or_path),
        dtype=settings.dtype,
        revision=settings.revision,
        trust_remote_code=settings.trust_remote_code,
    )


def _factory(settings: Any) -> Any:
    """Returns what a factory makes, with weights from safetensors if any are named."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    name = settings.factory
    try:
        make = BACKBONES.load(name) if name in BACKBONES.names() else _imported(name)
        module = make(**settings.options.get("factory", {}))
        if settings.weights is not None:
            module.load_state_dict(load_file(find(settings.weights)), strict=True)
    except (TypeError, RuntimeError, OSError, SafetensorError) as error:
        raise ModelError(
            f"The factory '{name}' gives no model: {' '.join(str(error).split())[:300]}.",
            "Check `model.options.factory` and `model.weights`.",
        ) from error
    return module.eval().requires_grad_(False)


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ModelError(
            f"The factory '{name}' cannot be imported: {error}.",
            "Write it as package.module:function.",
        ) from error


LOADERS = {"huggingface": _hugging_face, "factory": _factory}
