"""One picture of a front: quality against cost as a step line, its picks and the dense model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from evoprune.core.errors import ConfigError, did_you_mean
from evoprune.core.pareto import Floats
from evoprune.core.protocols import Goal
from evoprune.core.quality import COLUMN
from evoprune.core.splits import SPLIT_OF
from evoprune.folder.picks import NAMED, Picker

if TYPE_CHECKING:
    from evoprune.folder.front import Front, FrontPoint

WIDTH, HEIGHT = 480, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 28, 28, 40
TICKS = 4
# Values that spread over more than this factor are drawn on a logarithmic axis.
LOG_FROM = 100.0


@dataclass(frozen=True)
class Axis:
    """What one direction of the picture shows.

    Attributes:
        name: as a person says it.
        column: of the front.
        goal: which way is better.
    """

    name: str
    column: str
    goal: Goal


@dataclass(frozen=True)
class View:
    """What of a front is drawn.

    Attributes:
        x: the cost.
        y: the quality.
        split: that values are of.
        points: those with a finite value of both, cheapest first.
        hidden: how many others there are, worse than a model that knows frequencies only or
            without a value.
    """

    x: Axis
    y: Axis
    split: str
    points: tuple["FrontPoint", ...]
    hidden: int

    def values(self, axis: Axis) -> Floats:
        """Returns what the points have on an axis (P,)."""
        return np.array([float(point.values[axis.column]) for point in self.points])

    def steps(self) -> Floats:
        """Returns the best of y for at most the cost of each point (P,)."""
        best = np.maximum if self.y.goal == "max" else np.minimum
        found: Floats = best.accumulate(self.values(self.y))
        return found


def split_of(front: "Front") -> str:
    """Returns the split that a front is shown on: report, else validation, else search."""
    known = front.columns()
    return next(
        (s for s in reversed(SPLIT_OF) if any(c.startswith(f"{s}_") for c in known)), "search"
    )


def view(
    front: "Front", x: str | None = None, y: str | None = None, split: str | None = None
) -> View:
    """Returns what of a front is drawn.

    Args:
        front: any.
        x: a column or objective; what points are cheap by, by default.
        y: the same; quality kept where it is known, else the first measured objective.
        split: report, val or search; the first of them that there are values of by default.

    Raises:
        ConfigError: there is no such column or split.
    """
    if split is not None and split not in SPLIT_OF:
        raise ConfigError(f"There is no split '{split}'.", did_you_mean(split, SPLIT_OF))
    split = split or split_of(front)
    known = front.columns()
    picker = Picker(front)
    if x is None:
        x = picker.cost()[0] if known else "params"
    if y is None:
        measured = picker.first_measured() if known else next(iter(front.goals), COLUMN)
        y = COLUMN if f"{split}_{COLUMN}" in known else measured
    axes = _axis(front, x, split), _axis(front, y, split)
    worst = front.zero.get(axes[1].column, math.nan)
    if y == COLUMN:
        worst = 0.0
    kept = [p for p in front if _drawn(p, axes, worst)]
    sign = 1.0 if axes[0].goal == "min" else -1.0
    kept.sort(key=lambda point: (sign * float(point.values[axes[0].column]), point.id))
    return View(*axes, split, tuple(kept), len(front) - len(kept))


def _axis(front: "Front", name: str, split: str) -> Axis:
    known = front.columns()
    found = next((c for c in (f"{split}_{name}", name) if c in known), None)
    if found is None and known:
        shown = [c.removeprefix(f"{split}_") for c in known]
        raise ConfigError(f"The front has no values named '{name}'.", did_you_mean(name, shown))
    goal: Goal = "max" if name == COLUMN else "min"
    return Axis(name.replace("_", " "), found or name, front.goals.get(name, goal))


def _drawn(point: "FrontPoint", axes: tuple[Axis, Axis], worst: float) -> bool:
    """Returns whether a point has values to draw, and is better than knowing frequencies only."""
    x, y = (float(point.values.get(axis.column, math.nan)) for axis in axes)
    if not (math.isfinite(x) and math.isfinite(y)):
        return False
    return math.isnan(worst) or (y > worst if axes[1].goal == "max" else y < worst)


def picked(front: "Front", points: Sequence["FrontPoint"]) -> dict[str, str]:
    """Returns id → names of the picks among some points of a front, such as ``safe, balanced``.

    Where it is not known what quality is kept there is a knee only.
    """
    graded = any(name.endswith(COLUMN) for name in front.columns())
    found: dict[str, list[str]] = {}
    ids = {point.id for point in points}
    for name in NAMED[:-1] if graded else NAMED[-1:]:
        try:
            chosen = front.choose(name)
        except ConfigError:  # a front without points, or without values
            continue
        if chosen.point.id in ids:
            doubt = "?" if graded and chosen.warning else ""
            found.setdefault(chosen.point.id, []).append(name + doubt)
    return {key: ", ".join(names) for key, names in found.items()}


@dataclass(frozen=True)
class _Scale:
    """From values to places in the picture."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    @classmethod
    def of(cls, values: Sequence[float], start: float, end: float) -> "_Scale":
        low, high = min(values), max(values)
        log = low > 0 and high / low > LOG_FROM
        room = 0.0 if log else (high - low or abs(high) or 1.0) * 0.06
        return cls(low - room, high + room, start, end, log)

    def __call__(self, value: float) -> float:
        at, low, high = (math.log(v) if self.log else v for v in (value, self.low, self.high))
        return round(self.start + (at - low) / ((high - low) or 1.0) * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        """Returns some round values between the ends; of a logarithmic scale powers of ten."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            every = -(-len(powers) // (TICKS + 1))
            return [10.0**power for power in powers[::every]]
        rough = (self.high - self.low) / TICKS
        unit = 10.0 ** math.floor(math.log10(rough))
        step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= rough)
        first = math.ceil(self.low / step)
        return [round(step * i, 12) for i in range(first, math.floor(self.high / step) + 1)]


def svg(front: "Front") -> str:
    """Returns a front as an SVG picture, whose ink is that of the text around it."""
    seen = view(front)
    dense = tuple(front.dense.get(axis.column, math.nan) for axis in (seen.x, seen.y))
    whole = all(map(math.isfinite, dense))
    if not seen.points:
        return _frame('<text x="50%" y="50%" text-anchor="middle">no points</text>')
    ends = [[v] if whole else [] for v in dense]
    x = _Scale.of([*seen.values(seen.x), *ends[0]], LEFT, WIDTH - RIGHT)
    y = _Scale.of([*seen.values(seen.y), *ends[1]], HEIGHT - BOTTOM, TOP)
    parts = [*_grid(seen, x, y), _line(seen, x, y)]
    if whole:
        at = x(dense[0]), y(dense[1])
        parts.append(f'<path d="M{at[0] - 4},{at[1]}h8m-4,-4v8" stroke="currentColor"/>')
        parts.append(_label(at[0], at[1] - 6, "dense"))
    parts += _dots(seen, picked(front, seen.points), x, y)
    return _frame("".join(parts))


def _frame(inside: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" font-family="system-ui,sans-serif" font-size="11" '
        f'fill="currentColor" stroke="none">{inside}</svg>'
    )


def _grid(seen: View, x: _Scale, y: _Scale) -> list[str]:
    """Returns ticks, their lines and the names of the axes."""
    parts = []
    for value in x.ticks():
        at = x(value)
        parts.append(f'<text x="{at}" y="{HEIGHT - 24}" text-anchor="middle">{short(value)}</text>')
    for value in y.ticks():
        at = y(value)
        parts.append(
            f'<path d="M{LEFT},{at}H{WIDTH - RIGHT}" stroke="currentColor" stroke-opacity=".15"/>'
            f'<text x="{LEFT - 6}" y="{at + 4}" text-anchor="end">{short(value)}</text>'
        )
    words = f"{seen.y.name} on {SPLIT_OF[seen.split]}"
    end = f'x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end"'
    parts.append(f"<text {end}>{escape(seen.x.name)}</text>")
    return [*parts, f'<text x="4" y="11">{escape(words)}</text>']


def _line(seen: View, x: _Scale, y: _Scale) -> str:
    """Returns the step line: what can be had for at most so much."""
    places = zip(seen.values(seen.x), seen.steps(), strict=True)
    first, *rest = [(x(float(a)), y(float(b))) for a, b in places]
    path = f"M{first[0]},{first[1]}" + "".join(f"H{a}V{b}" for a, b in rest)
    return f'<path d="{path}" fill="none" stroke="#1f77b4" stroke-width="1.5"/>'


def _dots(seen: View, names: Mapping[str, str], x: _Scale, y: _Scale) -> list[str]:
    """Returns the points, those that are picks labelled."""
    parts = []
    # Where the line is not: it rises towards what costs more, or falls.
    rises = (seen.y.goal == "max") == (seen.x.goal == "min")
    below = 16 if rises else -8
    for point in seen.points:
        at = x(float(point.values[seen.x.column])), y(float(point.values[seen.y.column]))
        size = 5 if point.id in names else 3
        title = f"<title>{escape(point.id)}</title>"
        parts.append(
            f'<circle cx="{at[0]}" cy="{at[1]}" r="{size}" fill="#1f77b4">{title}</circle>'
        )
        if point.id in names:
            parts.append(_label(at[0] + 7, at[1] + below, names[point.id], "start"))
    return parts


def _label(x: float, y: float, text: str, anchor: str = "middle") -> str:
    anchor = "end" if x > WIDTH - 80 else anchor
    return (
        f'<text x="{x}" y="{max(TOP - 4.0, round(y, 1))}" text-anchor="{anchor}" font-weight="600">'
        f"{escape(text)}</text>"
    )


def short(value: float) -> str:
    """Returns a number in few characters: 1.06 M, 37.3, 0.414."""
    for scale, suffix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e4, " k")):
        if abs(value) >= scale:
            return f"{value / (1e3 if scale == 1e4 else scale):.3g}{suffix}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
