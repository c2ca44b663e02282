"""The front: non-dominated patterns, how good they are together, and picks among them."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evoprune.constraints import Constraint, parse_bound
from evoprune.errors import ConfigError, EvopruneError, RunFolderError, did_you_mean
from evoprune.journal import decode, encode, write_atomically
from evoprune.pareto import Floats, knee, nondominated, oriented
from evoprune.protocols import Goal

VERSION = 1


@dataclass(frozen=True)
class FrontPoint:
    """One pattern of a front with what was measured of it.

    Args:
        id: the pattern's id.
        pattern: the pattern as JSON stores it.
        values: column -> value, such as ``search_nll``, ``report_nll_low``, ``params``.
        origin: "search", or the name of the control it comes from, such as "uniform".
    """

    id: str
    pattern: object
    values: Mapping[str, float]
    origin: str = "search"


@dataclass(frozen=True)
class Front:
    """The points of a front, in a fixed order.

    Args:
        points: with distinct ids.
        goals: objective -> goal; the first is what picks under constraints are ranked by.
        dense: what the dense model scores, by objective or column; percentages refer to it.

    Raises:
        ValueError: two points share an id.
    """

    points: tuple[FrontPoint, ...]
    goals: Mapping[str, Goal]
    dense: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len({point.id for point in self.points}) != len(self.points):
            raise ValueError("two points of a front have the same id")

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[FrontPoint]:
        return iter(self.points)

    def __getitem__(self, key: str | int) -> FrontPoint:
        """Returns the point at a position or with an id; see ``pick`` for more.

        Raises:
            KeyError: no point has this id.
            IndexError: there is no such position.
        """
        if not isinstance(key, str):
            return self.points[key]
        for point in self.points:
            if point.id == key:
                return point
        raise KeyError(key)

    def columns(self) -> list[str]:
        """Returns the names of the value columns, in the order of their first appearance."""
        return list(dict.fromkeys(name for point in self.points for name in point.values))

    def array(self, split: str = "val") -> Floats:
        """Returns the objectives (P, M) on a split in their own signs; nan where not measured.

        An objective without splits, such as ``params``, is read from the column of its name.

        Raises:
            ConfigError: no point has a value of an objective on this split.
        """
        known = self.columns()
        names = []
        for goal in self.goals:
            name = f"{split}_{goal}" if f"{split}_{goal}" in known else goal
            if self.points and name not in known:
                raise ConfigError(
                    f"The front has no column '{split}_{goal}'.",
                    did_you_mean(f"{split}_{goal}", known),
                )
            names.append(name)
        return self._values(names)

    def _values(self, columns: Sequence[str]) -> Floats:
        rows = [[float(p.values.get(name, math.nan)) for name in columns] for p in self.points]
        return np.array(rows, dtype=np.float64).reshape(len(self.points), len(columns))

    def to_csv(self, path: Path | str) -> None:
        """Writes id, origin and the value columns; floats by repr, empty where not measured.

        Raises:
            RunFolderError: the file cannot be written.
        """
        columns, text = self.columns(), io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["id", "origin", *columns])
        for point in self.points:
            cells = [_cell(point.values[c]) if c in point.values else "" for c in columns]
            writer.writerow([point.id, point.origin, *cells])
        write_atomically(path, text.getvalue())

    def to_json(self, path: Path | str) -> None:
        """Writes all of the front; equal fronts give equal bytes.

        Raises:
            RunFolderError: the file cannot be written.
        """
        points = [
            {"id": p.id, "origin": p.origin, "pattern": p.pattern, "values": p.values}
            for p in self.points
        ]
        data = {"version": VERSION, "goals": self.goals, "dense": self.dense, "points": points}
        write_atomically(path, json.dumps(encode(data), indent=1, allow_nan=False) + "\n")

    @staticmethod
    def from_json(path: Path | str) -> "Front":
        """Returns the front that ``to_json`` wrote.

        Raises:
            RunFolderError: the file is missing, damaged, or of a newer version.
        """
        try:
            data = decode(json.loads(Path(path).read_bytes()))
            if data["version"] <= VERSION:
                points = tuple(FrontPoint(**point) for point in data["points"])
                return Front(points, data["goals"], data["dense"])
        except OSError as error:
            raise RunFolderError(
                f"'{path}' cannot be read: {error.strerror or error}.",
                "Check the path of the run folder; a search writes its front when it ends.",
            ) from error
        except (ValueError, TypeError, KeyError) as error:
            raise RunFolderError(
                f"'{path}' is damaged or is not a front: {error!r}.",
                "Give the search's command again to rebuild it from the journal.",
            ) from error
        raise RunFolderError(
            f"'{path}' is a front of version {data['version']}; {VERSION} is the newest known.",
            "Update evoprune.",
        )

    def to_frame(self) -> Any:
        """Returns a pandas DataFrame, one row a point, with the columns of ``to_csv``.

        Raises:
            EvopruneError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise EvopruneError(
                "A data frame needs pandas, which is not installed.",
                'Install it with: pip install "evoprune[frames]".',
            ) from error
        rows = [{"id": p.id, "origin": p.origin, **p.values} for p in self.points]
        return pandas.DataFrame(rows, columns=["id", "origin", *self.columns()])

    def pick(self, expression: str) -> FrontPoint:
        """Returns the one point that an expression means.

        - ``knee``: see ``knee``, over all objectives.
        - ``best:token_accuracy``: the best value of an objective.
        - ``params<=60%`` or ``sparsity>=0.5,token_accuracy>=0.3``: of the points that meet every
          constraint, the best by the first objective. A percentage is of the dense value.
        - an id, or the beginning of just one.

        Values are those on validation, else of the search, else of the column of that name; equal
        points are told apart by the other objectives in order, then by position.

        Raises:
            ConfigError: the expression is not understood, is ambiguous, or nothing meets it.
        """
        text = expression.strip()
        if not self.points:
            raise ConfigError(
                f"The front is empty, so there is no '{text}'.",
                "Search longer or loosen the constraints of the space.",
            )
        if text == "knee":
            return self._knee()
        if text.startswith("best:"):
            name = text.removeprefix("best:").strip()
            if name not in self.goals:
                raise ConfigError(f"'{name}' is no objective.", did_you_mean(name, self.goals))
            return self._best(name, np.arange(len(self)))
        if set(text) & set("<>="):
            return self._within(text)
        return self._named(text)

    def _column(self, name: str) -> str:
        """Returns the column that a name in an expression stands for."""
        known = self.columns()
        for column in (f"val_{name}", f"search_{name}", name):
            if column in known:
                return column
        raise ConfigError(
            f"The front has no values named '{name}'.", did_you_mean(name, [*self.goals, *known])
        )

    def _knee(self) -> FrontPoint:
        F = oriented(self._values([self._column(n) for n in self.goals]), [*self.goals.values()])
        if not np.isfinite(F).all(axis=1).any():
            raise ConfigError(
                "No point of the front has a finite value of every objective.",
                "Pick one by its id.",
            )
        return self.points[knee(F)]

    def _best(self, name: str, among: NDArray[np.intp]) -> FrontPoint:
        names = list(dict.fromkeys([name, *self.goals]))
        F = oriented(self._values([self._column(n) for n in names]), [self.goals[n] for n in names])
        F = np.where(np.isfinite(F), F, np.inf)
        best = min((int(i) for i in among), key=lambda i: (tuple(F[i]), i))
        if np.isinf(F[best, 0]):
            raise ConfigError(f"No such point has a finite '{name}'.", "Pick one by its id.")
        return self.points[best]

    def _within(self, text: str) -> FrontPoint:
        among = np.arange(len(self))
        for part in text.split(","):
            bound = parse_bound(part)
            column = self._column(bound.name)
            dense = self._dense_of(bound, column)
            values = self._values([column])[among, 0]
            met = bound.met(values, dense)
            if not met.any():
                raise _out_of_reach(part.strip(), column, values, bound.limit(dense))
            among = among[met]
        return self._best(next(iter(self.goals)), among)

    def _dense_of(self, bound: Constraint, column: str) -> float:
        """Returns the dense value that a percentage refers to; nan where none is needed."""
        dense = self.dense.get(column, self.dense.get(bound.name, math.nan))
        if bound.percent and (not math.isfinite(dense) or dense == 0):
            known = "0" if dense == 0 else "not known"
            raise ConfigError(
                f"'{bound.bound:g}%' of the dense '{bound.name}' means nothing: that is {known}.",
                "Give the limit as a plain number.",
            )
        return float(dense)

    def _named(self, text: str) -> FrontPoint:
        ids = [point.id for point in self.points]
        found = [text] if text in ids else [i for i in ids if text and i.startswith(text)]
        if len(found) == 1:
            return self[found[0]]
        if found:
            shown = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
            raise ConfigError(
                f"'{text}' begins {len(found)} ids: {shown}.", "Give more of the one you mean."
            )
        raise ConfigError(f"'{text}' is no point of the front.", did_you_mean(text, ["knee", *ids]))


def _cell(value: float) -> str:
    return str(int(value)) if isinstance(value, Integral) else repr(float(value))


def _out_of_reach(part: str, column: str, values: Floats, limit: float) -> ConfigError:
    """Returns the error for a constraint that none of the values left (K,) meets."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return ConfigError(f"No point left has a finite '{column}' for '{part}'.", "Leave it out.")
    nearest = float(finite[np.argmin(np.abs(finite - limit))])
    return ConfigError(
        f"No point of the front meets '{part}' (with what stands before it).",
        f"The nearest {column} is {nearest!r}: loosen the limit {limit!r}.",
    )


def super_front(fronts: Sequence[Front], split: str = "val") -> Front:
    """Returns the non-dominated points of several fronts, each id once, the first one met.

    The dense values are those of the first front.

    Raises:
        ValueError: there is no front.
        ConfigError: the fronts differ in their objectives, or lack values on the split.
    """
    if not fronts:
        raise ValueError("there is no front to merge")
    goals = fronts[0].goals
    for front in fronts:
        if list(front.goals.items()) != list(goals.items()):
            raise ConfigError(
                f"The fronts have different objectives: {dict(goals)} and {dict(front.goals)}.",
                "Merge only runs with the same objectives in the same order.",
            )
    points: dict[str, FrontPoint] = {}
    for front in fronts:
        for point in front:
            points.setdefault(point.id, point)
    merged = Front(tuple(points.values()), goals, fronts[0].dense)
    kept = nondominated(oriented(merged.array(split), list(goals.values())))
    return Front(
        tuple(p for p, keep in zip(merged, kept, strict=True) if keep), goals, merged.dense
    )
