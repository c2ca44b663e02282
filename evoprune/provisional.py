"""The front of a search that was interrupted: what its journal has so far.

It holds values of the search split only. Nothing is written: the same search command goes on, and
its front is then re-scored.
"""

import math

import numpy as np

from evoprune.config.schema import Config
from evoprune.core.pareto import nondominated
from evoprune.core.protocols import Evaluation
from evoprune.core.quality import COLUMN, kept
from evoprune.core.registry import TASKS
from evoprune.folder.front import Front, FrontPoint
from evoprune.folder.journal import read_journal
from evoprune.folder.layout import RunFolder
from evoprune.report.progress import search_records
from evoprune.searching.problem import Problem
from evoprune.searching.values import objectives, violations
from evoprune.session import export_rungs, problem_of

NOTE = (
    "provisional: the search was interrupted; search split only, not re-scored; "
    "the same search command finishes it"
)
TOP = -1


def is_provisional(front: Front) -> bool:
    """Returns whether no point of a front was re-scored on validation."""
    known = front.columns()
    return bool(known) and not any(name.startswith("val_") for name in known)


def provisional(folder: RunFolder, config: Config) -> Front:
    """Returns the non-dominated patterns of an interrupted search, by values of the search split.

    Args:
        folder: of a run without a front.
        config: the run's.

    Raises:
        RunFolderError: nothing was evaluated in it yet, or it cannot be read.
    """
    known = _evaluated(folder)
    if not known or folder.read_manifest() is None:
        raise folder.unfinished()
    problem = problem_of(config, folder)
    dense, empty = (pattern.id for pattern in problem.space.patterns(problem.space.corners))
    if dense not in known:
        raise folder.unfinished()
    # The model without anything is evaluated for the box of the hypervolume, and is no answer.
    found = [one for name, one in known.items() if name != empty]
    X = problem.space.encode([one.pattern for one in found])
    F = objectives(problem, X, found)
    F[violations(problem, X, found, known[dense]).any(axis=1)] = np.nan
    left = [int(i) for i in np.flatnonzero(nondominated(F))]
    left.sort(key=lambda i: (*F[i].tolist(), found[i].pattern.id))
    rungs = export_rungs(config, folder, [found[i].pattern for i in left])
    ends = _ends(problem, config, known[dense])
    points = tuple(
        _point(problem, found[i], ends, rung) for i, rung in zip(left, rungs, strict=True)
    )
    zero = {f"search_{name}": value for name, value in problem.zero.get("search", {}).items()}
    return Front(points, problem.goals, _point(problem, known[dense], ends).values, zero)


def _evaluated(folder: RunFolder) -> dict[str, Evaluation]:
    """Returns what the search evaluated in full and without an error, by the pattern's id."""
    return {
        record["id"]: Evaluation.from_json(record)
        for record in search_records(read_journal(folder.journal)[1])
        if record["rung"] == TOP and not record.get("error")
    }


def _ends(problem: Problem, config: Config, dense: Evaluation) -> tuple[str, float, float]:
    """Returns the task's measure of quality, of frequencies only and of the dense model."""
    name = getattr(TASKS.load(config.task.type), "quality", "")
    zero = problem.zero.get("search", {}).get(name, math.nan)
    return name, zero, dense.values.get(name, math.nan)


def _point(
    problem: Problem,
    evaluation: Evaluation,
    ends: tuple[str, float, float],
    rung: str | None = None,
) -> FrontPoint:
    pattern, (name, zero, dense) = evaluation.pattern, ends
    values = dict(problem.counted([pattern])[0])
    values |= {f"search_{name}": value for name, value in evaluation.values.items()}
    share = kept(evaluation.values.get(name, math.nan), zero, dense)
    if math.isfinite(share):
        values[f"search_{COLUMN}"] = share
    return FrontPoint(pattern.id, pattern.to_json(), values, rung=rung)
