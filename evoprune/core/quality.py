"""How much of what a model knows a pruned one keeps: a scale with an honest zero.

The zero is a model that knows frequencies only: of a language model the unigram frequencies of
the search pool, of a classifier its classes' (scikit-learn's ``DummyClassifier(strategy="prior")``
is the same). Every objective is asked what it says of that model, as it is asked of any pattern,
so each has its own zero: accuracy that of the most frequent class, an AUROC one half, a loss that
of guessing by frequency. A point at or below it is worth nothing, however small it is.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from evoprune.core.metrics import Table
from evoprune.core.protocols import Objective, TableObjective

Tables = Mapping[str, Table]
# Named picks: the shares of the dense model's gain that people ask to be kept.
SAFE, USEFUL = 0.95, 0.80
COLUMN = "quality_kept"


Values = TypeVar("Values", float, NDArray[np.float64])


def kept(values: Values, zero: float, dense: float) -> Values:
    """Returns the share of the dense model's gain over the zero that values keep.

    1 is the dense model, 0 knows frequencies only, more or less than these is possible; nan where
    the dense model gains nothing.
    """
    gain = dense - zero
    return (values - zero) / (gain if gain and math.isfinite(gain) else math.nan)


def log_frequencies(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the logarithms of Witten–Bell smoothed frequencies (V,).

    As many observations as there are different ones are shared out evenly (Witten and Bell, 1991),
    so that what was never seen has a finite loss and a large vocabulary does not drown a small
    sample, as adding one everywhere would.
    """
    total, distinct = counts.sum(), np.count_nonzero(counts)
    smoothed = (counts + distinct / len(counts)) / (total + distinct)
    return np.asarray(np.log(smoothed), dtype=np.float64)


def value_of(objective: TableObjective, tables: Tables, dense: Tables) -> float:
    """Returns what an objective says of tables; nan where it cannot read them."""
    try:
        return float(objective.value(tables, dense))
    except Exception:  # whatever a plug-in may raise: an objective without a value has no scale
        return math.nan


def zeros(objectives: Mapping[str, Objective], zero: Tables, dense: Tables) -> dict[str, float]:
    """Returns what measured objectives say of a model that knows frequencies only.

    An objective of which the dense model is not better than that has no honest scale, and is left
    out; so is one that cannot be asked.

    Args:
        objectives: by name; costs are passed over.
        zero: the tables of that model; empty where the task has none.
        dense: the dense model's.
    """
    found = {}
    for name, objective in objectives.items():
        if not zero or not isinstance(objective, TableObjective):
            continue
        low, high = (value_of(objective, tables, dense) for tables in (zero, dense))
        sign = 1.0 if objective.goal == "max" else -1.0
        if math.isfinite(low) and math.isfinite(high) and sign * (high - low) > 0:
            found[name] = low
    return found


def ceilings(names: Sequence[str], signs: np.ndarray, zero: Mapping[str, float]) -> np.ndarray:
    """Returns the bounds (M,), to be minimised, that a point of any worth stays below.

    Infinity where an objective has no zero.
    """
    return np.array(
        [zero[n] * s if n in zero else np.inf for n, s in zip(names, signs, strict=True)]
    )
