"""How evenly quality survives: over clusters of the data, and over the worst examples.

The clusters are those of the calibration sampler; examples of other splits belong to the nearest
centroid.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from evoprune.core.metrics import Table, cvar, worst_group, worst_group_retention
from evoprune.core.protocols import Goal
from evoprune.objectives.quality import _OfCleanPass


@dataclass(frozen=True)
class WorstClusterRetention(_OfCleanPass):
    """``worst_cluster_retention``: accuracy relative to dense, in the cluster where it is least."""

    goal: ClassVar[Goal] = "max"
    unit: ClassVar[str] = "share of the dense model's accuracy"

    def value(self, tables: Mapping[str, Table], dense: Mapping[str, Table]) -> float:
        """Returns the minimum over clusters of accuracy(pruned) / accuracy(dense)."""
        return worst_group_retention(tables["clean"], dense["clean"], "correct")


@dataclass(frozen=True)
class WorstClusterKl(_OfCleanPass):
    """``worst_cluster_kl``: the divergence in the cluster where it is largest."""

    goal: ClassVar[Goal] = "min"
    unit: ClassVar[str] = "nats per token"

    def value(self, tables: Mapping[str, Table], dense: Mapping[str, Table]) -> float:
        """Returns the maximum over clusters of the mean divergence."""
        return worst_group(tables["clean"], "kl")


@dataclass(frozen=True)
class CvarKl(_OfCleanPass):
    """``cvar_kl``: the mean divergence over the worst ``alpha`` of the examples."""

    alpha: float = 0.1

    goal: ClassVar[Goal] = "min"
    unit: ClassVar[str] = "nats per token"

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}; it must lie in (0, 1]")

    def value(self, tables: Mapping[str, Table], dense: Mapping[str, Table]) -> float:
        """Returns the conditional value at risk of the examples' mean divergence."""
        return cvar(tables["clean"], "kl", self.alpha)
