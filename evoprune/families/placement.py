"""A network over several accelerators of one worker: its blocks in order, all else on the first.

Embedding, last norm and head stay together, so that tasks and criteria see one device. A state is
moved where the next block lies, by the stages and, for the library's own ``forward``, by hooks.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from evoprune.errors import ModelError

if TYPE_CHECKING:
    import torch


def visible(device: str) -> list[str]:
    """Returns the accelerators of this process; Ray shows each worker its own.

    Args:
        device: the kind that a configuration names, such as ``cuda``.

    Raises:
        ModelError: there is none of it.
    """
    import torch

    kind = torch.device(device).type
    found = torch.cuda.device_count() if kind == "cuda" else 0
    if not found:
        raise ModelError(
            f"`model.device_map` spreads a model over GPUs, and there is none for '{device}'.",
            "Leave device_map out, or set model.device=cuda where GPUs are.",
        )
    return [f"{kind}:{index}" for index in range(found)]


def balanced(sizes: Sequence[int], rest: int, count: int) -> list[int]:
    """Returns for each block in order the device that it lies on.

    Args:
        sizes: bytes of each block.
        rest: bytes of what stays on the first device beside its blocks.
        count: devices.
    """
    total, before = rest + sum(sizes), rest
    found = []
    for size in sizes:
        # By the middle of a block, so that none is left over for a device more.
        found.append(min(count - 1, int((before + size / 2) * count / total)) if total else 0)
        before += size
    return found


def spread(family: Any, model: Any, devices: Sequence[str]) -> Any:
    """Returns the model with its blocks over some devices and all else on the first of them.

    Args:
        family: of the model.
        model: on the CPU, maybe mapped from a file.
        devices: to use, in order.

    Raises:
        ModelError: networks of the family are not run block by block.
    """
    if not hasattr(family, "blocks"):
        raise ModelError(
            f"A network of the family '{family.name}' runs on one device.",
            "Leave `model.device_map` out.",
        )
    blocks = list(family.blocks(model))
    sizes = [sum(p.nbytes for p in block.parameters()) for block in blocks]
    rest = sum(p.nbytes for p in model.parameters()) - sum(sizes)
    places = balanced(sizes, rest, len(devices))
    for block, place in zip(blocks, places, strict=True):
        _move(block, devices[place])
        block.register_forward_pre_hook(_arrive, with_kwargs=True)
    _move(model, devices[0], skip={id(module) for block in blocks for module in block.modules()})
    family.after_blocks(model).register_forward_pre_hook(_arrive, with_kwargs=True)
    return model


def _move(model: Any, device: str, skip: set[int] = frozenset()) -> None:  # type: ignore[assignment]
    """Moves the tensors of modules; tied ones stay tied."""
    import torch

    moved: dict[int, Any] = {}
    for module in model.modules():
        if id(module) in skip:
            continue
        for name, tensor in module._parameters.items():
            if tensor is not None:
                if id(tensor) not in moved:
                    moved[id(tensor)] = torch.nn.Parameter(tensor.data.to(device), False)
                module._parameters[name] = moved[id(tensor)]
        for name, tensor in module._buffers.items():
            if tensor is not None:
                module._buffers[name] = tensor.to(device)


def home(module: Any) -> "torch.device":
    """Returns where a module's first tensor lies."""
    return next(module.parameters()).device


def at(device: Any, value: Any) -> Any:
    """Returns a value with its tensors on a device; those that lie there are not copied."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, tuple | list):
        return type(value)(at(device, one) for one in value)
    return value


def _arrive(module: Any, args: Any, kwargs: Any) -> Any:
    device = home(module)
    return at(device, args), {name: at(device, value) for name, value in kwargs.items()}
