"""What is searched: the space, the objectives, the budgets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from evoprune.core.constraints import Constraint
from evoprune.core.costs import CostTable
from evoprune.core.errors import ConfigError, SpaceError, did_you_mean
from evoprune.core.pattern import Pattern
from evoprune.core.protocols import NO_HINTS, CostObjective, Goal, Hints, Objective, TableObjective
from evoprune.core.quality import ceilings
from evoprune.core.space import Space


@dataclass(frozen=True)
class Problem:
    """A search problem.

    Attributes:
        space: the patterns.
        table: their costs.
        objectives: what is traded off, by name, in order.
        constraints: bounds on objectives or costs.
        measures: every objective that a name may refer to, also those that are only reported.
        hints: what was measured of the dense network, where some rule goes by it.
        zero: by split, what objectives say of a model that knows frequencies only, where the dense
            model is better (``evoprune.core.quality``).
        quality: the measure by which the task judges what is kept; it need be no objective.
    """

    space: Space
    table: CostTable
    objectives: Mapping[str, Objective]
    constraints: tuple[Constraint, ...]
    measures: Mapping[str, Objective]
    hints: Hints = NO_HINTS
    zero: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    quality: str = ""

    def __post_init__(self) -> None:
        for constraint in self.constraints:
            if constraint.name not in self.measures:
                raise ConfigError(
                    f"The constraint '{constraint}' bounds no known quantity.",
                    did_you_mean(constraint.name, self.measures),
                )

    @property
    def goals(self) -> dict[str, Goal]:
        """The goal of each objective."""
        return {name: objective.goal for name, objective in self.objectives.items()}

    @cached_property
    def signs(self) -> np.ndarray:
        """+1 for what is minimised, −1 for what is maximised (M,)."""
        return np.array([1.0 if goal == "min" else -1.0 for goal in self.goals.values()])

    def ceilings(self, split: str = "search") -> np.ndarray:
        """Returns the bounds, to be minimised, that a point of any worth stays below (M,).

        Infinity where an objective has no zero on the split.
        """
        return ceilings([*self.objectives], self.signs, self.zero.get(split, {}))

    def bounding(self, split: str = "search") -> list[Pattern]:
        """Returns the patterns that bound what is measured: the dense one first.

        The one without anything prunable is among them only where an objective has no zero.
        """
        patterns = self.space.patterns(self.space.corners)
        known = self.zero.get(split, {})
        return patterns[:1] if all(name in known for name in self.measured) else patterns

    @cached_property
    def zeros(self) -> dict[str, float]:
        """The zeros on the search split that a candidate must be better than, by measure.

        Those of the objectives, and of the task's measure of quality: what is closer to the dense
        model in some way and yet guesses worse than by frequency is of no use.
        """
        known = self.zero.get("search", {})
        return {name: known[name] for name in (*self.measured, self.quality) if name in known}

    @cached_property
    def at_zero(self) -> slice:
        """The column of violations that says of the zero; empty where there is none."""
        at = len(self.constraints)
        return slice(at, at + bool(self.zeros))

    @cached_property
    def n_violations(self) -> int:
        """How many violations a candidate is told: its constraints, the zero, and a failure."""
        return self.at_zero.stop + 1

    @cached_property
    def budgets(self) -> tuple[Constraint, ...]:
        """The constraints on counted costs: met before anything is evaluated."""
        return tuple(c for c in self.constraints if c.name in self._counters)

    @cached_property
    def floors(self) -> tuple[Constraint, ...]:
        """The constraints on measured quality: told to the algorithm as violations."""
        return tuple(c for c in self.constraints if c not in self.budgets)

    def cost(self, name: str, X: np.ndarray) -> np.ndarray:
        """Returns a counted cost of candidates (P,)."""
        return self._counters[name].costs(self.table, self.space, X)

    @cached_property
    def _counters(self) -> dict[str, CostObjective]:
        """Every measure that is counted; asking what a protocol is takes as long as to count."""
        return {n: o for n, o in self.measures.items() if isinstance(o, CostObjective)}

    def counted(self, patterns: Sequence[Pattern]) -> list[dict[str, float]]:
        """Returns all counted costs of patterns."""
        X = self.space.encode(patterns)
        columns = {name: self.cost(name, X) for name in self._counters}
        return [
            {name: float(values[i]) for name, values in columns.items()}
            for i in range(len(patterns))
        ]

    def share(self, X: np.ndarray) -> np.ndarray:
        """Returns the FLOPs of candidates relative to the dense model (P,).

        Parameters stand in for those of a family whose table counts none.
        """
        metric = "flops" if self.table.dense("flops") else "params"
        return self.table.cost(metric, self.space, X) / self.table.dense(metric)

    def shares(self, patterns: Sequence[Pattern]) -> np.ndarray:
        """Returns the FLOPs of patterns relative to the dense model (P,)."""
        return self.share(self.space.encode(patterns))

    @cached_property
    def measured(self) -> tuple[str, ...]:
        """The objectives that need an evaluation."""
        return tuple(n for n, o in self.objectives.items() if isinstance(o, TableObjective))

    def budget_violation(self, X: np.ndarray) -> np.ndarray:
        """Returns by how much candidates break each budget, in shares of the dense cost (P, B)."""
        found = np.zeros((len(X), len(self.budgets)))
        for column, budget in enumerate(self.budgets):
            dense, span = self._scales[column]
            found[:, column] = budget.violation(self.cost(budget.name, X), dense) / span
        return found

    @cached_property
    def touched(self) -> np.ndarray:
        """Which variables change the cost that each budget bounds, boolean (B, n_var).

        Each is moved to its last level alone, from the dense model.
        """
        space = self.space
        found = np.zeros((len(self.budgets), space.n_var), dtype=bool)
        for at in range(0, space.n_var, 256):  # thousands of bits make a large square
            moved = np.arange(at, min(at + 256, space.n_var))
            alone = np.zeros((len(moved), space.n_var), dtype=np.int64)
            alone[np.arange(len(moved)), moved] = space.upper[moved]
            alone = np.concatenate([space.corners[:1], space.canonical(alone)])
            for row, budget in enumerate(self.budgets):
                costs = self.cost(budget.name, alone)
                found[row, moved] = costs[1:] != costs[0]
        return found

    @cached_property
    def _scales(self) -> list[tuple[float, float]]:
        """For each budget the dense value, and how far it is from that of removing all."""
        ends = self.space.corners
        values = [self.cost(budget.name, ends) for budget in self.budgets]
        return [(float(dense), float(abs(dense - empty)) or 1.0) for dense, empty in values]

    @cached_property
    def directions(self) -> np.ndarray:
        """For each budget whether removing more (+1) or less (−1) helps to meet it (B,).

        Raises:
            SpaceError: no pattern meets a budget.
        """
        found = []
        for budget, (dense, _) in zip(self.budgets, self._scales, strict=True):
            ends = self.space.corners
            values = self.cost(budget.name, ends)
            broken = budget.violation(values, dense) > 0
            if broken.all():
                low, high = sorted(float(value) for value in values)
                span = f"{low:,.10g} to {high:,.10g}"
                if budget.percent and dense:
                    span += f" ({100 * low / dense:.1f}% to {100 * high / dense:.1f}%)"
                raise SpaceError(
                    f"No pattern of the space '{self.space.name}' meets {budget}: "
                    f"it ranges over {span}.",
                    "Choose a bound inside that range.",
                )
            found.append(-1 if broken[1] else 1)
        return np.array(found, dtype=np.int64)
