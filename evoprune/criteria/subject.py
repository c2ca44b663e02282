"""What a criterion looks at: a network, its cost table, and examples to run it on."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune.core.costs import CostTable, Row
from evoprune.core.space import Site

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Subject:
    """A dense network to be ranked.

    Attributes:
        model: the network.
        table: its cost table; the rows say which entries belong to which units.
        sites: the sites to rank, those of which a gene keeps a part.
        run: runs the dense network over one micro-batch after another, and yields for each the
            loss to differentiate (a 0-d tensor, summed over positions) and which positions of the
            batch are real, boolean (B, T) or (B,).
        seed: of any random choice.
    """

    model: Any
    table: CostTable
    sites: tuple[Site, ...]
    run: Callable[[], Iterator[tuple["torch.Tensor", "torch.Tensor"]]]
    seed: int = 0

    def rows(self, site: str, reading: bool = False) -> list[Row]:
        """Returns the tensors that hold units of a site.

        Args:
            site: its name.
            reading: only those that read the units (the site stands on the axis that reads).
        """
        found = []
        for row in self.table.tensors():
            axes = [i for i, dim in enumerate(row.dims) if any(p.site == site for p in dim)]
            if axes and (not reading or (axes == [row.reads] and len(row.dims) > 1)):
                found.append(row)
        return found

    def tensor(self, row: Row) -> "torch.Tensor":
        """Returns a row's tensor."""
        return self.model.get_parameter(row.name)


def lift(row: Row, site: str, element: "torch.Tensor", units: int) -> np.ndarray:
    """Returns the sum of a tensor's element scores over the entries of each unit (units,).

    Args:
        row: the tensor's row.
        site: whose units.
        element: scores of its entries, in the tensor's shape.
        units: how many units the site has.
    """
    total = np.zeros(units)
    for axis, dim in enumerate(row.dims):
        start = 0
        for part in dim:
            if part.site == site:
                piece = element.narrow(axis, start, part.size).double()
                others = [i for i in range(piece.ndim) if i != axis]
                flat = piece.sum(dim=others) if others else piece
                total += flat.reshape(units, part.unit).sum(1).cpu().numpy()
            start += part.size
    return total


def along_inputs(row: Row, values: "torch.Tensor") -> "torch.Tensor":
    """Returns values of the inputs of a layer (in,), to be multiplied with its weight.

    They stand along the axis that reads: (1, in) for ``nn.Linear``, (in, 1) for a ``Conv1D``.
    """
    shape = [1] * len(row.dims)
    shape[row.reads] = -1
    return values.reshape(shape)


def lifted(
    subject: Subject, element: Callable[[Row], "torch.Tensor"], reading: bool = False
) -> dict[str, np.ndarray]:
    """Returns the unit scores of every site, from a score for each weight of its tensors.

    Args:
        subject: what is ranked.
        element: gives the scores of a row's tensor, in its shape.
        reading: only tensors that read the units count.
    """
    found: dict[str, np.ndarray] = {}
    for site in subject.sites:
        rows = subject.rows(site.name, reading)
        parts = [lift(row, site.name, element(row), site.units) for row in rows]
        found[site.name] = np.sum(parts, axis=0)
    return found


def orders(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns for each site its units from the most to the least important; ties keep order."""
    return {site: np.argsort(-score, kind="stable") for site, score in scores.items()}
