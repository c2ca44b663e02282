"""What a pruned model costs, counted from its cost table; nothing here is measured."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from evoprune.core.costs import CostTable
from evoprune.core.protocols import Goal
from evoprune.core.space import Space


@dataclass(frozen=True)
class _Counted:
    """What the counted costs share."""

    goal: ClassVar[Goal] = "min"
    deterministic: ClassVar[bool] = True
    metric: ClassVar[str]

    def costs(self, table: CostTable, space: Space, X: np.ndarray) -> np.ndarray:
        """Returns the metric of each candidate of ``X`` (P, n_var), float64 (P,)."""
        return table.cost(self.metric, space, X)


@dataclass(frozen=True)
class Params(_Counted):
    """``params``: all parameters, embeddings and head included; tied ones count once."""

    metric: ClassVar[str] = "params"
    unit: ClassVar[str] = "parameters"


@dataclass(frozen=True)
class Flops(_Counted):
    """``flops``: of one forward pass, a multiply–add counted as two."""

    metric: ClassVar[str] = "flops"
    unit: ClassVar[str] = "FLOPs per token (or image)"


@dataclass(frozen=True)
class Bytes(_Counted):
    """``bytes``: of the weights in the compute dtype."""

    metric: ClassVar[str] = "bytes"
    unit: ClassVar[str] = "bytes"


@dataclass(frozen=True)
class KvBytes(_Counted):
    """``kv_bytes``: of the key–value cache, per token, in the compute dtype."""

    metric: ClassVar[str] = "kv_bytes"
    unit: ClassVar[str] = "bytes per token"


@dataclass(frozen=True)
class Sparsity:
    """``sparsity``: the share of the prunable parameters that is removed.

    Prunable are the tensors that any site governs: of a decoder its blocks, not the embeddings,
    the last norm and the head.
    """

    goal: ClassVar[Goal] = "max"
    unit: ClassVar[str] = "share of prunable parameters"
    deterministic: ClassVar[bool] = True

    def costs(self, table: CostTable, space: Space, X: np.ndarray) -> np.ndarray:
        """Returns it for each candidate of ``X`` (P, n_var), float64 (P,)."""
        dense = table.dense("params", prunable_only=True)
        return 1.0 - table.cost("params", space, X, prunable_only=True) / dense


@dataclass(frozen=True)
class Units:
    """``units``: the share of the units with a gene that is kept.

    Of a masked head the active features or neurons (MO-EvoPruneDeepTL's second objective); of
    other networks each site with a gene counts its own units.
    """

    goal: ClassVar[Goal] = "min"
    unit: ClassVar[str] = "share of units"
    deterministic: ClassVar[bool] = True

    def costs(self, table: CostTable, space: Space, X: np.ndarray) -> np.ndarray:
        """Returns it for each candidate of ``X`` (P, n_var), float64 (P,)."""
        sites = [site for gene in space.genes for site in gene.sites]
        total = sum(space.sites[site].units for site in sites)
        kept = sum((space.kept(X, site) for site in sites), np.zeros(len(X)))
        return np.asarray(kept / total, dtype=np.float64)
