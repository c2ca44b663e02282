"""What an ensemble costs: stored once what members share, run as often as members answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from evoprune.constraints import Constraint
from evoprune.costs import CostTable
from evoprune.ensemble.mixture import Mixture
from evoprune.space import Space

# Cost metrics that are stored, and so shared where members keep the same units.
STORED = ("params", "bytes")


@dataclass(frozen=True)
class Bill:
    """The costs of sets among P patterns.

    Attributes:
        table: the base's cost table.
        space: of the patterns.
        X: the patterns as candidates (P, n_var).
        shared: beginnings of the names of rows that are stored once for all patterns.
        frozen: of rows whose work is done once for all patterns.
    """

    table: CostTable
    space: Space
    X: np.ndarray
    shared: tuple[str, ...]
    frozen: tuple[str, ...]

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """What is counted."""
        return self.table.metrics

    def each(self, metric: str) -> np.ndarray:
        """Returns what each pattern costs by itself, float64 (P,)."""
        return self.table.cost(metric, self.space, self.X)

    def dense(self, metric: str) -> float:
        """Returns what the dense model costs."""
        return float(self.table.cost(metric, self.space, self.space.corners[:1])[0])

    def union(self, members: Sequence[int]) -> np.ndarray:
        """Returns the candidate that keeps whatever a member keeps (1, n_var).

        Kept units are prefixes, so the least pruned option of a gene holds all others; units of
        bits genes are joined one by one.
        """
        X = self.space.canonical(self.X[list(members)])
        # What lies under a dropped site stands at 0, and keeps nothing.
        least = np.where(self.space.covered(X), self.space.upper, X).min(axis=0)
        return self.space.canonical(least[None])

    def stored(self, metric: str, members: Sequence[int]) -> float:
        """Returns what holding the members takes: shared rows once, the others for each."""
        return self._once(metric, members, self.shared)

    def run(self, metric: str, members: Sequence[int]) -> float:
        """Returns what running all members takes: frozen rows once, the others for each."""
        return self._once(metric, members, self.frozen)

    def _once(self, metric: str, members: Sequence[int], prefixes: tuple[str, ...]) -> float:
        common = [row for row in self.table.rows if row.name.startswith(prefixes)]
        rest = [row for row in self.table.rows if not row.name.startswith(prefixes)]
        once = CostTable(tuple(common)).cost(metric, self.space, self.union(members))
        own = CostTable(tuple(rest)).cost(metric, self.space, self.X[list(members)])
        return float(once[0] + own.sum())

    def total(self, metric: str, mixture: Mixture, shares: np.ndarray | None = None) -> float:
        """Returns what one answer of a mixture costs; of a routed one the mean.

        Args:
            metric: one of ``metrics``.
            mixture: who answers.
            shares: the share of the inputs in each cluster (G,); equal by default.
        """
        if not mixture.routes:
            return self.run(metric, mixture.members)
        each = self.each(metric)[[mixture.routes[c] for c in sorted(mixture.routes)]]
        return float(np.average(each, weights=shares))


@dataclass(frozen=True)
class Limit:
    """A budget for the total cost of an ensemble.

    Attributes:
        bill: the costs.
        constraint: the bound; None for no budget.
    """

    bill: Bill
    constraint: Constraint | None
    _known: dict[tuple[int, ...], bool] = field(default_factory=dict, repr=False, compare=False)

    def fits(self, members: Sequence[int]) -> bool:
        """Returns whether these members together keep to the budget."""
        if self.constraint is None:
            return True
        key, name = tuple(sorted(members)), self.constraint.name
        if key not in self._known:
            total = np.array([self.bill.run(name, key)])
            self._known[key] = not self.constraint.violation(total, self.bill.dense(name))[0]
        return self._known[key]
