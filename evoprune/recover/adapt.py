"""The seam of recoveries that are part of every evaluation."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from evoprune.core.costs import CostTable, Row
from evoprune.criteria.subject import Subject

if TYPE_CHECKING:
    import torch


class Adapt(Protocol):
    """Changes a candidate's tensors after its pattern is realised.

    It must be a function of the pattern alone: whatever it draws, it draws from a seed derived
    from the pattern, so that what is exported is what was scored.

    One whose class says ``local = True`` changes a tensor only because of what its own block
    loses; then patterns that begin alike share the blocks they begin with.
    """

    def prepare(self, subject: Subject) -> dict[str, np.ndarray]:
        """Returns what it needs of the dense network, kept in the run folder."""
        ...

    def rows(self, table: CostTable) -> tuple[Row, ...]:
        """Returns the tensors that it adds to every candidate: their cost is counted."""
        ...

    def tensors(
        self,
        model: Any,
        table: CostTable,
        kept: Mapping[str, np.ndarray],
        stored: Mapping[str, np.ndarray],
    ) -> dict[str, "torch.Tensor"]:
        """Returns new tensors by name.

        Args:
            model: the base network, whole.
            table: its cost table.
            kept: for each site that loses units those that stay.
            stored: what ``prepare`` returned.
        """
        ...
