"""What each point of a front loses in each cluster of the report split."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from evoprune.core.metrics import Table, group_ratios
from evoprune.report.reading import RunData

# From this share on a cluster is called by its most common kind of document.
PURE = 0.5


@dataclass(frozen=True)
class Losses:
    """What was measured in each cluster.

    Attributes:
        measure: ``perplexity``, where less is better, or ``accuracy``, where more is.
        names: of the clusters (K,), in words.
        dense: of the dense model (K,).
        zero: of a model that knows only frequencies (K,); nan where that is not known.
        points: pattern id → of that pattern (K,).
    """

    measure: str
    names: list[str]
    dense: np.ndarray
    zero: np.ndarray
    points: Mapping[str, np.ndarray]

    def kept(self, pattern_id: str) -> np.ndarray:
        """Returns the share of the dense model's gain that a pattern keeps (K,); nan if unknown."""
        zero, dense, value = (
            np.log(values) if self.measure == "perplexity" else values
            for values in (self.zero, self.dense, self.points[pattern_id])
        )
        gain = dense - zero
        # Where the dense model gains nothing there is nothing to keep.
        better = gain < 0 if self.measure == "perplexity" else gain > 0
        return np.divide(value - zero, gain, out=np.full(len(gain), np.nan), where=better)

    def worst(self, pattern_id: str) -> int | None:
        """Returns where a pattern loses most; None where that is not known."""
        if pattern_id not in self.points:
            return None
        lost = -self.kept(pattern_id)
        if not np.isfinite(lost).any():
            found, less = self.points[pattern_id], self.measure == "perplexity"
            lost = found / self.dense if less else self.dense - found
        return int(np.nanargmax(lost)) if np.isfinite(lost).any() else None

    def text(self, pattern_id: str) -> str:
        """Returns where a pattern loses most, in words; empty where that is not known."""
        at = self.worst(pattern_id)
        if at is None:
            return ""
        before, after = (
            f"{value:.1f}" if self.measure == "perplexity" else f"{value:.1%}"
            for value in (self.dense[at], self.points[pattern_id][at])
        )
        kept = self.kept(pattern_id)[at]
        keeps = f" keeps {kept:.1%}" if np.isfinite(kept) else ""
        return f"{self.names[at]}{keeps}: {self.measure} {before} → {after}"


def losses(run: RunData) -> Losses | None:
    """Returns what every pattern scored on the report split loses by cluster.

    None if the journal holds no such tables, or the dense model's were not kept.
    """
    tables = {r["id"]: found for r in run.evaluations("report") if (found := _table(r))}
    whole = run.ends.dense.get("clean") or _of_dense(run, tables)
    if whole is None or not tables or len(np.unique(whole.groups)) < 2:
        return None
    measure = measure_of(whole.columns)
    groups, dense = _measured(whole, measure)
    points = {name: _measured(table, measure) for name, table in tables.items()}
    same = {name: v for name, (g, v) in points.items() if np.array_equal(g, groups)}
    return Losses(
        measure, [_name(run, int(g)) for g in groups], dense, _zero(run, measure, groups), same
    )


def measure_of(columns: Collection[str]) -> str:
    """Returns what clusters are compared by: ``perplexity`` of language, ``accuracy`` of classes.

    Both may have a divergence from the dense model; only classifiers are sure of an example.
    """
    return "perplexity" if "kl" in columns and "msp" not in columns else "accuracy"


def _zero(run: RunData, measure: str, groups: np.ndarray) -> np.ndarray:
    """Returns what a model that knows only frequencies has in each cluster (K,); nan if unknown."""
    unknown = np.full(len(groups), np.nan)
    if "clean" not in run.ends.zero:
        return unknown
    known, values = _measured(run.ends.zero["clean"], measure)
    return values if np.array_equal(known, groups) else unknown


def _table(record: Mapping[str, Any]) -> Table | None:
    """Returns the table of the clean pass of an evaluation, if it was kept and says enough."""
    try:
        table = Table.from_json(record["tables"]["clean"])
    except (KeyError, TypeError, ValueError):
        return None
    return table if {"n", "nll", "correct"} <= table.columns.keys() else None


def _of_dense(run: RunData, tables: Mapping[str, Table]) -> Table | None:
    dense = [r["id"] for r in run.evaluations("report") if not any(map(_removes, r["pattern"]))]
    return next((tables[name] for name in dense if name in tables), None)


def _removes(choice: int | str) -> bool:
    """Returns whether a gene's value is not dense: a level above 0, or a block with a bit set."""
    return choice != 0 if isinstance(choice, int) else set(choice) - set("A=") != set()


def _measured(table: Table, measure: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the clusters (K,) and the measure in each (K,)."""
    if measure == "accuracy":
        return group_ratios(table, "correct")
    groups, values = group_ratios(table, "nll")
    with np.errstate(over="ignore"):
        return groups, np.exp(values)


def _name(run: RunData, cluster: int) -> str:
    """Returns what a cluster is called: its number, and what most of it is."""
    for row in run.clusters:
        if row.get("cluster") == str(cluster) and row.get("kind"):
            try:
                pure = float(row.get("purity") or 0)
            except ValueError:
                pure = 0.0
            mostly = "mostly " if pure < 0.95 else ""
            if pure >= PURE:
                return f"cluster {cluster} ({mostly}{row['kind']})"
    return f"cluster {cluster}"
