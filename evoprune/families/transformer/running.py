"""Runs a model with some of its modules' forwards replaced, and nothing left of it afterwards."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Forward = Callable[..., Any]


@contextmanager
def replaced(forwards: Mapping[Any, Forward]) -> Iterator[None]:
    """Gives modules other forwards while the context lasts.

    Args:
        forwards: by module; an attribute of the instance hides the method of its class.
    """
    before = {module: vars(module).get("forward") for module in forwards}
    try:
        for module, forward in forwards.items():
            module.forward = forward
        yield
    finally:
        for module, forward in before.items():
            if forward is None:
                vars(module).pop("forward", None)
            else:
                module.forward = forward


def first_tensor(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> "torch.Tensor":
    """Returns the hidden states that a module is called with: its first tensor (B, T, …)."""
    import torch

    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor):
            return value
    raise TypeError("no tensor among the arguments")


def with_first(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], hidden: "torch.Tensor"
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns arguments with other hidden states in the place of the first tensor."""
    import torch

    for i, value in enumerate(args):
        if isinstance(value, torch.Tensor):
            return (*args[:i], hidden, *args[i + 1 :]), dict(kwargs)
    for name, value in kwargs.items():
        if isinstance(value, torch.Tensor):
            return args, {**kwargs, name: hidden}
    raise TypeError("no tensor among the arguments")


def nothing(hidden: "torch.Tensor", width: int | None = None) -> "torch.Tensor":
    """Returns zeros in the shape of hidden states (B, T, H), or of another width."""
    return hidden.new_zeros(hidden.shape if width is None else (*hidden.shape[:-1], width))


def like(count: int, tensor: "torch.Tensor") -> Any:
    """Returns a tensor as the first of so many values, the others None; alone where there is 0."""
    return (tensor, *[None] * (count - 1)) if count else tensor
