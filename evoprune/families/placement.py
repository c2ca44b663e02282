"""A network that one accelerator cannot hold.

Over several accelerators of one worker its blocks lie in order. Streamed, they stay in the
machine's memory, mapped from their file, and each is brought to the device while it is run.
Embedding, last norm and head lie together on the first device, so that tasks and criteria see one.
States and blocks are moved by the stages and, for the library's own ``forward``, by hooks.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from evoprune.core.errors import ModelError

if TYPE_CHECKING:
    import torch


def devices() -> list[str]:
    """Returns what `model.device` may name on this machine: the CPU first, then accelerators."""
    import torch

    if not torch.accelerator.is_available():
        return ["cpu"]
    kind = str(torch.accelerator.current_accelerator()).partition(":")[0]
    return ["cpu", kind, *(f"{kind}:{i}" for i in range(torch.accelerator.device_count()))]


def check_device(device: str) -> None:
    """Checks that this machine has a device, before anything is moved there.

    Raises:
        ModelError: it has not, or there is nothing of that name.
    """
    found = devices()
    if device not in found:
        best = found[min(1, len(found) - 1)]
        other = "; for an accelerator, install a torch built for it" if best == "cpu" else ""
        raise ModelError(
            f"`model.device` is '{device}', and this torch finds {', '.join(found)} here.",
            f"Set model.device={best}{other} (`evoprune doctor` says what there is).",
        )


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
    blocks = _blocks(family, model)
    sizes = [sum(p.nbytes for p in block.parameters()) for block in blocks]
    rest = sum(p.nbytes for p in model.parameters()) - sum(sizes)
    places = balanced(sizes, rest, len(devices))
    for block, place in zip(blocks, places, strict=True):
        _move(block, devices[place])
        block.register_forward_pre_hook(_arriving(devices[place]), with_kwargs=True)
    _move(model, devices[0], skip=_inside(blocks))
    # By name, not by its tensors: a norm may have no weights.
    family.after_blocks(model).register_forward_pre_hook(_arriving(devices[0]), with_kwargs=True)
    return model


def streamed(family: Any, model: Any, device: str) -> Any:
    """Returns the model with its blocks where they are, and all else on a device.

    A block comes to the device whenever it is run, and goes again (``visiting``).

    Args:
        family: of the model.
        model: on the CPU, maybe mapped from a file.
        device: where everything is run.

    Raises:
        ModelError: networks of the family are not run block by block.
    """
    blocks = _blocks(family, model)
    _move(model, device, skip=_inside(blocks))
    for block in blocks:
        block._visits = visits = _Visits(device)
        block.register_forward_pre_hook(lambda module, args, visits=visits: visits.enter(module))
        block.register_forward_hook(
            lambda module, args, found, visits=visits: visits.leave(), always_call=True
        )
    return model


def is_streamed(family: Any, model: Any) -> bool:
    """Returns whether a model's blocks visit the device one by one."""
    return hasattr(family, "blocks") and hasattr(family.blocks(model)[0], "_visits")


@contextmanager
def visiting(block: Any) -> Iterator[None]:
    """Brings a streamed block to its device while the context lasts; others stay where they are.

    Raises:
        ModelError: its gradients are wanted, which would be lost with what is brought there.
    """
    visits = getattr(block, "_visits", None)
    if visits is None:
        yield
        return
    visits.enter(block)
    try:
        yield
    finally:
        visits.leave()


class _Visits:
    """Where a block is run, and its own tensors while it is there.

    Args:
        device: where.
    """

    def __init__(self, device: str) -> None:
        import torch

        self._device = torch.empty(0, device=device).device  # with its number
        self._depth = 0
        self._home: list[tuple[dict[str, Any], str, Any]] = []

    def enter(self, block: Any) -> None:
        """Brings the block, if nobody did so already."""
        self._depth += 1
        if self._depth > 1:
            return
        try:
            self._bring(block)
        except BaseException:
            self.leave()  # half of it may be there
            raise

    def _bring(self, block: Any) -> None:
        import torch

        for module in block.modules():
            for held in (module._parameters, module._buffers):
                for name, tensor in held.items():
                    if tensor is None or tensor.device == self._device:
                        continue
                    if tensor.requires_grad:
                        raise ModelError(
                            "A streamed model has no gradients: its blocks only visit.",
                            "Choose another criterion, or leave `model.device_map` out.",
                        )
                    there = tensor.detach().to(self._device)
                    self._home.append((held, name, tensor))
                    kept = held is module._parameters
                    held[name] = torch.nn.Parameter(there, False) if kept else there

    def leave(self) -> None:
        """Puts the block's own tensors back once the last visit ends."""
        self._depth -= 1
        if not self._depth:
            while self._home:
                held, name, tensor = self._home.pop()
                held[name] = tensor


def _blocks(family: Any, model: Any) -> list[Any]:
    """Returns the blocks of a model.

    Raises:
        ModelError: networks of the family are not run block by block.
    """
    if not hasattr(family, "blocks"):
        raise ModelError(
            f"A network of the family '{family.name}' runs on one device.",
            "Leave `model.device_map` out.",
        )
    return list(family.blocks(model))


def _inside(blocks: Sequence[Any]) -> set[int]:
    return {id(module) for block in blocks for module in block.modules()}


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


def _arriving(device: str) -> Callable[..., Any]:
    """Returns a hook that brings what a module is given to a device."""

    def arrive(module: Any, args: Any, kwargs: Any) -> Any:
        return at(device, args), {name: at(device, value) for name, value in kwargs.items()}

    return arrive
