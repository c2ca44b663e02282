"""The front: non-dominated patterns, how good they are together, and picks among them."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from evoprune.core.errors import (
    ConfigError,
    EvopruneError,
    NoSuchPointError,
    RunFolderError,
    did_you_mean,
    missing,
)
from evoprune.core.files import write_atomically
from evoprune.core.pareto import Floats, nondominated, oriented
from evoprune.core.protocols import Goal
from evoprune.folder import showing
from evoprune.folder.figure import figure
from evoprune.folder.journal import decode, encode
from evoprune.folder.picks import MEASURED, Choice, Picker

VERSION = 2  # 1 knew neither the zero nor rungs


@dataclass(frozen=True)
class FrontPoint:
    """One pattern of a front with what was measured of it.

    Args:
        id: the pattern's id.
        pattern: the pattern as JSON stores it.
        values: column -> value, such as ``search_nll``, ``report_nll_low``, ``params``.
        origin: "search", or the name of the control it comes from, such as "uniform".
        rung: the highest rung of the export ladder that it allows, where known.
    """

    id: str
    pattern: object
    values: Mapping[str, float]
    origin: str = "search"
    rung: str | None = None

    def __repr__(self) -> str:
        return showing.point_text(self)

    def __getattr__(self, name: str) -> Any:
        raise missing("A point", name, [*(one.name for one in fields(self)), *dir(type(self))])


@dataclass(frozen=True)
class Front:
    """The points of a front, in a fixed order.

    Args:
        points: with distinct ids.
        goals: objective -> goal.
        dense: what the dense model scores, by objective or column; percentages refer to it.
        zero: what a model scores that knows frequencies only, by column; empty where unknown.

    Raises:
        ValueError: two points share an id.
    """

    points: tuple[FrontPoint, ...]
    goals: Mapping[str, Goal]
    dense: Mapping[str, float] = field(default_factory=dict)
    zero: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len({point.id for point in self.points}) != len(self.points):
            raise ValueError("two points of a front have the same id")

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[FrontPoint]:
        return iter(self.points)

    def __getitem__(self, key: str | int) -> FrontPoint:
        """Returns the point at a position, with an id, or that an expression means (``choose``).

        Raises:
            NoSuchPointError: there is none; it is a KeyError and an IndexError, too.
        """
        if isinstance(key, str):
            known = next((point for point in self.points if point.id == key), None)
            try:
                return known or self.pick(key)
            except ConfigError as error:
                raise NoSuchPointError(error.cause, error.remedy) from error
        try:
            return self.points[key]
        except (IndexError, TypeError) as error:
            raise NoSuchPointError(
                f"The front has no point {key!r}.",
                f"Give a position below {len(self)}, an id, or a pick such as 'balanced'.",
            ) from error

    def __repr__(self) -> str:
        return showing.front_text(self)

    def _repr_html_(self) -> str:
        return showing.front_html(self)

    def __getattr__(self, name: str) -> Any:
        raise missing("A front", name, [*(one.name for one in fields(self)), *dir(type(self))])

    def plot(self, x: str | None = None, y: str | None = None, split: str | None = None) -> Any:
        """Returns a plotly figure, which a notebook shows: the front as a step line, its picks.

        Args:
            x: a column or objective; what points are cheap by, by default.
            y: the same; quality kept where it is known, else the first measured objective.
            split: report, val or search; the first that there are values of by default.

        Raises:
            ConfigError: there is no such column or split.
        """
        return figure(self, x, y, split)

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
        """Writes id, origin, rung and the value columns; floats by repr, empty if not measured.

        Raises:
            RunFolderError: the file cannot be written.
        """
        columns, text = self.columns(), io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["id", "origin", "rung", *columns])
        for point in self.points:
            cells = [_cell(point.values[c]) if c in point.values else "" for c in columns]
            writer.writerow([point.id, point.origin, point.rung or "", *cells])
        write_atomically(path, text.getvalue())

    def to_json(self, path: Path | str) -> None:
        """Writes all of the front; equal fronts give equal bytes.

        Raises:
            RunFolderError: the file cannot be written.
        """
        points = [
            {
                "id": p.id,
                "origin": p.origin,
                "rung": p.rung,
                "pattern": p.pattern,
                "values": p.values,
            }
            for p in self.points
        ]
        data = {"version": VERSION, "goals": self.goals, "dense": self.dense, "zero": self.zero}
        data["points"] = points
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
                return Front(points, data["goals"], data["dense"], data.get("zero", {}))
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
        rows = [{"id": p.id, "origin": p.origin, "rung": p.rung, **p.values} for p in self.points]
        return pandas.DataFrame(rows, columns=["id", "origin", "rung", *self.columns()])

    def pick(self, expression: str | FrontPoint) -> FrontPoint:
        """Returns the one point that an expression means; see ``choose``.

        Raises:
            ConfigError: the expression is not understood, is ambiguous, or nothing meets it.
        """
        return self.choose(expression).point

    def choose(self, expression: str | FrontPoint) -> Choice:
        """Returns the one point that an expression means, with the rule that chose it.

        A point itself means the one with its id.

        Rules, where *keeps* is the share of the dense model's gain over a model that knows
        frequencies only (``quality_kept``), and *cheapest* goes by the first objective that is a
        cost, else by parameters:

        - ``safe``: the cheapest point that keeps at least 95 %; where none does, the one that
          keeps most.
        - ``balanced``: the knee, over all objectives, of the points that keep at least 80 % and
          cost no more than ``safe``; where none keeps that much, the knee of all.
        - ``small``: the cheapest point that keeps at least 80 %, as ``safe``.
        - ``knee``: that of all points; its box ends at the frequencies-only model.
        - ``best:token_accuracy``: the best value of an objective.
        - an id, or the beginning of just one.

        Bounds, any number of them, alone or beside one rule, with commas between: a percentage is
        of the dense value, ``rung=homogeneous`` asks for a rung of the export ladder. Alone,

        - a bound on quality (``perplexity<=40``) means the cheapest point that meets all bounds;
        - bounds on costs only (``params<=60%``) mean the best by the first measured objective;
        - ``rung=`` only means the balanced one.

        Values are those on validation, else of the search, else of the column of that name; equal
        points are told apart by the other objectives in order, then by position.

        Raises:
            ConfigError: the expression is not understood, is ambiguous, or nothing meets it.
        """
        if isinstance(expression, FrontPoint):
            expression = expression.id
        if not isinstance(expression, str):
            raise ConfigError(
                f"The pick is {expression!r} ({type(expression).__name__}).",
                "Give a name such as 'balanced', an id, bounds, or a point such as run.front[0].",
            )
        if not self.points:
            raise ConfigError(
                f"The front is empty, so there is no '{expression.strip()}'.",
                "Search longer or loosen the constraints of the space.",
            )
        return Picker(self).choose(expression.strip())


def _cell(value: float) -> str:
    return str(int(value)) if isinstance(value, Integral) else repr(float(value))


def told_apart(fronts: Sequence[Front], names: Sequence[str]) -> list[Front]:
    """Returns fronts whose ids carry their run's name, where one id means two models.

    An id is that of a pattern, and in another space the same pattern is another model.

    Args:
        fronts: to be merged.
        names: of their runs.
    """
    known: dict[str, dict[str, float]] = {}
    clash = False
    for front in fronts:
        for point in front:
            counted = {n: v for n, v in point.values.items() if not n.startswith(MEASURED)}
            before = known.setdefault(point.id, counted)
            clash |= any(before[n] != v for n, v in counted.items() if n in before)
    if not clash:
        return list(fronts)
    return [
        replace(front, points=tuple(replace(p, id=f"{name}/{p.id}") for p in front))
        for front, name in zip(fronts, names, strict=True)
    ]


def super_front(fronts: Sequence[Front], split: str = "val") -> Front:
    """Returns the non-dominated points of several fronts, each id once, the first one met.

    The dense values and the zero are those of the first front.

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
    merged = Front(tuple(points.values()), goals, fronts[0].dense, fronts[0].zero)
    kept = nondominated(oriented(merged.array(split), list(goals.values())))
    return Front(
        tuple(p for p, keep in zip(merged, kept, strict=True) if keep),
        goals,
        merged.dense,
        merged.zero,
    )
