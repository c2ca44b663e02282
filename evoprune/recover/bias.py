"""Puts the mean of what was removed into a bias."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from evoprune.core.costs import CostTable, Row, entries, fixed
from evoprune.criteria.statistics import input_moments
from evoprune.criteria.subject import Subject

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class BiasCompensation:
    """``bias_compensation``: b += W_removed · E[x_removed] (FLAP, An et al., 2024, §3.3).

    Every layer that reads a site's units gets a bias, also where the model has none.
    """

    local: ClassVar[bool] = True

    def prepare(self, subject: Subject) -> dict[str, np.ndarray]:
        """Returns the mean input of each reading layer, by its tensor's name, float64."""
        found = input_moments(subject)
        return {name: moments.mean.cpu().numpy() for name, moments in found.items()}

    def rows(self, table: CostTable) -> tuple[Row, ...]:
        """Returns the biases of reading layers that have none yet."""
        names = {row.name for row in table.rows}
        added = []
        for row in _reading(table):
            name = _bias_of(row)
            if name not in names:
                weights = {k: v for k, v in row.weights.items() if k in ("params", "bytes")}
                size = sum(part.size for part in row.dims[1 - row.reads])
                added.append(Row(name, (fixed(size),), row.gates, weights))
        return tuple(added)

    def tensors(
        self,
        model: Any,
        table: CostTable,
        kept: Mapping[str, np.ndarray],
        stored: Mapping[str, np.ndarray],
    ) -> dict[str, "torch.Tensor"]:
        """Returns the biases of the layers that read a site which loses units."""
        import torch

        found = {}
        for row in _reading(table):
            read = row.dims[row.reads]
            sites = {part.site for part in read} & set(kept)
            if not sites:
                continue
            weight = model.get_parameter(row.name).data
            gone = np.ones(weight.shape[row.reads], dtype=bool)
            gone[entries(read, kept)] = False
            index = torch.from_numpy(np.flatnonzero(gone)).to(weight.device)
            mean = torch.from_numpy(stored[row.name][gone]).to(weight.device)
            removed = weight.index_select(row.reads, index).double()
            bias = (removed if row.reads == 1 else removed.T) @ mean  # (out, gone) @ (gone,)
            name = _bias_of(row)
            before = dict(model.named_parameters()).get(name)
            if before is not None:
                bias = bias + before.data.double()
            found[name] = bias.to(weight.dtype)
        return found


def _reading(table: CostTable) -> list[Row]:
    """Returns the matrices whose inputs are units of a site, and whose outputs are not."""
    return [
        row
        for row in table.tensors()
        if len(row.dims) == 2
        and any(part.site for part in row.dims[row.reads])
        and not any(part.site for part in row.dims[1 - row.reads])
    ]


def _bias_of(row: Row) -> str:
    return row.name.removesuffix("weight") + "bias"
