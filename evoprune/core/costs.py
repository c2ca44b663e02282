"""What a pattern costs, exactly: a table with one row per parameter tensor.

The same rows say how tensors are sliced, so that what is counted is what is exported.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from evoprune.core.space import Space


@dataclass(frozen=True)
class Extent:
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
        reads: the axis of a weight that meets the inputs: 1 in ``nn.Linear`` (out, in).
    """

    name: str
    dims: tuple[tuple[Extent, ...], ...]
    gates: tuple[str, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    tensor: bool = True
    reads: int = 1

    @property
    def prunable(self) -> bool:
        """Whether any site governs the row."""
        return bool(self.gates) or any(part.site for dim in self.dims for part in dim)


def fixed(size: int) -> tuple[Extent, ...]:
    """Returns a dimension that is never cut."""
    return (Extent(size),)


def of_site(site: str, units: int, unit: int = 1, first: int = 0) -> tuple[Extent, ...]:
    """Returns a dimension made of so many units of a site, from its ``first``."""
    return (Extent(units * unit, site, unit, first),)


# The parts of a dimension, in order.
Dim = tuple[Extent, ...]


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
        amounts = self._amounts(metric, space, prunable_only)
        dropped, extents = space.dropped(X), _Extents(space, X)
        alive = ~dropped[:, amounts.droppers].any(axis=2)
        each = amounts.tables[np.arange(len(amounts.tables)), X[:, amounts.columns]]
        total = np.asarray((alive * each).sum(axis=1))
        for (droppers, dims), weight in amounts.rest.items():
            amount = weight * math.prod(extents.of(dim) for dim in dims)
            total += amount * ~dropped[:, list(droppers)].any(axis=1)
        return total

    def dense(self, metric: str, prunable_only: bool = False) -> float:
        """Returns a metric of the model that nothing is removed from."""
        key = metric, prunable_only
        if key not in self._whole:
            self._whole[key] = sum(
                weight * math.prod(_size(dim) for dim in row.dims)
                for row, weight in self._counted(metric, prunable_only)
            )
        return self._whole[key]

    def _counted(self, metric: str, prunable_only: bool) -> list[tuple[Row, float]]:
        """Returns the rows that have a weight, and that."""
        weighed = [(row, float(row.weights.get(metric, 0.0))) for row in self.rows]
        return [
            (row, weight)
            for row, weight in weighed
            if weight and (row.prunable or not prunable_only)
        ]

    def _amounts(self, metric: str, space: Space, prunable_only: bool) -> "_Amounts":
        """Returns the rows as a space can change them, worked out once."""
        key = metric, prunable_only
        known = self._latest.get(key)
        if known is None or known[0] is not space:
            known = space, _Amounts.of(self._counted(metric, prunable_only), space)
            self._latest[key] = known
        return known[1]

    @cached_property
    def _latest(self) -> dict[tuple[str, bool], tuple[Space, "_Amounts"]]:
        return {}

    @cached_property
    def _whole(self) -> dict[tuple[str, bool], float]:
        return {}

    def tensors(self) -> Iterable[Row]:
        """Returns the rows that are tensors of the state dict."""
        return (row for row in self.rows if row.tensor)


def _size(dim: Dim) -> int:
    """Returns the full extent of a dimension."""
    return sum(part.size for part in dim)


@dataclass(frozen=True)
class _Amounts:
    """Rows that cost, those taken together that a space changes alike.

    Attributes:
        droppers: the columns of ``space.dropped`` that can drop a term (T, D), filled with the
            last.
        columns: whose level a term goes by (T,); any for a term that is not cut.
        tables: what a term costs at each level (T, L).
        rest: the weights of what is cut in more than one way, or by bits, by its droppers and
            the dimensions that are cut.
    """

    droppers: np.ndarray
    columns: np.ndarray
    tables: np.ndarray
    rest: Mapping[tuple[tuple[int, ...], tuple[Dim, ...]], float]

    @classmethod
    def of(cls, rows: Iterable[tuple[Row, float]], space: Space) -> "_Amounts":
        """Returns them for rows and their weights in a space."""
        tables: dict[tuple[tuple[int, ...], int], np.ndarray] = {}
        rest: dict[tuple[tuple[int, ...], tuple[Dim, ...]], float] = {}
        levels = int(space.upper.max()) + 1
        for row, weight in rows:
            sites, cut = set(row.gates), []
            for dim in row.dims:
                if _stays_whole(dim, space):
                    weight *= _size(dim)
                    sites |= {part.site for part in dim if part.site}
                else:
                    cut.append(dim)
            column, entries = 0, np.ones(levels)
            if len(cut) == 1 and (found := _by_level(cut[0], space)):
                column, entries = found
                sites |= {part.site for part in cut.pop() if part.site}
            droppers = tuple(sorted({at for site in sites for at in space.droppers(site)}))
            if cut:
                key = droppers, tuple(sorted(cut, key=repr))
                rest[key] = rest.get(key, 0.0) + weight
            else:
                table = tables.setdefault((droppers, column), np.zeros(levels))
                table[: len(entries)] += weight * entries
        width = max((len(droppers) for droppers, _ in tables), default=0)
        filled = [(*some, *[-1] * (width - len(some))) for some, _ in tables]
        return cls(
            np.array(filled, dtype=np.int64).reshape(len(tables), width),
            np.array([column for _, column in tables], dtype=np.int64),
            np.array(list(tables.values()), dtype=np.float64).reshape(len(tables), levels),
            rest,
        )


def _stays_whole(dim: Dim, space: Space) -> bool:
    """Returns whether a dimension is never cut; of one part it may be dropped with its site."""
    if len(dim) == 1 and dim[0].site:
        return space.whole(dim[0].site)
    return not any(part.site for part in dim)


def _by_level(dim: Dim, space: Space) -> tuple[int, np.ndarray] | None:
    """Returns the column whose level alone cuts a dimension, and its entries at each level."""
    first, *more = dim
    found = space.counts(first.site, first.units) if first.site and not more else None
    return found and (found[0], found[1] * float(first.unit))


class _Extents:
    """Entries that a batch of candidates keeps of dimensions, each computed once."""

    def __init__(self, space: Space, X: np.ndarray) -> None:
        self._space, self._X = space, X
        self._known: dict[Dim, np.ndarray] = {}

    def of(self, dim: Dim) -> np.ndarray:
        """Returns the entries that each candidate keeps of a dimension, float64 (P,)."""
        if dim not in self._known:
            entries = np.zeros(len(self._X), dtype=np.float64)
            for part in dim:
                if part.site is None:
                    entries += part.size
                else:
                    entries += self._space.kept(self._X, part.site, part.units) * part.unit
            self._known[dim] = entries
        return self._known[dim]


def entries(dim: tuple[Extent, ...], kept: Mapping[str, np.ndarray]) -> np.ndarray:
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
