"""Numbers from tables: ratios, worst groups, tails, ranks and their bootstrap intervals."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Table:
    """What a pass returns: one row an example.

    A token table has the columns ``n`` (scored positions), ``nll`` (nats), ``correct`` and ``kl``
    (nats), each summed over the row's positions.

    Args:
        columns: name -> values (N,), stored as float64.
        groups: the calibration cluster or kind of each row (N,), stored as int64.

    Raises:
        ValueError: a column is not (N,), or the groups are not whole numbers.
    """

    columns: Mapping[str, Floats]
    groups: Ints

    def __post_init__(self) -> None:
        groups = np.asarray(self.groups)
        if groups.ndim != 1 or (groups.size and groups.dtype.kind not in "iu"):
            raise ValueError(
                f"groups must be whole numbers (N,), not {groups.dtype} {groups.shape}"
            )
        columns = {name: np.asarray(v, dtype=np.float64) for name, v in self.columns.items()}
        for name, values in columns.items():
            if values.shape != groups.shape:
                raise ValueError(
                    f"column '{name}' has shape {values.shape}, the groups have {groups.shape}"
                )
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "groups", groups.astype(np.int64, copy=False))

    def __len__(self) -> int:
        return len(self.groups)

    def take(self, rows: NDArray[Any]) -> "Table":
        """Returns the rows asked for: indices (repeats allowed) or a mask (N,)."""
        return Table({name: v[rows] for name, v in self.columns.items()}, self.groups[rows])

    @staticmethod
    def concat(tables: Sequence["Table"]) -> "Table":
        """Returns the rows of all tables, one table after the other.

        Raises:
            ValueError: there is no table, or they differ in their columns.
        """
        if not tables:
            raise ValueError("there is no table to concatenate")
        names = list(tables[0].columns)
        for table in tables:
            if set(table.columns) != set(names):
                raise ValueError(f"columns differ: {sorted(names)} and {sorted(table.columns)}")
        columns = {name: np.concatenate([t.columns[name] for t in tables]) for name in names}
        return Table(columns, np.concatenate([t.groups for t in tables]))

    def to_json(self) -> dict[str, Any]:
        """Returns a strict-JSON form from which every float returns bit for bit.

        Non-finite values become the strings "nan", "inf" and "-inf".
        """
        columns = {
            name: [x if math.isfinite(x) else str(x) for x in values.tolist()]
            for name, values in self.columns.items()
        }
        return {"columns": columns, "groups": self.groups.tolist()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Table":
        """Returns the table that ``to_json`` wrote."""
        columns = {
            name: np.array([float(x) for x in values], dtype=np.float64)
            for name, values in data["columns"].items()
        }
        return Table(columns, np.array(data["groups"], dtype=np.int64))


def ratio(table: Table, column: str, unit: str = "n") -> float:
    """Returns the column's sum per sum of the unit; nan where there is no unit."""
    units = float(table.columns[unit].sum())
    return float(table.columns[column].sum()) / units if units else math.nan


def perplexity(table: Table) -> float:
    """Returns exp of the mean negative log-likelihood per position; inf where it overflows."""
    with np.errstate(over="ignore"):
        return float(np.exp(ratio(table, "nll")))


def group_ratios(table: Table, column: str, unit: str = "n") -> tuple[Ints, Floats]:
    """Returns the groups (G,), ascending, and the ratio in each (G,); nan where it has no unit."""
    groups, where = np.unique(table.groups, return_inverse=True)
    sums = np.bincount(where, weights=table.columns[column], minlength=len(groups))
    units = np.bincount(where, weights=table.columns[unit], minlength=len(groups))
    values = np.full(len(groups), np.nan)
    np.divide(sums, units, out=values, where=units != 0)
    return groups, values


def worst_group(table: Table, column: str, unit: str = "n") -> float:
    """Returns the largest ratio of any group that has units; nan if none has.

    A group whose own sum is nan makes the result nan: a broken pattern has no worst group.
    """
    groups, values = group_ratios(table, column, unit)
    scored = np.isin(groups, table.groups[table.columns[unit] != 0])
    return float(values[scored].max()) if scored.any() else math.nan


def worst_group_retention(
    table: Table, dense: Table, column: str = "correct", unit: str = "n"
) -> float:
    """Returns the smallest share of the dense ratio that any group keeps (larger is better).

    A group in which the dense model scores 0, or nothing, is left out; nan if all are.

    Raises:
        ValueError: the two tables do not have the same groups.
    """
    groups, values = group_ratios(table, column, unit)
    dense_groups, dense_values = group_ratios(dense, column, unit)
    if not np.array_equal(groups, dense_groups):
        raise ValueError("the table and the dense table have different groups")
    kept = np.isfinite(dense_values) & (dense_values != 0)
    return float((values[kept] / dense_values[kept]).min()) if kept.any() else math.nan


def cvar(table: Table, column: str, alpha: float = 0.1, unit: str = "n") -> float:
    """Returns the mean of the rows' ratios over the ceil(alpha * N) largest of them.

    The conditional value at risk of Rockafellar and Uryasev (2000), of the empirical distribution;
    rows without units are left out, and nan is returned if none is left.

    Raises:
        ValueError: alpha is not in (0, 1].
    """
    if not 0 < alpha <= 1:
        raise ValueError(f"alpha must be in (0, 1], not {alpha}")
    units = table.columns[unit]
    rows = np.sort(table.columns[column][units != 0] / units[units != 0])
    # Rounded first, so that 0.07 * 100 = 7.000000000000001 stays 7 rows.
    worst = math.ceil(round(alpha * len(rows), 9))
    return float(rows[len(rows) - max(worst, 1) :].mean()) if len(rows) else math.nan


def _mid_ranks(values: Floats) -> Floats:
    """Returns the ranks (N,) from 1; equal values share the mean of their ranks."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    mids: Floats = np.cumsum(counts) - (counts - 1) / 2
    return mids[where]


def auroc(inside: ArrayLike, outside: ArrayLike) -> float:
    """Returns the chance that an inside score is above an outside one, ties counting half.

    The exact rank statistic of Mann and Whitney; nan if a side is empty or a score is nan.

    Args:
        inside: scores (A,) of what belongs; larger means more inside.
        outside: scores (B,) of what does not.
    """
    a, b = np.asarray(inside, dtype=np.float64), np.asarray(outside, dtype=np.float64)
    scores = np.concatenate([a, b])
    if not len(a) or not len(b) or np.isnan(scores).any():
        return math.nan
    wins = _mid_ranks(scores)[: len(a)].sum() - len(a) * (len(a) + 1) / 2
    return float(wins / (len(a) * len(b)))


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Returns Spearman's rank correlation with mid-ranks.

    It is nan if a side is constant, holds a nan, or has fewer than two values.

    Raises:
        ValueError: the sides differ in length.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape:
        raise ValueError(f"shapes differ: {x.shape} and {y.shape}")
    if len(x) < 2 or np.isnan(x).any() or np.isnan(y).any():
        return math.nan
    # Mid-ranks doubled are whole numbers, so equal orders give exactly 1.
    rx, ry = 2 * _mid_ranks(x) - len(x) - 1, 2 * _mid_ranks(y) - len(y) - 1
    scale = float(rx @ rx) * float(ry @ ry)
    return max(-1.0, min(1.0, float(rx @ ry) / math.sqrt(scale))) if scale else math.nan


def ece(confidence: ArrayLike, correct: ArrayLike, bins: int = 15) -> float:
    """Returns the expected calibration error over equal-width bins (Guo et al., 2017).

    It is nan if there is no row or a confidence is nan.

    Args:
        confidence: probability of the predicted class (N,).
        correct: 1 where the prediction was right, else 0 (N,).
        bins: how many bins (l, u] share [0, 1].

    Raises:
        ValueError: the shapes differ, or a confidence is outside [0, 1].
    """
    p, hit = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if p.shape != hit.shape:
        raise ValueError(f"shapes differ: {p.shape} and {hit.shape}")
    if not len(p) or np.isnan(p).any():
        return math.nan
    if p.min() < 0 or p.max() > 1:
        raise ValueError(f"confidences must be in [0, 1], not [{p.min()}, {p.max()}]")
    where = np.maximum(np.ceil(p * bins).astype(np.int64) - 1, 0)
    gaps = np.bincount(where, weights=hit - p, minlength=bins)
    return float(np.abs(gaps).sum() / len(p))


def _resamples(groups: Ints, n_boot: int, seed: int) -> Iterator[Ints]:
    """Yields n_boot draws of row indices (N,) with replacement, each within the row's group."""
    order = np.argsort(groups, kind="stable")
    _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    start, size = np.repeat(starts, sizes), np.repeat(sizes, sizes)
    rng = np.random.default_rng(seed)
    for _ in range(n_boot):
        yield order[start + rng.integers(size)]


def bootstrap(
    statistic: Callable[..., float],
    tables: Sequence[Table],
    n_boot: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    *,
    stratify: bool = True,
) -> tuple[float, float]:
    """Returns the percentile bootstrap interval (low, high) of ``statistic(*tables)``.

    Every resample takes the same rows of all tables of one length, so a difference of two tables
    is paired. Tables of another length are of other examples, and are resampled by themselves.
    The ends are values that occurred (the quantiles' outer neighbours); resamples where the
    statistic is nan are left out; (nan, nan) if all are.

    Args:
        statistic: called with the resampled tables.
        tables: tables (N,), those of one length of the same rows.
        n_boot: number of resamples.
        level: share of the resamples inside the interval.
        stratify: resample within each group of the first table of a length, so that no group
            disappears.

    Raises:
        ValueError: there is no table, one has no rows, or level is not in (0, 1).
    """
    if not tables or any(len(table) == 0 for table in tables):
        raise ValueError("a bootstrap needs tables, each with at least one row")
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), not {level}")
    firsts: dict[int, Table] = {}
    for table in tables:
        firsts.setdefault(len(table), table)
    draws = {
        length: _resamples(
            first.groups if stratify else np.zeros(length, dtype=np.int64), n_boot, seed + i
        )
        for i, (length, first) in enumerate(firsts.items())
    }
    samples = (dict(zip(draws, rows, strict=True)) for rows in zip(*draws.values(), strict=True))
    values = np.array(
        [statistic(*[table.take(rows[len(table)]) for table in tables]) for rows in samples]
    )
    values = values[~np.isnan(values)]
    if not len(values):
        return math.nan, math.nan
    # Interpolating between two infinite values would give nan.
    low = np.quantile(values, (1 - level) / 2, method="lower")
    high = np.quantile(values, (1 + level) / 2, method="higher")
    return float(low), float(high)
