"""Dominance: which points are not dominated, how much they dominate, and the knee among them.

Arrays called ``F`` are oriented: smaller is better in every column.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evoprune.core.metrics import spearman
from evoprune.core.protocols import Goal

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_BLOCK = 256


def oriented(values: ArrayLike, goals: Sequence[Goal]) -> Floats:
    """Returns the values (P, M) with the sign flipped where the goal is max.

    Raises:
        ValueError: there is not one goal, "min" or "max", a column.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != len(goals) or not set(goals) <= {"min", "max"}:
        raise ValueError(f"values {array.shape} need one goal a column, not {list(goals)}")
    flipped: Floats = array * np.array([-1.0 if goal == "max" else 1.0 for goal in goals])
    return flipped


def nondominated(F: ArrayLike) -> Flags:
    """Returns which rows no other row dominates (P,): exact, without tolerance.

    A row dominates another if it is nowhere larger and somewhere smaller, so equal rows are kept
    together. A row with a non-finite value is never kept and dominates nothing.

    Args:
        F: values (P, M), smaller is better.
    """
    values = np.asarray(F, dtype=np.float64)
    kept = np.asarray(np.isfinite(values).all(axis=1))
    if not kept.any():
        return kept
    # Adding 0.0 makes -0.0 equal to 0.0. Whatever dominates a row sorts before it.
    rows, where = np.unique(values[kept] + 0.0, axis=0, return_inverse=True)
    best = np.zeros(len(rows), dtype=bool)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        within = _at_most(block, block)
        np.fill_diagonal(within, False)
        before = _at_most(rows[:start][best[:start]], block)
        best[start : start + _BLOCK] = ~(within.any(axis=0) | before.any(axis=0))
    kept[kept] = best[where.reshape(-1)]
    return kept


def _at_most(a: Floats, b: Floats) -> Flags:
    """Returns where a row of a is nowhere larger than a row of b (A, B)."""
    result = np.ones((len(a), len(b)), dtype=bool)
    for column in range(a.shape[1]):
        result &= a[:, column, None] <= b[None, :, column]
    return result


def hypervolume(F: ArrayLike, reference: ArrayLike, ideal: ArrayLike) -> float:
    """Returns the share of the box between ideal and reference that the rows dominate, 0 to 1.

    Exact (moocore). What a row dominates outside the box does not count; rows with a non-finite
    value are ignored.

    Args:
        F: values (P, M), smaller is better.
        reference: the box's worst corner (M,).
        ideal: the box's best corner (M,).

    Raises:
        ValueError: the reference is not above the ideal in every column.
    """
    import moocore

    low, high = np.asarray(ideal, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (high > low).all()):
        raise ValueError(f"the reference {high} must be above the ideal {low} in every column")
    rows = (np.asarray(F, dtype=np.float64) - low) / (high - low)
    rows = rows[np.isfinite(rows).all(axis=1) & (rows < 1).all(axis=1)]
    if not len(rows):
        return 0.0
    return float(moocore.hypervolume(np.maximum(rows, 0.0), ref=np.ones(len(low))))


def knee(F: ArrayLike, ideal: ArrayLike | None = None, nadir: ArrayLike | None = None) -> int:
    """Returns the index of the knee: the row nearest the ideal corner, in Euclidean distance.

    Every column is first scaled to [0, 1] between ideal and nadir, which are the rows' own bounds
    unless given. A column without extent is ignored, and so is a row with a non-finite value; of
    equally near rows the first is taken.

    Args:
        F: values (P, M), smaller is better.
        ideal: the best value of each column (M,).
        nadir: the worst value of each column (M,).

    Raises:
        ValueError: no row is finite.
    """
    rows = np.asarray(F, dtype=np.float64)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.any():
        raise ValueError("there is no finite row to choose a knee from")
    low = rows[finite].min(axis=0) if ideal is None else np.asarray(ideal, dtype=np.float64)
    high = rows[finite].max(axis=0) if nadir is None else np.asarray(nadir, dtype=np.float64)
    used = high > low
    scaled = (rows[:, used] - low[used]) / (high - low)[used]
    distance = np.where(finite, (scaled**2).sum(axis=1), np.inf)
    return int(np.argmin(distance))


def correlations(values: ArrayLike, names: Sequence[str]) -> dict[tuple[str, str], float]:
    """Returns Spearman's correlation of every two columns of the values (P, M), by their names."""
    array = np.asarray(values, dtype=np.float64)
    return {
        (names[i], names[j]): spearman(array[:, i], array[:, j])
        for i, j in combinations(range(len(names)), 2)
    }
