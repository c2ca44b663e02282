"""The data of a run that the page draws from, as strict JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from evoprune.core.errors import ConfigError
from evoprune.core.splits import PREFIX_OF
from evoprune.folder.front import Front, FrontPoint
from evoprune.report.advice import LOADING, advice, command, rung, speed
from evoprune.report.clusters import Losses, losses
from evoprune.report.kept import COSTS, KEPT, Meaning, share
from evoprune.report.progress import course
from evoprune.report.reading import RunData, base_name, finite, inside
from evoprune.report.survival import Genes, compact
from evoprune.report.words import is_number

# The runs of a page share these two, so that several open as quickly as one.
# More evaluated patterns of a split are thinned out evenly; nothing is lost to the eye.
MOST_DOTS = 6000
# Characters of the levels of a split's patterns; where they are more, they are left out.
LEVELS_LIMIT = 600_000


def inline(data: Any) -> str:
    """Returns JSON that can stand inside a script element."""
    text = json.dumps(_plain(data), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(value: Any) -> Any:
    """Returns a value with null for what is not finite, and floats of ten digits."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return float(f"{value:.10g}") if is_number(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def payload(run: RunData, sharing: int = 1) -> dict[str, Any]:
    """Returns all that the figures, the drawer and the table of one run need.

    Args:
        run: what was read of the run.
        sharing: how many runs the page is about.
    """
    front = run.front or Front((), run.goals)
    fronts = {"search": front, **run.controls}
    genes = Genes(run.space, _patterns(run, fronts.values()))
    dots = {prefix: _dots(run, split, sharing) for split, prefix in PREFIX_OF.items()}
    columns = [name for f in fronts.values() for name in f.columns()]
    columns += [name for part in dots.values() for name in part["values"]]
    names = _names(run, columns)
    return {
        "name": run.name,
        "goals": run.goals,
        "senses": {name: measure.goal for name, measure in run.measures.items()},
        "units": {name: measure.unit for name, measure in run.measures.items()},
        "names": names,
        "costs": [name for name in COSTS if name in names],
        "dense": front.dense,
        "zero": front.zero,
        "fronts": [_front(run, name, f, genes) for name, f in fronts.items()],
        "picks": _picks(front, run.kept),
        "stairs": stairs(front),
        "command": command(run),
        "losses": _losses(losses(run)),
        "dots": dots,
        "genes": {"names": genes.names, "options": genes.options()},
        "strip": _strip(front, genes),
        "units_kept": genes.units([_choices(p.pattern) for p in front]),
        "progress": vars(course(run)),
    }


def _picks(front: Front, kept: Meaning) -> list[dict[str, Any]]:
    """Returns the recommendations, by their places on the front."""
    at = {point.id: i for i, point in enumerate(front)}
    chosen = [(one.name, one.point) for one in advice(front, kept)] if len(front) else []
    return [{"name": name, "index": at[point.id]} for name, point in chosen if point]


def stairs(front: Front) -> dict[str, list[tuple[float, int]]]:
    """Returns for each cost the budgets at which a better point fits, and which point that is.

    The front's own rule chooses, so that the page picks what the command line would.
    """
    costs = [c for c in COSTS if c != "sparsity" and is_number(front.dense.get(c))]
    found = {cost: _steps(front, cost) for cost in costs if front.dense[cost]}
    return {cost: steps for cost, steps in found.items() if steps}


def _steps(front: Front, cost: str) -> list[tuple[float, int]]:
    """Returns the steps of one cost, the smallest budget first; none where nothing is chosen."""
    at = {point.id: i for i, point in enumerate(front)}
    budgets = sorted({p.values[cost] for p in front if is_number(p.values.get(cost))})
    steps: list[tuple[float, int]] = []
    while budgets:
        try:
            point = front.pick(f"{cost}<={budgets[-1]!r}")
        except ConfigError:  # no point inside has a finite value to be the best by
            break
        steps.append((point.values[cost], at[point.id]))
        # What is best inside a budget is best inside every smaller one that holds it.
        budgets = [budget for budget in budgets if budget < point.values[cost]]
    return steps[::-1]


def _losses(found: Losses | None) -> dict[str, Any] | None:
    if found is None:
        return None

    def row(values: np.ndarray) -> list[float | int | None]:
        return [_short(float(value)) for value in values]

    return {
        "measure": found.measure,
        "names": found.names,
        "dense": row(found.dense),
        "points": {name: row(values) for name, values in found.points.items()},
        "kept": {name: row(found.kept(name)) for name in found.points},
    }


def _choices(pattern: Any) -> list[int | str]:
    return list(pattern) if isinstance(pattern, list | tuple) else []


def _patterns(run: RunData, fronts: Iterable[Front]) -> list[list[int | str]]:
    found = [_choices(point.pattern) for front in fronts for point in front if point.pattern]
    return found + [_choices(r["pattern"]) for split in PREFIX_OF for r in run.evaluations(split)]


def _names(run: RunData, columns: Iterable[str]) -> list[str]:
    """Returns the names of what was measured and counted, the objectives first."""
    bare = [base_name(column) for column in columns]
    kept = [KEPT] if KEPT in bare else []
    return list(dict.fromkeys([*kept, *run.goals, *bare]))


def _front(run: RunData, origin: str, front: Front, genes: Genes) -> dict[str, Any]:
    return {
        "origin": origin,
        "ids": [point.id for point in front],
        "values": {n: [_short(p.values.get(n)) for p in front] for n in front.columns()},
        "about": [_about(run, front, point) for point in front] if origin == "search" else [],
        "tags": _all_tags(run, front),
        **_removed(front, genes),
    }


def _removed(front: Front, genes: Genes) -> dict[str, list[Any]]:
    """Returns what the points remove: as levels, which are short, else in words."""
    patterns = [_choices(point.pattern) for point in front]
    levels = [compact(pattern) for pattern in patterns]
    if None not in levels:
        # What was trained at its size has no pattern.
        return {"levels": [text or None for text in levels]}
    return {"patterns": [genes.words(pattern) for pattern in patterns]}


def _about(run: RunData, front: Front, point: FrontPoint) -> dict[str, str]:
    """Returns how a point is used, in words."""
    text, measured = speed(run, point, front.dense)
    told = {"loads with": LOADING.get(rung(run, point), ""), "speed" if measured else "work": text}
    return {term: text for term, text in told.items() if text}


def _all_tags(run: RunData, front: Front) -> list[list[str]]:
    """Returns what each point is known for: a recommendation, an exported model."""
    tags: dict[str, list[str]] = {point.id: [] for point in front}
    for one in advice(front, run.kept) if run.front is front and len(front) else ():
        if one.point:
            tags[one.point.id].append(one.name)
    for name, model in run.models.items():
        known = str(inside(model, "pattern").get("id") or name)
        if known in tags:
            tags[known].append(f"exported: {model.get('rung', 'model')}")
    return list(tags.values())


def _dots(run: RunData, split: str, sharing: int) -> dict[str, Any]:
    """Returns what was evaluated on a split: ids, values, levels where that is not too much."""
    records = run.evaluations(split)
    total, most = len(records), MOST_DOTS // sharing
    if total > most:
        some = np.linspace(0, total - 1, most).round().astype(int)
        records = [records[i] for i in some]
    rows = [_valued(run, record) for record in records]
    names = list(dict.fromkeys(name for row in rows for name in row))
    levels = [compact(_choices(record["pattern"])) for record in records]
    known = [text for text in levels if text is not None]
    fits = len(known) == len(levels) and sum(map(len, known)) <= LEVELS_LIMIT // sharing
    return {
        "total": total,
        "ids": [str(record["id"]) for record in records],
        "values": {name: [_short(row.get(name)) for row in rows] for name in names},
        "levels": levels if fits else None,
    }


def _valued(run: RunData, record: Mapping[str, Any]) -> dict[str, float]:
    """Returns what is known of an evaluation, with the quality that it keeps."""
    values, prefix = finite(run.values(record)), PREFIX_OF[str(record["split"])]
    if run.front:
        kept = share(run.front, run.kept, prefix, values.get(run.kept.basis))
        values |= {KEPT: kept} if kept is not None else {}
    return values


def _short(value: float | None) -> float | int | None:
    """Returns a number with as many digits as a picture needs; counts stay whole."""
    if not is_number(value):
        return None
    if isinstance(value, int) or value == int(value):
        return int(value)
    return float(f"{value:.6g}")


def _strip(front: Front, genes: Genes) -> dict[str, Any]:
    """Returns what each front point keeps of each gene, the densest first."""
    order = sorted(range(len(front)), key=lambda i: (_size(front, i), front[i].id))
    shares = genes.shares([_choices(front[i].pattern) for i in order])
    return {
        "ids": [front[i].id for i in order],
        "labels": [_label(front, i) for i in order],
        "shares": shares.round(4),
        "mean": shares.mean(axis=0) if len(order) else [],
        "exact": genes.space is not None,
    }


def _label(front: Front, index: int) -> str:
    """Returns how large a point is, of the dense model."""
    params, whole = front[index].values.get("params"), front.dense.get("params")
    if is_number(params) and is_number(whole) and whole:
        return f"{params / whole:.0%}"
    return front[index].id[:7]


def _size(front: Front, index: int) -> float:
    """Returns what front points are ordered by: sparsity, else fewer parameters last."""
    values: Mapping[str, float] = front[index].values
    return values.get("sparsity", -values.get("params", 0.0))


def merged(runs: Sequence[RunData], best: Front) -> dict[str, Any]:
    """Returns the fronts of several runs and their super-front, for the overlay."""
    fronts = {run.name: run.front for run in runs if run.front is not None}
    columns = [column for front in fronts.values() for column in front.columns()]
    bare = dict.fromkeys([*best.goals, *(base_name(column) for column in columns)])
    measures = {name: m for run in runs for name, m in run.measures.items()}
    return {
        "goals": best.goals,
        "senses": {name: measure.goal for name, measure in measures.items()},
        "names": list(bare),
        "costs": [name for name in COSTS if name in bare],
        "dense": best.dense,
        "zero": best.zero,
        "units": {name: measure.unit for name, measure in measures.items()},
        "super": [point.id for point in best],
        "fronts": [
            {
                "origin": name,
                "ids": [point.id for point in front],
                "values": {n: [_short(p.values.get(n)) for p in front] for n in front.columns()},
            }
            for name, front in fronts.items()
        ],
    }
