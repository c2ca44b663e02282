"""What runs in a model, in order: one forward, watched."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


@dataclass
class Call:
    """One call of a module.

    Attributes:
        name: of the module.
        module: itself.
        began, ended: ticks of a clock that moves at every begin and end.
        given: the shape of the first tensor that it was given.
        gave: the shape of the first tensor that it returned.
        tuple_of: how many values it returned as a tuple; 0 where it returned one tensor.
    """

    name: str
    module: Any
    began: int
    ended: int = -1
    given: tuple[int, ...] = ()
    gave: tuple[int, ...] = ()
    tuple_of: int = 0


def traced(model: Any, run: Callable[[], Any]) -> list[Call]:
    """Returns the calls of a model's modules, in the order in which they began."""
    calls: list[Call] = []
    with watching(model, calls):
        run()
    return [call for call in calls if call.ended >= 0]


@contextmanager
def watching(model: Any, calls: list[Call]) -> Iterator[None]:
    """Writes down the calls of a model's modules while the context lasts."""
    tick, going, handles = 0, [], []

    def began(name: str) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            nonlocal tick
            call = Call(name, module, tick, given=_shape((*args, *kwargs.values())))
            tick += 1
            calls.append(call)
            going.append(call)

        return hook

    def ended(module: Any, args: tuple[Any, ...], output: Any) -> None:
        nonlocal tick
        call = going.pop()
        call.ended, tick = tick, tick + 1
        call.gave = _shape(output if isinstance(output, tuple) else (output,))
        call.tuple_of = len(output) if isinstance(output, tuple) else 0

    try:
        for name, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(began(name), with_kwargs=True))
            handles.append(module.register_forward_hook(ended))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _shape(values: tuple[Any, ...]) -> tuple[int, ...]:
    import torch

    found: list[torch.Tensor] = [one for one in values if isinstance(one, torch.Tensor)]
    return tuple(found[0].shape) if found else ()
