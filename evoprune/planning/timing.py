"""What passes take on this machine: a few candidates through the workers of a search."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evoprune.core.errors import ModelError
from evoprune.core.pattern import Pattern
from evoprune.core.protocols import Evaluation, Evaluator, Request, TableObjective
from evoprune.core.splits import SPLITS
from evoprune.progress.forecast import Rate, Splits, sample

if TYPE_CHECKING:
    from evoprune.session import Session

# Candidates that are timed together, at least and at most; generations of them, which begin until
# so many seconds have passed.
FEWEST, MOST, GENERATIONS, AIM = 4, 20, 8, 15.0


@dataclass(frozen=True)
class Timed:
    """What was timed.

    Attributes:
        start: seconds until the workers held the model.
        dense: of one dense pass over the calibration set.
        tokens: of that pass.
        candidates: how many others were timed, in generations.
        rate: what those of the last generation took.
    """

    start: float
    dense: float
    tokens: float
    candidates: int
    rate: Rate


def timed(session: "Session", evaluator: Evaluator, splits: Splits) -> Timed:
    """Returns what passes take on a session's workers; nothing is journalled.

    The candidates go through the workers' own batches, so that what they share at their beginning
    is run once, and workers that are in each other's way are so here as well. Where there is time
    for several generations the last one counts: by then workers keep states of earlier ones, as
    they do through most of a search, and the more so the smaller its space.

    Args:
        session: prepared.
        evaluator: its workers, not started yet.
        splits: what a dense pass takes.

    Raises:
        ModelError: the dense model or every candidate fails.
    """
    problem = session.problem
    dense, empty = problem.space.patterns(problem.space.corners)
    first, until = _passed(evaluator, [empty])
    whole, seconds = _passed(evaluator, [dense])
    if whole[0].error is not None:
        raise ModelError(
            f"The dense model cannot be scored on the search split: {whole[0].error}.",
            "Leave that objective out of `objectives` and `columns`, or give other data.",
        )
    others = list(dict.fromkeys(problem.space.patterns(sample(problem, MOST * GENERATIONS))))
    size = int(np.clip(AIM / max(0.5 * seconds, 1e-9), FEWEST, MOST))
    candidates, began = 0, time.perf_counter()
    for at in range(0, min(len(others), GENERATIONS * size), size):
        found, wall = _passed(evaluator, others[at : at + size])
        candidates += len(found)
        if time.perf_counter() - began > AIM:
            break
    return Timed(
        start=max(0.0, until - first[0].seconds),
        dense=seconds,
        tokens=whole[0].tokens,
        candidates=candidates,
        rate=_rate(found, wall, splits.rungs[-1], _interval(session)),
    )


def _passed(evaluator: Evaluator, patterns: Sequence[Pattern]) -> tuple[list[Evaluation], float]:
    """Returns evaluations on the whole calibration set, and the seconds until all were there."""
    began = time.perf_counter()
    found = list(evaluator.evaluate(Request(patterns)))
    return found, time.perf_counter() - began


def _rate(found: Sequence[Evaluation], wall: float, read: float, per_point: float) -> Rate:
    model = sum(one.model_seconds for one in found)
    every = sum(one.seconds for one in found)
    tokens = sum(one.tokens for one in found)
    workers = every / wall if wall > 0 else 1.0
    return Rate(model / tokens, (every - model) / (len(found) * read), workers, per_point)


def _interval(session: "Session") -> float:
    """Returns the seconds of the bootstrap intervals of one point."""
    from evoprune.data.examples import Scale
    from evoprune.scoring import interval

    scale = Scale.load(session.folder.calibration / "report.safetensors")
    judge = session.judge
    began = time.perf_counter()
    for objective in session.problem.objectives.values():
        if isinstance(objective, TableObjective):
            interval(objective.value, scale.dense, scale.dense)
    for _ in SPLITS[1:] if judge.measures(scale) else ():
        interval(judge.kept, scale.dense, scale.dense, scale.zero)
    return time.perf_counter() - began


def export_seconds(session: "Session", scratch: Path) -> dict[str, float]:
    """Returns the seconds that it takes to write a model of middling size, and to verify it.

    Returns:
        Those of the phases ``export`` and, where exports are verified, ``verify``.
    """
    from evoprune.folder.front import Front, FrontPoint
    from evoprune.run import Run, export_point

    problem = session.problem
    X = sample(problem)
    middle = problem.space.patterns(X[[np.argsort(problem.share(X))[len(X) // 2]]])[0]
    point = FrontPoint(middle.id, middle.to_json(), {})
    run = Run(session.folder, session.config, Front((point,), problem.goals))
    marks = [time.perf_counter()]
    export_point(run, point, scratch, verifying=lambda: marks.append(time.perf_counter()))
    marks.append(time.perf_counter())
    return dict(zip(("export", "verify"), np.diff(marks).tolist(), strict=False))
