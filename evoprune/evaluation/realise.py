"""A pattern becomes a network: views of the base's tensors, and sites that are not run.

Nothing is written into the weights, so reverting is exact.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune.core.costs import CostTable, Extent, Row, entries
from evoprune.core.pattern import Bits, Drop, Keep, Option
from evoprune.recover.adapt import Adapt

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Realised:
    """What a pattern does to a model.

    Attributes:
        dropped: the sites that are gone.
        kept: for each site that loses units the indices of those that stay, ascending.
        added: the tensors that a recovery gives it, by name (``Realiser.realised``).
    """

    dropped: frozenset[str]
    kept: Mapping[str, np.ndarray]
    added: Mapping[str, "torch.Tensor"] = field(default_factory=dict)

    @classmethod
    def of(cls, options: Mapping[str, Option]) -> "Realised":
        """Returns it for the options of the sites that are not whole (``Space.options``)."""
        kept: dict[str, np.ndarray] = {}
        for site, option in options.items():
            if isinstance(option, Keep):
                kept[site] = np.arange(option.units)
            elif isinstance(option, Bits) and option.count < option.units:
                kept[site] = np.flatnonzero(option.mask)
        return cls(frozenset(s for s, o in options.items() if isinstance(o, Drop)), kept)

    def gone(self, row: Row, parents: Mapping[str, str | None]) -> bool:
        """Returns whether a row lies in a dropped site."""
        for gate in row.gates:
            at: str | None = gate
            while at is not None:
                if at in self.dropped:
                    return True
                at = parents.get(at)
        return False

    def cut(self, tensor: "torch.Tensor", row: Row) -> "torch.Tensor":
        """Returns what stays of a row's tensor: a view where units form a prefix, else a copy."""
        for axis, dim in enumerate(row.dims):
            if any(part.site in self.kept for part in dim):
                tensor = _cut_axis(tensor, axis, dim, self.kept)
        return tensor


def _cut_axis(
    tensor: "torch.Tensor", axis: int, dim: tuple[Extent, ...], kept: Mapping[str, np.ndarray]
) -> "torch.Tensor":
    import torch

    if len(dim) == 1 and dim[0].site is not None and dim[0].first == 0:
        units = kept[dim[0].site]
        if len(units) == 0 or units[-1] == len(units) - 1:
            return tensor.narrow(axis, 0, min(len(units) * dim[0].unit, dim[0].size))
    index = torch.from_numpy(entries(dim, kept)).to(tensor.device)
    return tensor.index_select(axis, index)


class Realiser:
    """Puts patterns into one resident model and takes them out again.

    Args:
        model: the base model.
        table: its cost table, whose rows say how tensors are cut.
        adapt: a recovery that is part of every evaluation, with what it stored.
        attrs: numbers of modules that follow sites, each with ``module``, ``name``, ``site`` and
            ``per_unit`` (``families.transformer.layout.Attr``).
    """

    def __init__(
        self,
        model: Any,
        table: CostTable,
        adapt: tuple[Adapt, Mapping[str, np.ndarray]] | None = None,
        attrs: Sequence[Any] = (),
    ) -> None:
        modules = dict(model.named_modules())
        self._model, self._table, self._adapt = model, table, adapt
        self._by_site: dict[str, list[tuple[Any, str, Row]]] = {}
        for row in table.tensors():
            owner, _, leaf = row.name.rpartition(".")
            for site in {part.site for dim in row.dims for part in dim if part.site}:
                self._by_site.setdefault(site, []).append((modules[owner], leaf, row))

        self._attrs: dict[str, list[tuple[Any, str, int]]] = {}
        for one in attrs:
            told = (modules[one.module], one.name, one.per_unit)
            self._attrs.setdefault(one.site, []).append(told)

    @property
    def far_reaching(self) -> bool:
        """Whether the recovery may change a block because of what another block loses."""
        return self._adapt is not None and not getattr(self._adapt[0], "local", False)

    def realised(self, options: Mapping[str, Option]) -> Realised:
        """Returns what a pattern does, its recovery worked out: once for all micro-batches."""
        realised = Realised.of(options)
        return replace(realised, added=self.delta(realised))

    @contextmanager
    def apply(self, pattern: Realised | Mapping[str, Option]) -> Iterator[Realised]:
        """Makes the model's tensors those of a pattern while the context lasts.

        Args:
            pattern: as ``realised`` worked it out, or its options.
        """
        import torch

        realised = pattern if isinstance(pattern, Realised) else self.realised(pattern)
        before: list[tuple[Any, str, torch.nn.Parameter | None]] = []
        numbers: list[tuple[Any, str, int]] = []
        try:
            for site, kept in realised.kept.items():
                for module, name, per_unit in self._attrs.get(site, ()):
                    numbers.append((module, name, getattr(module, name)))
                    setattr(module, name, per_unit * len(kept))
            for module, leaf, row in {
                (id(m), leaf): (m, leaf, row)
                for site in realised.kept
                for m, leaf, row in self._by_site.get(site, ())
            }.values():
                whole = module._parameters[leaf]
                before.append((module, leaf, whole))
                cut = realised.cut(whole.data, row)
                module._parameters[leaf] = torch.nn.Parameter(cut, requires_grad=False)
            for name, tensor in realised.added.items():
                owner, _, leaf = name.rpartition(".")
                module = self._model.get_submodule(owner)
                before.append((module, leaf, module._parameters.get(leaf)))
                module._parameters[leaf] = torch.nn.Parameter(tensor, requires_grad=False)
            yield realised
        finally:
            for module, leaf, whole in reversed(before):
                module._parameters[leaf] = whole
            for module, name, number in reversed(numbers):
                setattr(module, name, number)

    def delta(self, realised: Realised) -> dict[str, "torch.Tensor"]:
        """Returns the tensors that the recovery gives a pattern, by name."""
        if self._adapt is None:
            return {}
        adapt, stored = self._adapt
        return adapt.tensors(self._model, self._table, realised.kept, stored)
