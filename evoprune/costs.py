"""What a pattern costs, exactly: a table with one row per parameter tensor.

The same rows say how tensors are sliced, so that what is counted is what is exported.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from evoprune.space import Space


@dataclass(frozen=True)
class Part:
    """A stretch of a tensor's dimension.

    Attributes:
        size: its full extent.
        site: the site whose units it is made of; None for a stretch that is never cut.
        unit: entries per unit, so ``size == units · unit``.
        first: the first of the site's units that it is made of; the others follow in order.
    """

    size: int
    site: str | None = None
    unit: int = 1
    first: int = 0

    @property
    def units(self) -> range:
        """The site's units that it is made of."""
        return range(self.first, self.first + self.size // self.unit)


@dataclass(frozen=True)
class Row:
    """One parameter tensor, or an operation without parameters.

    Attributes:
        name: the tensor's name in the model's state dict; a name of its own for an operation.
        dims: for each dimension its parts, in order. A fused tensor has several parts.
        gates: sites that must be alive for the row to exist.
        weights: for each cost metric what one entry costs: ``{"params": 1, "flops": 2}``.
        tensor: whether the row is a tensor of the state dict.
    """

    name: str
    dims: tuple[tuple[Part, ...], ...]
    gates: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    tensor: bool = True

    @property
    def prunable(self) -> bool:
        """Whether any site governs the row."""
        return bool(self.gates) or any(part.site for dim in self.dims for part in dim)


def fixed(size: int) -> tuple[Part, ...]:
    """Returns a dimension that is never cut."""
    return (Part(size),)


def of_site(site: str, units: int, unit: int = 1, first: int = 0) -> tuple[Part, ...]:
    """Returns a dimension made of so many units of a site, from its ``first``."""
    return (Part(units * unit, site, unit, first),)


# Weights by the dimensions that sites cut, by the gates; what is never cut is in the weight.
Terms = dict[frozenset[str], dict[tuple[tuple[Part, ...], ...], float]]


@dataclass(frozen=True)
class CostTable:
    """The rows of a model; ``cost = Σ rows Π gates · Π kept(dims)``.

    Metrics are ``params``, ``flops`` (multiply–adds counted as two, per token or per image),
    ``bytes`` (of the weights) and what else a family weighs, such as ``kv_bytes``.
    """

    rows: tuple[Row, ...]

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that any row has a weight for, in order of appearance."""
        return tuple(dict.fromkeys(metric for row in self.rows for metric in row.weights))

    def cost(
        self, metric: str, space: Space, X: np.ndarray, prunable_only: bool = False
    ) -> np.ndarray:
        """Returns a metric for each candidate of ``X`` (P, n_var), float64 (P,).

        Args:
            metric: one of ``metrics``.
            space: the space of the candidates.
            X: candidates, canonical or not: what lies under a dropped site costs nothing.
            prunable_only: leave out rows that no site governs (embeddings, the head …).
        """
        memo = _Kept(space, X)
        total = np.zeros(len(X), dtype=np.float64)
        for gates, terms in self._terms(metric, prunable_only).items():
            amount = np.zeros(len(X), dtype=np.float64)
            for dims, weight in terms.items():
                amount += weight * math.prod(memo.extent(dim) for dim in dims)
            for gate in gates:
                amount *= memo.alive(gate)
            total += amount
        return total

    def dense(self, metric: str, prunable_only: bool = False) -> float:
        """Returns a metric of the model that nothing is removed from."""
        return sum(
            weight * math.prod(_size(dim) for dim in dims)
            for terms in self._terms(metric, prunable_only).values()
            for dims, weight in terms.items()
        )

    def _terms(self, metric: str, prunable_only: bool) -> Terms:
        """Returns the rows that count, those taken together that the same sites govern alike."""
        key = metric, prunable_only
        if key not in self._together:
            found: Terms = {}
            for row in self.rows:
                weight = float(row.weights.get(metric, 0.0))
                if weight == 0 or (prunable_only and not row.prunable):
                    continue
                cut = [dim for dim in row.dims if any(part.site for part in dim)]
                weight *= math.prod(_size(dim) for dim in row.dims if dim not in cut)
                terms = found.setdefault(frozenset(row.gates), {})
                dims = tuple(sorted(cut, key=repr))
                terms[dims] = terms.get(dims, 0.0) + weight
            self._together[key] = found
        return self._together[key]

    @cached_property
    def _together(self) -> dict[tuple[str, bool], Terms]:
        return {}

    def tensors(self) -> Iterable[Row]:
        """Returns the rows that are tensors of the state dict."""
        return (row for row in self.rows if row.tensor)


def _size(dim: tuple[Part, ...]) -> int:
    """Returns the full extent of a dimension."""
    return sum(part.size for part in dim)


class _Kept:
    """Units kept and sites alive, computed once per site for a batch of candidates."""

    def __init__(self, space: Space, X: np.ndarray) -> None:
        self._space, self._X = space, X
        self._extents: dict[tuple[Part, ...], np.ndarray] = {}
        self._alive: dict[str, np.ndarray] = {}

    def extent(self, dim: tuple[Part, ...]) -> np.ndarray:
        """Returns the entries that each candidate keeps of a dimension (P,)."""
        if dim not in self._extents:
            entries = np.zeros(len(self._X), dtype=np.float64)
            for part in dim:
                if part.site is None:
                    entries += part.size
                else:
                    entries += self._space.kept(self._X, part.site, part.units) * part.unit
            self._extents[dim] = entries
        return self._extents[dim]

    def alive(self, site: str) -> np.ndarray:
        if site not in self._alive:
            self._alive[site] = self._space.alive(self._X, site)
        return self._alive[site]


def entries(dim: tuple[Part, ...], kept: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the entries of a dimension that belong to some units, in the order of the units.

    Args:
        dim: the dimension's parts.
        kept: by site the units, in the order wanted; a site that is not named keeps all.
    """
    stays, start = [], 0
    for part in dim:
        if part.site is not None and part.site in kept:
            units = kept[part.site]
            units = units[(part.units.start <= units) & (units < part.units.stop)] - part.first
            stays.append((units[:, None] * part.unit + np.arange(part.unit)).ravel() + start)
        else:
            stays.append(np.arange(start, start + part.size))
        start += part.size
    return np.concatenate(stays).astype(np.int64)
