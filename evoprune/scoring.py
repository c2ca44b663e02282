"""From what a search found to a front: re-scored on validation, filtered, read on report."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from evoprune.data.examples import Examples
from evoprune.front import FrontPoint
from evoprune.metrics import Table, bootstrap
from evoprune.pareto import nondominated
from evoprune.pattern import Pattern
from evoprune.protocols import Evaluation, TableObjective
from evoprune.search.archive import Archive, usable
from evoprune.search.problem import Problem
from evoprune.search.values import objectives

N_BOOT = 1000


class Scorer:
    """Scores patterns on the splits that the search did not see.

    Args:
        problem: what was searched.
        archive: what is known, and the evaluator.
        calibration: the run's folder of examples.
        rung: the top rung of the search split.
    """

    def __init__(self, problem: Problem, archive: Archive, calibration: Path, rung: int) -> None:
        self._problem, self._archive, self._rung = problem, archive, rung
        self._known: dict[str, dict[str, float]] = {}  # intervals by the pattern's id
        self._dense = {
            split: Examples.load(calibration / f"{split}.safetensors").dense
            for split in ("validation", "report")
        }

    def front(self, patterns: Sequence[Pattern], origin: str) -> list[FrontPoint]:
        """Returns the points of one set that are still non-dominated (``fronts``)."""
        return self.fronts({origin: patterns})[origin]

    def fronts(self, found: Mapping[str, Sequence[Pattern]]) -> dict[str, list[FrontPoint]]:
        """Returns for each set the points that are still non-dominated on validation.

        All sets are scored in one request a split, so that every worker has something to do, what
        begins alike is run once, and a pattern of several sets is scored once. Points are ordered
        by the objectives on validation, then by id.

        Args:
            found: origin (``search``, or a control's name) → what it holds for its front.
        """
        if not any(found.values()):
            return {origin: [] for origin in found}
        corners = self._problem.space.patterns(self._problem.space.corners)
        self._scored(
            [*corners, *(p for patterns in found.values() for p in patterns)], "validation"
        )
        kept = {origin: self._kept(patterns) for origin, patterns in found.items()}
        self._scored([*corners, *(p for patterns in kept.values() for p in patterns)], "report")
        return {origin: self.points(patterns, origin) for origin, patterns in kept.items()}

    def _scored(self, patterns: Sequence[Pattern], split: str) -> list[Evaluation]:
        return self._archive.get(list(dict.fromkeys(patterns)), split, tables=True)

    def _kept(self, patterns: Sequence[Pattern]) -> list[Pattern]:
        """Returns what no other of them dominates on validation, in a fixed order."""
        if not patterns:
            return []
        validation = self._archive.get(patterns, "validation", tables=True)
        F = objectives(self._problem, self._problem.space.encode(patterns), validation)
        good = np.array([usable(e, self._problem.measured) for e in validation])
        F[~good] = np.nan
        kept = [int(i) for i in np.flatnonzero(nondominated(F))]
        kept.sort(key=lambda i: (*F[i].tolist(), patterns[i].id))
        return [patterns[i] for i in kept]

    def points(self, patterns: Sequence[Pattern], origin: str) -> list[FrontPoint]:
        """Returns a point for each pattern with its values on all three splits."""
        evaluations = {
            "search": self._archive.get(patterns, rung=self._rung),
            "val": self._archive.get(patterns, "validation", tables=True),
            "report": self._archive.get(patterns, "report", tables=True),
        }
        counted = self._problem.counted(patterns)
        made = []
        for i, pattern in enumerate(patterns):
            values: dict[str, float] = dict(counted[i])
            for prefix, found in evaluations.items():
                values |= {f"{prefix}_{name}": value for name, value in found[i].values.items()}
            if pattern.id not in self._known:
                self._known[pattern.id] = self._intervals(evaluations["report"][i])
            values |= self._known[pattern.id]
            made.append(FrontPoint(pattern.id, pattern.to_json(), values, origin))
        return made

    def _intervals(self, evaluation: Evaluation) -> dict[str, float]:
        """Returns 95 % bootstrap intervals of the measured objectives on the report split.

        Examples are resampled within clusters, the dense model's rows along with the pattern's.
        """
        found: dict[str, float] = {}
        if evaluation.error is not None:
            return found
        for name in self._problem.measured:
            objective = self._problem.objectives[name]
            assert isinstance(objective, TableObjective)
            low, high = interval(objective, evaluation.tables, self._dense["report"])
            found |= {f"report_{name}_low": low, f"report_{name}_high": high}
        return found


def interval(
    objective: TableObjective, tables: Mapping[str, Table], dense: Mapping[str, Table]
) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval of an objective over the rows of its tables."""
    names = list(tables)

    def statistic(*rows: Table) -> float:
        half = len(rows) // 2
        pruned, whole = (dict(zip(names, part, strict=True)) for part in (rows[:half], rows[half:]))
        try:
            return objective.value(pruned, whole)
        except Exception:  # whatever a plug-in may raise: a resample without a value is left out
            return math.nan

    return bootstrap(statistic, [*tables.values(), *(dense[name] for name in names)], n_boot=N_BOOT)
