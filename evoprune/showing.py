"""What a person sees who writes the name of a run, a front or an export at a prompt."""

import math
from html import escape
from typing import TYPE_CHECKING, Any

from evoprune.picture import picked, short, split_of, svg
from evoprune.quality import COLUMN

if TYPE_CHECKING:
    from evoprune.front import Front, FrontPoint

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


def run_text(run: Any) -> str:
    """Returns a run in a few lines: where it lies, what was searched, its front."""
    config = run.config
    head = f"Run '{run.folder.path}': {config.model.label}, {search_text(config)}"
    failed = "".join(f"\n  not exported: {pick}: {error}" for pick, error in run.failed.items())
    return f"{head}\n{run.front!r}{failed}"


def search_text(config: Any) -> str:
    """Returns the space, the algorithm and the budget of an experiment."""
    search = config.search
    sizes = ("n_eval", "n_gen", "tokens", "seconds", "patience")
    ends = [f"{s}={getattr(search, s):g}" for s in sizes if getattr(search, s) is not None]
    parts = [f"space {config.space.name}", search.algorithm.type, *ends, f"seed {search.seed}"]
    return ", ".join(parts)


def config_text(config: Any) -> str:
    """Returns an experiment in one line."""
    objectives = ", ".join(part.type for part in config.objectives)
    bounds = "".join(f", {name} {bound}" for name, bound in config.constraints.items())
    return (
        f"Config: {config.model.label}, data {config.data.source.type}, objectives {objectives}"
        f"{bounds}, {search_text(config)}, output '{config.output}'"
    )


def exported_text(made: Any) -> str:
    """Returns what became of an export in one line."""
    error = made.max_error
    checked = "not verified" if error is None else f"verified (error {error:.1e})"
    return (
        f"Exported '{made.path}': {made.rung}, {made.params:,} parameters, "
        f"{made.bytes / 1e6:.1f} MB, {checked}" + (f"\n  {made.warning}" if made.warning else "")
    )


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


def run_html(run: Any) -> str:
    """Returns a run as HTML: what was searched, then its front."""
    head = escape(run_text(run).splitlines()[0])
    return f"<div><p><b>{head}</b></p>{front_html(run.front)}</div>"
