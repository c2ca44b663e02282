"""An ensemble against what it has to beat, on the report split, honest whatever the sign.

Its rivals were named on validation: its best member, the best single point of the front, the
largest single model that costs no more than the ensemble, the dense model, and random sets of as
many members. Differences are paired: every resample draws the same examples for both sides.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evoprune.core.metrics import Table, bootstrap
from evoprune.ensemble.scoring import ece
from evoprune.evaluation.runner import Tables
from evoprune.objectives.classification import OodAuroc

N_BOOT = 1000
LEVEL = 0.95
ENSEMBLE = "ensemble"
RANDOM = "random"


@dataclass(frozen=True)
class Ece:
    """``ece``: the expected calibration error over 15 bins."""

    goal = "min"
    unit = "probability"

    def value(self, tables: Mapping[str, Table], dense: Mapping[str, Table]) -> float:
        """Returns it."""
        return ece(tables["clean"])


def measures(objectives: Mapping[str, Any], passes: Sequence[str]) -> dict[str, Any]:
    """Returns what is compared: what the run measures, calibration, and near and far apart."""
    found = {**objectives, "ece": Ece()}
    ood = objectives.get("ood_auroc")
    if isinstance(ood, OodAuroc):
        for outside in ("near", "far"):
            if outside in passes:
                found[f"ood_auroc_{outside}"] = OodAuroc(ood.score, outside)
    return found


def rows(
    scored: Mapping[str, Tables], dense: Mapping[str, Table], measured: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Returns a row for each contender and metric, and for each difference to the ensemble.

    A row has ``name``, ``metric``, ``split``, ``value``, ``low``, ``high`` (95 % bootstrap) and
    ``goal``. The name ``ensemble - best_single`` is a difference; ``random`` stands for the mean
    over the random sets, and its rows also say ``beaten``, the share of the sets that the ensemble
    is better than. A metric that has no value for the ensemble has no rows: the AUROC without
    outside examples, or of routed members without centroids.

    Args:
        scored: tables by contender and pass; the random sets are called ``random 0`` ….
        dense: the tables that relative objectives refer to.
        measured: objectives by name.
    """
    resampled = _resampled(scored, dense, measured)
    point = _values(scored, dense, measured)
    made = []
    for metric, objective in measured.items():
        if not math.isfinite(point[ENSEMBLE][metric]):
            continue
        for name in _names(point):
            value, drawn = _of(point, name, metric), _of(resampled, name, metric)
            made.append(_row(name, metric, objective, value, drawn))
            if name == ENSEMBLE:
                continue
            less = point[ENSEMBLE][metric] - value, resampled[ENSEMBLE][metric] - drawn
            row = _row(f"{ENSEMBLE} - {name}", metric, objective, *less)
            if name == RANDOM:
                row["beaten"] = _beaten(point, metric, objective.goal)
            made.append(row)
    return [row for row in made if math.isfinite(row["value"])]


def _beaten(point: Mapping[str, Mapping[str, float]], metric: str, goal: str) -> float:
    """Returns the share of the random sets that the ensemble is better than."""
    sets = np.array([v[metric] for name, v in point.items() if name.startswith(f"{RANDOM} ")])
    ours = point[ENSEMBLE][metric]
    return float(np.mean(sets < ours if goal == "max" else sets > ours))


def _names(point: Mapping[str, Any]) -> list[str]:
    """Returns the contenders, the random sets as one, last."""
    named = [name for name in point if not name.startswith(f"{RANDOM} ")]
    return named if len(named) == len(point) else [*named, RANDOM]


def _of(values: Mapping[str, Mapping[str, Any]], name: str, metric: str) -> Any:
    """Returns a contender's value; of the random sets the mean."""
    if name != RANDOM:
        return values[name][metric]
    sets = [v[metric] for n, v in values.items() if n.startswith(f"{RANDOM} ")]
    return np.mean(sets, axis=0)


def _row(name: str, metric: str, objective: Any, value: float, drawn: np.ndarray) -> dict[str, Any]:
    drawn = drawn[~np.isnan(drawn)]
    low = high = math.nan
    if len(drawn):
        low = float(np.quantile(drawn, (1 - LEVEL) / 2, method="lower"))
        high = float(np.quantile(drawn, (1 + LEVEL) / 2, method="higher"))
    return {
        "name": name,
        "metric": metric,
        "split": "report",
        "value": float(value),
        "low": low,
        "high": high,
        "goal": objective.goal,
    }


def _values(
    scored: Mapping[str, Tables], dense: Mapping[str, Table], measured: Mapping[str, Any]
) -> dict[str, dict[str, float]]:
    """Returns every metric of every contender; not a number where it cannot be told."""
    return {
        name: {metric: _value(one, tables, dense) for metric, one in measured.items()}
        for name, tables in scored.items()
    }


def _value(objective: Any, tables: Tables, dense: Mapping[str, Table]) -> float:
    if not set(getattr(objective, "passes", ())) <= set(tables):
        return math.nan
    return float(objective.value(tables, dense))


def _resampled(
    scored: Mapping[str, Tables], dense: Mapping[str, Table], measured: Mapping[str, Any]
) -> dict[str, dict[str, np.ndarray]]:
    """Returns every metric of every contender over the bootstrap's resamples (R,)."""
    places = [(name, one) for name, tables in scored.items() for one in tables]
    tables = [scored[name][one] for name, one in places]
    drawn: list[dict[str, dict[str, float]]] = []

    def keep(*rows: Table) -> float:
        by_name: dict[str, Tables] = {}
        # The dense model's tables stand behind those of the contenders.
        for (name, one), table in zip(places, rows, strict=False):
            by_name.setdefault(name, {})[one] = table
        resampled_dense = dict(zip(dense, rows[len(places) :], strict=True))
        drawn.append(_values(by_name, resampled_dense, measured))
        return 0.0

    # One run for all: resamples are the same for every contender, so any difference is paired.
    bootstrap(keep, [*tables, *dense.values()], n_boot=N_BOOT, level=LEVEL)
    return {
        name: {m: np.array([values[name][m] for values in drawn]) for m in measured}
        for name in scored
    }
