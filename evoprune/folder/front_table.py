"""A front as a table for people: what is kept, what it costs, how it loads, which to take."""

import math
from collections.abc import Mapping
from contextlib import suppress

from evoprune.core.errors import ConfigError
from evoprune.core.quality import COLUMN
from evoprune.folder.front import Front
from evoprune.folder.picks import MEASURED, Choice, Picker, removes_nothing

SHOWN_PICKS = ("safe", "balanced", "small")
Values = Mapping[str, float]


def front_table(
    front: Front, split: str = "report", runs: Mapping[str, str] | None = None
) -> tuple[list[str], list[list[str]]]:
    """Returns a header and rows: the dense model, then the points, the largest first.

    Args:
        front: of one run, or merged of several.
        split: ``search``, ``val`` or ``report``.
        runs: of a merged front which run each point is of, by its id.
    """
    known = front.columns()
    measured = [f"{split}_{name}" for name in (COLUMN, "perplexity", "kl")]
    measured += [f"{split}_{goal}" for goal in front.goals]
    measured = [name for name in dict.fromkeys(measured) if name in known]
    counted = [name for name in front.goals if name in known and not name.startswith(MEASURED)]
    if "params" in known and "params" not in counted:
        counted.append("params")
    marks = _marks(front)
    header = ["id", *(_word(name, split) for name in measured), *counted, "rung", "pick"]
    rows = [["dense", *_cells(front.dense, measured, counted, front.dense), "", ""]]
    for at in _largest_first(front, counted):
        point = front[at]
        if removes_nothing(front, point) and point.id not in marks:
            continue  # the first row says it all
        cells = _cells(point.values, measured, counted, front.dense)
        rows.append([point.id, *cells, point.rung or "", ", ".join(marks.get(point.id, []))])
    if runs is not None:
        header.append("run")
        rows = [[*row, runs.get(row[0], "")] for row in rows]
    used = [i for i in range(len(header)) if any(row[i] for row in rows)]
    return [header[i] for i in used], [[row[i] for i in used] for row in rows]


def has_intervals(front: Front, split: str) -> bool:
    """Returns whether values on a split have intervals."""
    return any(n.startswith(f"{split}_") and n.endswith("_low") for n in front.columns())


def pick_notes(front: Front) -> list[str]:
    """Returns what to know of the picks that the table marks with a question mark, each once."""
    told: dict[str, list[str]] = {}
    for name, chosen in _picks(front):
        if chosen.warning:
            told.setdefault(chosen.warning, []).append(f"{name}?")
    return [f"{', '.join(names)} {warning}" for warning, names in told.items()]


def _picks(front: Front) -> list[tuple[str, Choice]]:
    """Returns the named picks; none where nothing may be picked."""
    found = []
    for name in SHOWN_PICKS:
        with suppress(ConfigError):
            found.append((name, front.choose(name)))
    return found


def _marks(front: Front) -> dict[str, list[str]]:
    """Returns the picks that each point is, by id."""
    found: dict[str, list[str]] = {}
    for name, chosen in _picks(front):
        found.setdefault(chosen.point.id, []).append(name + ("?" if chosen.warning else ""))
    return found


def _largest_first(front: Front, counted: list[str]) -> list[int]:
    """Returns the positions of the points, those nearest the dense model's cost first."""
    if not counted:
        return list(range(len(front)))
    values = Picker(front).values("params" if "params" in counted else counted[0])
    sign = 1.0 if front.goals.get(counted[0]) == "max" and "params" not in counted else -1.0
    return sorted(range(len(front)), key=lambda i: (sign * values[i], i))


def _word(column: str, split: str) -> str:
    return column.removeprefix(f"{split}_").replace(COLUMN, "quality kept")


def _cells(values: Values, measured: list[str], counted: list[str], dense: Values) -> list[str]:
    found = [_measure(values, name) for name in measured]
    for name in counted:
        value, whole = values.get(name, math.nan), dense.get(name, 0.0)
        text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
        found.append(f"{text} ({value / whole:.0%})" if abs(whole) >= 1000 else text)
    return found


def _measure(values: Values, name: str) -> str:
    """Returns a value with its interval, quality as percentages."""
    value = values.get(name, math.nan)
    low, high = values.get(f"{name}_low"), values.get(f"{name}_high")
    share = name.endswith(COLUMN)
    text = f"{value:.1%}" if share else f"{value:.4g}"
    if low is None or high is None or low == high:
        return text
    return (
        f"{text} [{100 * low:.1f}, {100 * high:.1f}]"
        if share
        else f"{text} [{low:.4g}, {high:.4g}]"
    )
