"""What a person sees who writes the name of a front, or of a point of it, at a prompt."""

import math
from html import escape
from typing import TYPE_CHECKING

from evoprune.core.quality import COLUMN
from evoprune.folder.picture import picked, short, split_of, svg

if TYPE_CHECKING:
    from evoprune.folder.front import Front, FrontPoint

ARROWS = {"min": "↓", "max": "↑"}
_SHARES = ("sparsity", "units", COLUMN)


def goals_text(front: "Front") -> str:
    """Returns the objectives with the way that is better: ``kl ↓ × params ↓``."""
    return " × ".join(f"{name} {ARROWS[goal]}" for name, goal in front.goals.items())


def front_text(front: "Front") -> str:
    """Returns a front in a few lines: its objectives, then its picks with what they score."""
    count = f"{len(front)} point{'s' if len(front) != 1 else ''}"
    split = split_of(front)
    lines = [f"Front of {count}, {goals_text(front)} ({split} split)"]
    names = picked(front, front.points)
    width = max((len(name) for name in names.values()), default=0)
    for key, name in names.items():
        lines.append(f"  {name:<{width}}  {key}  {', '.join(figures(front, front[key], split))}")
    return "\n".join(lines)


def figures(front: "Front", point: "FrontPoint", split: str) -> list[str]:
    """Returns what a point keeps, scores and costs, each in words; costs beside the dense."""
    kept = point.values.get(f"{split}_{COLUMN}", math.nan)
    found = [f"keeps {kept:.1%}"] if math.isfinite(kept) else []
    for name in dict.fromkeys([*front.goals, "params"]):
        column = f"{split}_{name}" if f"{split}_{name}" in point.values else name
        if column in point.values:
            found.append(f"{name} {_amount(name, point.values[column])}{_of(front, column, point)}")
    return found


def _amount(name: str, value: float) -> str:
    if name in _SHARES:
        return f"{value:.1%}"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) >= 1000 else short(value)


def _of(front: "Front", column: str, point: "FrontPoint") -> str:
    """Returns a count as a share of the dense model's; nothing for other values."""
    dense = front.dense.get(column, math.nan)
    value = float(point.values[column])
    counted = column in ("params", "flops", "bytes", "kv_bytes")
    return f" ({value / dense:.0%})" if counted and dense else ""


def point_text(point: "FrontPoint") -> str:
    """Returns a point of a front in one line."""
    split = next((s for s in ("report", "val", "search") if _has(point, s)), "search")
    kept = point.values.get(f"{split}_{COLUMN}", math.nan)
    parts = [f"keeps {kept:.1%}"] if math.isfinite(kept) else []
    for column, value in point.values.items():
        own = column.startswith(f"{split}_") or not column.startswith(("report", "val_", "search"))
        if own and not column.endswith(("_low", "_high", COLUMN)):
            name = column.removeprefix(f"{split}_")
            parts.append(f"{name} {_amount(name, value)}")
    more = f", and {len(parts) - 5} more" if len(parts) > 5 else ""
    where = ", ".join(filter(None, (point.origin, point.rung)))
    return f"FrontPoint {point.id} ({where}): {', '.join(parts[:5])}{more}"


def _has(point: "FrontPoint", split: str) -> bool:
    return any(name.startswith(f"{split}_") for name in point.values)


def front_html(front: "Front") -> str:
    """Returns a front as HTML: its picture, and a small table of its picks."""
    split = split_of(front)
    rows = [
        f"<tr><th>{escape(name)}</th><td><code>{escape(key)}</code></td>"
        + "".join(f"<td>{escape(cell)}</td>" for cell in figures(front, front[key], split))
        + "</tr>"
        for key, name in picked(front, front.points).items()
    ]
    head = escape(front_text(front).splitlines()[0])
    return f"<div><p>{head}</p>{svg(front)}<table>{''.join(rows)}</table></div>"
