"""What an ensemble costs: stored once what members share, run as often as members answer.

A routed ensemble also pays for learning which cluster an input is nearest to: the dense model's
embedding of it, which takes work, and which takes holding what it is computed with.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from evoprune.core.constraints import Constraint
from evoprune.core.costs import CostTable
from evoprune.core.space import Space
from evoprune.ensemble.mixture import Mixture

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
        lookup: FLOPs of an input's dense embedding beside those of ``frozen`` rows.
    """

    table: CostTable
    space: Space
    X: np.ndarray
    shared: tuple[str, ...]
    frozen: tuple[str, ...]
    lookup: float = 0.0

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        """What is counted."""
        return self.table.metrics

    def each(self, metric: str) -> np.ndarray:
        """Returns what each pattern costs by itself, float64 (P,)."""
        return self.table.cost(metric, self.space, self.X)

    def dense(self, metric: str) -> float:
        """Returns what the dense model costs."""
        return self.table.dense(metric)

    def union(self, members: Sequence[int]) -> np.ndarray:
        """Returns the candidate that keeps whatever a member keeps (1, n_var).

        Kept units are prefixes, so the least pruned option of a gene holds all others; units of
        bits genes are joined one by one.
        """
        X = self.space.canonical(self.X[list(members)])
        # What lies under a dropped site stands at 0, and keeps nothing.
        least = np.where(self.space.covered(X), self.space.upper, X).min(axis=0)
        return self.space.canonical(least[None])

    def stored(self, metric: str, mixture: Mixture) -> float:
        """Returns what holding a mixture takes: shared rows once, the others for each member.

        A routed one holds the shared rows whole: the dense embedding is computed with them.
        """
        return self._once(metric, mixture.members, self.shared, bool(mixture.routes))

    def run(self, metric: str, members: Sequence[int]) -> float:
        """Returns what running all members takes: frozen rows once, the others for each."""
        return self._once(metric, members, self.frozen)

    def _once(
        self, metric: str, members: Sequence[int], prefixes: tuple[str, ...], whole: bool = False
    ) -> float:
        common, own = self._split(prefixes)
        union = self.space.corners[:1] if whole else self.union(members)
        once = common.cost(metric, self.space, union)
        return float(once[0] + own.cost(metric, self.space, self.X[list(members)]).sum())

    def _split(self, prefixes: tuple[str, ...]) -> tuple[CostTable, CostTable]:
        """Returns the rows whose names begin so, and the others."""
        common = tuple(row for row in self.table.rows if row.name.startswith(prefixes))
        rest = tuple(row for row in self.table.rows if not row.name.startswith(prefixes))
        return CostTable(common), CostTable(rest)

    def total(self, metric: str, mixture: Mixture, shares: np.ndarray | None = None) -> float:
        """Returns what a mixture costs: to be held, or to answer once; routing included.

        Answers of a routed mixture differ in cost: this is their mean.

        Args:
            metric: one of ``metrics``.
            mixture: who answers.
            shares: the share of the inputs in each cluster (G,); equal by default.
        """
        if metric in STORED:
            return self.stored(metric, mixture)
        if not mixture.routes:
            return self.run(metric, mixture.members)
        own = self._split(self.frozen)[1].cost(metric, self.space, self.X[_routed(mixture)])
        return self.routing(metric) + float(np.average(own, weights=shares))

    def routing(self, metric: str) -> float:
        """Returns what learning an input's cluster costs: the frozen rows whole, and the rest.

        Of the frozen rows' work no member needs more.
        """
        frozen = self._split(self.frozen)[0].dense(metric)
        return frozen + (self.lookup if metric == "flops" else 0.0)

    def told(self, metric: str, mixture: Mixture, shares: np.ndarray | None = None) -> float:
        """Returns what one answer of a routed mixture costs where the cluster is told."""
        return float(np.average(self.each(metric)[_routed(mixture)], weights=shares))


def _routed(mixture: Mixture) -> list[int]:
    """Returns who answers for each cluster."""
    return [mixture.routes[cluster] for cluster in sorted(mixture.routes)]


@dataclass(frozen=True)
class Limit:
    """A budget for the total cost of an ensemble.

    Attributes:
        bill: the costs.
        constraint: the bound; None for no budget.
        routed: whether members answer one by one, each after its routing.
    """

    bill: Bill
    constraint: Constraint | None
    routed: bool = False
    _known: dict[tuple[int, ...], bool] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def fits(self, members: Sequence[int]) -> bool:
        """Returns whether these members keep to the budget: together, or routed, each of them."""
        if self.constraint is None:
            return True
        key = tuple(sorted(members))
        if key not in self._known:
            made = [Mixture.of(key, "logit")]
            if self.routed:
                made = [Mixture({i: 1}, "logit", {0: i}) for i in key]
            self._known[key] = all(self.holds(mixture) for mixture in made)
        return self._known[key]

    def holds(self, mixture: Mixture) -> bool:
        """Returns whether a mixture keeps to the budget."""
        if self.constraint is None:
            return True
        name = self.constraint.name
        total = np.array([self.bill.total(name, mixture)])
        return not self.constraint.violation(total, self.bill.dense(name))[0]
