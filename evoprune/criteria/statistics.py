"""Moments of what reaches the layers that read a site's units."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evoprune.criteria.subject import Subject

if TYPE_CHECKING:
    import torch


@dataclass
class Moments:
    """Sums over real positions, float64, each (features,)."""

    count: int
    total: "torch.Tensor"
    squares: "torch.Tensor"

    @property
    def mean(self) -> "torch.Tensor":
        """The mean of each feature."""
        return self.total / self.count

    @property
    def variance(self) -> "torch.Tensor":
        """The population variance of each feature."""
        return (self.squares / self.count - self.mean**2).clamp_min(0)

    @property
    def norm(self) -> "torch.Tensor":
        """The Euclidean norm of each feature over all positions."""
        return self.squares.sqrt()


def input_moments(subject: Subject) -> dict[str, Moments]:
    """Returns the moments of the inputs of every layer that reads units, by its tensor's name."""
    import torch

    names = {row.name for site in subject.sites for row in subject.rows(site.name, reading=True)}
    found: dict[str, Moments] = {}
    pending: dict[str, torch.Tensor] = {}
    handles = []

    def hook(name: str) -> Any:
        def keep(module: Any, inputs: tuple[Any, ...]) -> None:
            pending[name] = inputs[0].detach()

        return keep

    for name in sorted(names):
        module = subject.model.get_submodule(name.rpartition(".")[0])
        handles.append(module.register_forward_pre_hook(hook(name)))
    try:
        with torch.no_grad():
            for _, real in subject.run():
                for name, inputs in pending.items():
                    rows = inputs[real.to(inputs.device)].double()
                    # Beside the tensor that they are compared with; a streamed one is elsewhere.
                    home = subject.model.get_parameter(name).device
                    total, squares = rows.sum(0).to(home), rows.square().sum(0).to(home)
                    moments = found.setdefault(
                        name, Moments(0, torch.zeros_like(total), torch.zeros_like(squares))
                    )
                    moments.count += len(rows)
                    moments.total += total
                    moments.squares += squares
                pending.clear()
    finally:
        for handle in handles:
            handle.remove()
    return found
