"""How the hypervolume of a search grew, read off its journal."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from evoprune.core.pareto import hypervolume, nondominated, oriented
from evoprune.report.reading import TOP, RunData

CHECKPOINTS = 100


@dataclass(frozen=True)
class Course:
    """Hypervolume on the search split at some checkpoints.

    Attributes:
        evaluations: how many were made by then, those that failed included.
        seconds: worker seconds spent by then, all rungs together.
        hypervolume: share of the fixed box.
        why: what is missing if there are no checkpoints.
    """

    evaluations: list[int]
    seconds: list[float]
    hypervolume: list[float]
    why: str = ""


def search_records(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the evaluations that the search itself asked for, in the journal's order.

    The controls come after an event of that name, in older journals after the first look at
    validation; a search whose budget was raised since goes on.
    """
    found, budget, done = [], None, object()
    for record in records:
        if record.get("event") == "begin":
            budget = (record.get("n_eval"), record.get("n_gen"))
        ended = record.get("event") == "controls"
        if record.get("type") != "evaluation" and not ended:
            continue
        if ended or record.get("split") != "search":
            done = budget
        elif budget != done:
            found.append(record)
    return found


def course(run: RunData) -> Course:
    """Returns how the hypervolume of a run grew in the fixed box of its summary."""
    box = run.box("search")
    if not box:
        return Course([], [], [], "The run has not come to its end: its fixed box is not known.")
    records = search_records(run.records)
    lacking = sorted({name for name in run.goals for r in records if _lacks(run, r, name)})
    if lacking:
        return Course(
            [],
            [],
            [],
            f"The run folder has no costs.csv that tells the {', '.join(lacking)} of each pattern.",
        )
    tops = [i for i, record in enumerate(records) if record.get("rung") == TOP]
    if not tops:
        return Course([], [], [], "The journal holds no evaluation of the search.")
    return _course(run, records, tops, np.array(box, dtype=np.float64))


def _lacks(run: RunData, record: Mapping[str, Any], name: str) -> bool:
    return (
        not record.get("error")
        and record.get("rung") == TOP
        and name not in run.values(record)
        and f"search_{name}" not in run.values(record)
    )


def _course(
    run: RunData, records: list[dict[str, Any]], tops: list[int], box: np.ndarray
) -> Course:
    """Returns the course over the records (N,), of which some (K,) are of the top rung."""
    seconds = np.cumsum([float(record.get("seconds", 0.0)) for record in records])
    F = np.full((len(tops), len(run.goals)), np.nan)
    for row, i in enumerate(tops):
        if not records[i].get("error"):
            values = run.values(records[i])
            F[row] = [values[name] for name in run.goals]
    F = oriented(F, list(run.goals.values()))
    stops = np.unique(np.linspace(1, len(tops), min(CHECKPOINTS, len(tops))).round().astype(int))
    best, volumes, start = F[:0], [], 0
    for stop in stops:
        best = np.concatenate([best, F[start:stop]])
        best, start = best[nondominated(best)], stop
        volumes.append(hypervolume(best, box[1], box[0]))
    spent = [float(seconds[tops[stop - 1]]) for stop in stops]
    return Course([int(stop) for stop in stops], spent, volumes)
