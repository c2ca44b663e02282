"""The data of a run that the page draws from, as strict JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from evoprune.errors import ConfigError
from evoprune.front import Front
from evoprune.report.progress import course
from evoprune.report.reading import PREFIXES, RunData, base_name, finite
from evoprune.report.survival import Genes, compact
from evoprune.report.words import is_number

# More evaluated patterns than these are thinned out evenly; nothing is lost to the eye.
MOST_DOTS = 6000
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


def payload(run: RunData) -> dict[str, Any]:
    """Returns all that the figures and the table of one run need."""
    front = run.front or Front((), run.goals)
    fronts = {"search": front, **run.controls}
    genes = Genes(run.space, _patterns(run, fronts.values()))
    dots = {prefix: _dots(run, split) for split, prefix in PREFIXES.items()}
    columns = [name for f in fronts.values() for name in f.columns()]
    columns += [name for part in dots.values() for name in part["values"]]
    return {
        "name": run.name,
        "goals": run.goals,
        "units": {name: measure.unit for name, measure in run.measures.items()},
        "names": _names(run, columns),
        "dense": front.dense,
        "fronts": [_front(run, name, f, genes) for name, f in fronts.items()],
        "dots": dots,
        "genes": {"names": genes.names, "options": genes.options()},
        "strip": _strip(front, genes),
        "units_kept": genes.units([_choices(p.pattern) for p in front]),
        "progress": vars(course(run)),
    }


def _choices(pattern: Any) -> list[int | str]:
    return list(pattern) if isinstance(pattern, list | tuple) else []


def _patterns(run: RunData, fronts: Iterable[Front]) -> list[list[int | str]]:
    found = [_choices(point.pattern) for front in fronts for point in front]
    return found + [_choices(r["pattern"]) for split in PREFIXES for r in run.evaluations(split)]


def _names(run: RunData, columns: Iterable[str]) -> list[str]:
    """Returns the names of what was measured and counted, the objectives first."""
    bare = [base_name(column) for column in columns]
    return list(dict.fromkeys([*run.goals, *bare]))


def _front(run: RunData, origin: str, front: Front, genes: Genes) -> dict[str, Any]:
    return {
        "origin": origin,
        "ids": [point.id for point in front],
        "values": {n: [p.values.get(n) for p in front] for n in front.columns()},
        "patterns": [genes.words(_choices(point.pattern)) for point in front],
        "tags": [_tags(run, front, point.id) for point in front],
    }


def _tags(run: RunData, front: Front, pattern_id: str) -> list[str]:
    """Returns what a point is known for: the knee, dense, an exported model."""
    tags = ["knee"] if pattern_id == knee_id(front) else []
    for name, model in run.models.items():
        if name == pattern_id or _get(model, "pattern", "id") == pattern_id:
            tags.append(f"exported: {model.get('rung', 'model')}")
    return tags


def knee_id(front: Front | None) -> str | None:
    """Returns the id of the knee; None where there is no finite point."""
    try:
        return front.pick("knee").id if front else None
    except ConfigError:
        return None


def _get(document: Mapping[str, Any], *keys: str) -> Any:
    """Returns what lies under some keys; None where it does not."""
    found: Any = document
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _dots(run: RunData, split: str) -> dict[str, Any]:
    """Returns what was evaluated on a split: ids, values, levels where that is not too much."""
    records = run.evaluations(split)
    total = len(records)
    if total > MOST_DOTS:
        kept = np.linspace(0, total - 1, MOST_DOTS).round().astype(int)
        records = [records[i] for i in kept]
    rows = [finite(run.values(record)) for record in records]
    names = list(dict.fromkeys(name for row in rows for name in row))
    levels = [compact(_choices(record["pattern"])) for record in records]
    known = [text for text in levels if text is not None]
    fits = len(known) == len(levels) and sum(map(len, known)) <= LEVELS_LIMIT
    return {
        "total": total,
        "ids": [str(record["id"]) for record in records],
        "values": {name: [_short(row.get(name)) for row in rows] for name in names},
        "levels": levels if fits else None,
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _strip(front: Front, genes: Genes) -> dict[str, Any]:
    """Returns what each front point keeps of each gene, the densest first."""
    order = sorted(range(len(front)), key=lambda i: (_size(front, i), front[i].id))
    shares = genes.shares([_choices(front[i].pattern) for i in order])
    return {
        "ids": [front[i].id for i in order],
        "sparsity": [front[i].values.get("sparsity") for i in order],
        "shares": shares.round(4),
        "mean": shares.mean(axis=0) if len(order) else [],
        "exact": genes.space is not None,
    }


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
        "names": list(bare),
        "units": {name: measure.unit for name, measure in measures.items()},
        "super": [point.id for point in best],
        "fronts": [
            {
                "origin": name,
                "ids": [point.id for point in front],
                "values": {n: [p.values.get(n) for p in front] for n in front.columns()},
            }
            for name, front in fronts.items()
        ],
    }
