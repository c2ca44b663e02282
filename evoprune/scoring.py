"""From what a search found to a front: re-scored on validation, filtered, read on report."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evoprune.core.metrics import Table, bootstrap
from evoprune.core.pareto import nondominated
from evoprune.core.pattern import Pattern
from evoprune.core.protocols import Evaluation, TableObjective
from evoprune.core.quality import COLUMN, Tables, kept, value_of, zeros
from evoprune.core.splits import SPLIT_OF
from evoprune.data.examples import Scale
from evoprune.folder.front import FrontPoint
from evoprune.searching.archive import Archive, usable
from evoprune.searching.problem import Problem
from evoprune.searching.values import objectives

N_BOOT = 1000


class Scorer:
    """Scores patterns on the splits that the search did not see.

    Args:
        problem: what was searched.
        archive: what is known, and the evaluator.
        calibration: the run's folder of examples.
        rung: the top rung of the search split.
        judge: what quality kept and export rungs are told by.

    Attributes:
        worthless: ids of what was found on validation to be no better than knowing frequencies.
    """

    def __init__(
        self, problem: Problem, archive: Archive, calibration: Path, rung: int, judge: "Judge"
    ) -> None:
        self._problem, self._archive, self._rung, self._judge = problem, archive, rung, judge
        self.worthless: set[str] = set()
        self._known: dict[str, dict[str, float]] = {}  # intervals and quality by the pattern's id
        self._scales = {
            prefix: Scale.load(calibration / f"{split}.safetensors")
            for prefix, split in SPLIT_OF.items()
        }

    def front(self, patterns: Sequence[Pattern], origin: str) -> list[FrontPoint]:
        """Returns the points of one set that are still non-dominated (``fronts``)."""
        return self.fronts({origin: patterns})[origin]

    def fronts(self, found: Mapping[str, Sequence[Pattern]]) -> dict[str, list[FrontPoint]]:
        """Returns for each set the points that are still non-dominated on validation.

        All sets are scored in one request a split, so that every worker has something to do, what
        begins alike is run once, and a pattern of several sets is scored once. Points are ordered
        by the objectives on validation, then by id. What is there no better than knowing
        frequencies only has no place on a front (``evoprune.core.quality``).

        Args:
            found: origin (``search``, or a control's name) → what it holds for its front.
        """
        if not any(found.values()):
            return {origin: [] for origin in found}
        bounds = self._problem.bounding
        self._scored(
            [*bounds("validation"), *(p for patterns in found.values() for p in patterns)],
            "validation",
        )
        kept = {origin: self._kept(patterns) for origin, patterns in found.items()}
        self._scored(
            [*bounds("report"), *(p for patterns in kept.values() for p in patterns)], "report"
        )
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
        ceilings = self._problem.ceilings("validation")
        worthless = (ceilings <= F).any(axis=1) | self._guesses(validation)
        self.worthless |= {patterns[int(i)].id for i in np.flatnonzero(worthless & good)}
        F[worthless] = np.nan
        kept = [int(i) for i in np.flatnonzero(nondominated(F))]
        kept.sort(key=lambda i: (*F[i].tolist(), patterns[i].id))
        return [patterns[i] for i in kept]

    def _guesses(self, evaluations: Sequence[Evaluation]) -> np.ndarray:
        """Returns which patterns are on validation no better than knowing frequencies only (P,)."""
        scale, judge = self._scales["val"], self._judge
        if not judge.measures(scale):
            return np.zeros(len(evaluations), dtype=bool)
        shares = [
            judge.kept(one.tables, scale.dense, scale.zero) if one.tables else math.nan
            for one in evaluations
        ]
        return np.array(shares) <= 0

    def points(self, patterns: Sequence[Pattern], origin: str) -> list[FrontPoint]:
        """Returns a point for each pattern with its values on all three splits."""
        evaluations = {
            "search": self._archive.get(patterns, rung=self._rung),
            "val": self._archive.get(patterns, "validation", tables=True),
            "report": self._archive.get(patterns, "report", tables=True),
        }
        counted, rungs = self._problem.counted(patterns), self._judge.rungs(patterns)
        made = []
        for i, pattern in enumerate(patterns):
            values: dict[str, float] = dict(counted[i])
            for prefix, found in evaluations.items():
                values |= {f"{prefix}_{name}": value for name, value in found[i].values.items()}
            if pattern.id not in self._known:
                self._known[pattern.id] = self._intervals(evaluations["report"][i])
                for prefix, found in evaluations.items():
                    self._known[pattern.id] |= self._quality(prefix, found[i])
            values |= self._known[pattern.id]
            made.append(FrontPoint(pattern.id, pattern.to_json(), values, origin, rungs[i]))
        return made

    def zero(self) -> dict[str, float]:
        """Returns what a model that knows frequencies only scores, by column of a point."""
        found = {
            f"{prefix}_{name}": value
            for prefix, split in SPLIT_OF.items()
            for name, value in self._problem.zero.get(split, {}).items()
        }
        scored = [p for p, scale in self._scales.items() if self._judge.measures(scale)]
        if self._judge.name not in self._problem.measures:
            scored = [prefix for prefix in scored if prefix != "search"]  # no tables, no value
        return found | {f"{prefix}_{COLUMN}": 0.0 for prefix in scored}

    def _quality(self, prefix: str, evaluation: Evaluation) -> dict[str, float]:
        """Returns the share of the dense model's gain over frequencies that a pattern keeps.

        With its 95 % bootstrap interval. Of the search split no tables are kept, so there it is
        read off the value, where the task's measure of quality is a column.
        """
        judge, scale, column = self._judge, self._scales[prefix], f"{prefix}_{COLUMN}"
        if evaluation.error is not None or not judge.measures(scale):
            return {}
        if not evaluation.tables:
            value = evaluation.values.get(judge.name, math.nan)
            zero, dense = judge.ends(scale)
            return {column: kept(value, zero, dense)} if math.isfinite(value) else {}
        low, high = interval(judge.kept, evaluation.tables, scale.dense, scale.zero)
        value = judge.kept(evaluation.tables, scale.dense, scale.zero)
        return {column: value, f"{column}_low": low, f"{column}_high": high}

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
            low, high = interval(objective.value, evaluation.tables, self._scales["report"].dense)
            found |= {f"report_{name}_low": low, f"report_{name}_high": high}
        return found


@dataclass(frozen=True)
class Judge:
    """What a front says of its points beside what was searched for.

    Attributes:
        quality: the task's measure of quality; None where the task names none.
        name: its name among the measures.
        rungs: returns the export rung of each pattern, None where nobody exports the family.
    """

    quality: TableObjective | None
    name: str
    rungs: Callable[[Sequence[Pattern]], Sequence[str | None]]

    def ends(self, scale: Scale) -> tuple[float, float]:
        """Returns what a model that knows frequencies only has, and what the dense one has."""
        assert self.quality is not None
        zero, dense = (value_of(self.quality, t, scale.dense) for t in (scale.zero, scale.dense))
        return zero, dense

    def measures(self, scale: Scale) -> bool:
        """Returns whether quality has a scale on a split."""
        return self.quality is not None and bool(
            zeros({self.name: self.quality}, scale.zero, scale.dense)
        )

    def kept(self, tables: Tables, dense: Tables, zero: Tables) -> float:
        """Returns the share of the dense model's gain that tables keep, rows of one draw."""
        assert self.quality is not None
        value, low, high = (self.quality.value(t, dense) for t in (tables, zero, dense))
        return kept(value, low, high)


def interval(value: Callable[..., float], *sources: Tables) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval of a number over the rows of its tables.

    Args:
        value: called with the sources, resampled: the same rows of all of them.
        sources: tables by pass, of a pattern, of the dense model …
    """
    names = list(sources[0])

    def statistic(*rows: Table) -> float:
        parts = [rows[at : at + len(names)] for at in range(0, len(rows), len(names))]
        try:
            return value(*(dict(zip(names, part, strict=True)) for part in parts))
        except Exception:  # whatever a plug-in may raise: a resample without a value is left out
            return math.nan

    tables = [source[name] for source in sources for name in names]
    return bootstrap(statistic, tables, n_boot=N_BOOT)
