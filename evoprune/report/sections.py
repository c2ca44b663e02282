"""The parts of the page about one run that are text and tables."""

from collections.abc import Mapping
from typing import Any

from evoprune.core.pareto import correlations, oriented
from evoprune.core.splits import SPLIT_OF
from evoprune.folder.front import Front
from evoprune.report.advice import ratios
from evoprune.report.reading import RunData, inside
from evoprune.report.words import (
    MISSING,
    Markup,
    card,
    escape,
    interval,
    is_number,
    number,
    pairs,
    table,
)

# Above this rank correlation over a front a second objective is a copy of the first.
COPY = 0.95
MOST_FAILURES = 200
# What an ensemble's file repeats of the run, or of itself.
_UNTOLD = ("version", "name", "origin", "rivals")


def cost_of_search(run: RunData) -> str:
    """Returns what the search took and how much its front dominates, as HTML."""
    volume = _volumes(run).get("search", {}).get("report")
    seconds = sum(float(r.get("seconds", 0)) for r in run.records if r.get("type") == "evaluation")
    tiles = [
        (number(len(run.front)) if run.front is not None else MISSING, "patterns on the front"),
        (number(volume), "hypervolume of the front, report split, share of the fixed box"),
        (number(run.summary.get("n_eval")), "evaluations of the search"),
        (number(run.summary.get("tokens")), "dense-equivalent tokens (or images) of the search"),
        (f"{number(seconds)} s", "worker seconds, scoring and controls included"),
    ]
    cells = "".join(f"<div><b>{escape(v)}</b><span>{escape(w)}</span></div>" for v, w in tiles)
    return f"<div class=tiles>{cells}</div>"


def objectives(run: RunData) -> str:
    """Returns what was sought, in words."""
    rows = []
    for name, goal in run.goals.items():
        measure = run.measures[name]
        aim = "more is better" if goal == "max" else "less is better"
        rows.append((Markup(f"<b>{escape(name)}</b>"), aim, measure.unit, measure.words))
    listed = table(("objective", "goal", "unit", "what it says"), rows)
    return card("What was sought", f"<div class=objectives>{listed}</div>", kind="wide")


def _volumes(run: RunData) -> Mapping[str, Mapping[str, Any]]:
    found = run.summary.get("hypervolumes")
    return found if isinstance(found, Mapping) else {}


def volumes(run: RunData) -> str:
    """Returns the hypervolumes of the search and its controls, as HTML."""
    if not _volumes(run):
        return ""
    sizes = {"search": run.front, **run.controls}
    rows = [
        (
            name,
            len(sizes[name] or ()) if name in sizes else MISSING,
            *(number(volume.get(prefix)) for prefix in SPLIT_OF),
        )
        for name, volume in _volumes(run).items()
    ]
    head = ("found by", "points", *SPLIT_OF.values())
    return (
        "<h3>Beside the controls</h3><p class=caption>Hypervolume of each front, share of the "
        "fixed box of the split. random and greedy had the search's warm starts and its budget of "
        "tokens; uniform and last_k are rules that look at no data.</p>"
        f"{table(head, rows, numeric=1)}"
    )


def rungs(run: RunData) -> str:
    """Returns how far the cheap rungs of the search ranked as the top rung did, as HTML."""
    told = run.summary.get("rungs")
    told = [one for one in told if isinstance(one, Mapping)] if isinstance(told, list) else []
    if not told:
        return ""
    rows = [
        (
            one.get("rung", ""),
            one.get("objective", ""),
            number(one.get("n")),
            number(one.get("correlation")),
            number(one.get("given_size")),
            "misleads" if one.get("misleads") else "",
        )
        for one in told
    ]
    head = ("rung", "objective", "patterns", "rank correlation", "given the size", "")
    return (
        "<h3>Rungs</h3><p class=caption>Spearman's rank correlation of a rung's values with those "
        "of the top rung, over the patterns that were promoted all the way. They are the ones "
        "that the rung liked, so it is lower than over all candidates; given the size, it says how "
        "well patterns of like FLOPs are told apart. A rung that misleads (below 0.5) needs more "
        "samples or positions, a larger keep, or leaving out.</p>"
        f"{table(head, rows, numeric=2)}"
    )


def clusters(run: RunData) -> str:
    """Returns the calibration's clusters, with bars of their sizes."""
    if not run.clusters:
        return card("Calibration", "<p>The run folder describes no clusters.</p>")
    sizes = [_count(row.get("size")) for row in run.clusters]
    most = max([1, *sizes])
    rows = [_cluster(row, size, most) for row, size in zip(run.clusters, sizes, strict=True)]
    head = ("cluster", "size", "picked", "", "kind", "purity")
    note = (
        "Clusters of the pool and how many examples of each the sampler picked for the search "
        "split. Purity is the share of a cluster's most common kind of document."
    )
    return card("Calibration", table(head, rows), note)


def _cluster(row: Mapping[str, str], size: int, most: int) -> tuple[object, ...]:
    """Returns the cells of a cluster, drawn to the scale of the largest."""
    picked, purity = _count(row.get("selected")), _float(row.get("purity"))
    told = MISSING if purity is None else f"{purity:.0%}"
    kind = row.get("kind") or MISSING
    return (row.get("cluster", ""), size, picked, _bar(size, picked, most), kind, told)


def _bar(size: int, picked: int, most: int) -> Markup:
    return Markup(
        f'<span class=bar style="--size:{100 * size / most:.1f}%">'
        f'<i style="--part:{100 * min(picked, size) / max(size, 1):.1f}%"></i></span>'
    )


def _float(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _count(text: str | None) -> int:
    value = _float(text)
    return int(value) if is_number(value) else 0


def related(run: RunData) -> str:
    """Returns the rank correlations of the objectives over the front, with a warning."""
    title, front = "Do the objectives say different things?", run.front
    if front is None or len(front) < 3:
        return card(title, "<p>It takes a front of three points to tell.</p>")
    split = _split(front)
    names = list(front.goals)
    found = correlations(oriented(front.array(split), list(front.goals.values())), names)
    values = {**found, **{(b, a): value for (a, b), value in found.items()}}
    rows = [
        (name, *(_shade(1.0 if name == other else values[name, other]) for other in names))
        for name in names
    ]
    copies = [f"{a} and {b}" for (a, b), value in found.items() if value > COPY]
    warning = "".join(
        f"<p class=warning>Over this front {escape(pair)} correlate above {COPY} in rank: one of "
        "them is a copy of the other.</p>"
        for pair in copies
    )
    note = (
        f"Spearman's rank correlation over the {len(front)} points of the front, "
        f"{SPLIT_OF[split]} split: +1 where two become better together, −1 where one is bought "
        "with the other."
    )
    return card(title, table(("", *names), rows, numeric=1) + warning, note)


def _split(front: Front) -> str:
    known = set(front.columns())
    held = [p for p in ("val", "search") if any(f"{p}_{name}" in known for name in front.goals)]
    return held[0] if held else "val"


def _shade(value: float) -> Markup:
    """Returns a correlation in a cell whose strength of colour is its size."""
    if not is_number(value):
        return Markup(MISSING)
    tone = "plus" if value >= 0 else "minus"
    return Markup(f'<span class="shade {tone}" style="--v:{abs(value):.2f}">{value:+.2f}</span>')


def exports(run: RunData) -> str:
    """Returns the models that were exported."""
    if not run.models:
        return ""
    rows = []
    for name, model in run.models.items():
        error = _under(model, "max_error")
        rows.append(
            (
                Markup(f"<code>models/{escape(name)}</code>"),
                _under(inside(model, "provenance"), "pick", MISSING),
                model.get("rung", MISSING),
                number(_under(inside(model, "params"), "export")),
                number(_under(inside(model, "params"), "base")),
                number(_under(inside(model, "bytes"), "export")),
                f"{error:.1e}" if is_number(error) else "not recorded",
                ratios(inside(model, "speed")) or "not timed",
            )
        )
    head = ("path", "pick", "rung", "parameters", "of", "bytes", "largest error", "times as fast")
    note = (
        "The rung says how a pattern was written: homogeneous loads with stock classes, "
        "dense-masked saves nothing; standalone holds a head's backbone, head-only does not. "
        "The largest error is that of verification in a fresh process, relative to the largest "
        "logit."
    )
    return card("Exported models", table(head, rows, numeric=3), note, "wide")


def _under(document: Mapping[str, Any], key: str, default: Any = None) -> Any:
    return document.get(key, default)


def ensembles(run: RunData) -> str:
    """Returns what is said of each ensemble: how it was made, and its comparisons."""
    parts = []
    for name, document in run.ensembles.items():
        told = {k: _plain(v) for k, v in document.items() if k not in _UNTOLD}
        parts.append(f"<h3>{escape(name)}</h3>{pairs((k, v) for k, v in told.items() if v)}")
        for key, value in document.items():
            parts += [_compared(escape(key), rows) for rows in _comparisons(value)]
    note = "Comparisons as the file of each ensemble states them; intervals stand beneath."
    return card("Ensembles", "".join(parts), note, "wide") if parts else ""


def _plain(value: Any) -> str:
    """Returns settings, costs or members as a line; empty for what is no such thing."""
    if isinstance(value, str | int | float):
        return number(value) if is_number(value) else str(value)
    if isinstance(value, Mapping):
        held = {k: _plain(v) for k, v in value.items() if not _comparisons(v)}
        lines = [
            f"{k} ({v})" if isinstance(value[k], Mapping) else f"{k} {v}"
            for k, v in held.items()
            if v
        ]
        return ", ".join(lines)
    if isinstance(value, list) and not _comparisons(value):
        return ", ".join(str(v.get("id", "")) if isinstance(v, Mapping) else str(v) for v in value)
    return ""


def _comparisons(value: Any) -> list[list[Mapping[str, Any]]]:
    """Returns the lists of rows with a metric or a value, as far down as one level."""
    inner = list(value.values()) if isinstance(value, Mapping) else []
    return [
        item
        for item in [value, *inner]
        if isinstance(item, list)
        and item
        and all(isinstance(row, Mapping) and {"metric", "value"} & row.keys() for row in item)
    ]


def _compared(title: str, rows: list[Mapping[str, Any]]) -> str:
    """Returns a comparison: a line for each name, a column for each metric and its split."""

    def column(row: Mapping[str, Any]) -> str:
        said = (row.get("metric", "value"), {"min": "↓", "max": "↑"}.get(row.get("goal", ""), ""))
        split = f" · {row['split']}" if "split" in row else ""
        return " ".join(str(part) for part in said if part) + split

    names = dict.fromkeys(str(row.get("name", "")) for row in rows)
    columns = dict.fromkeys(column(row) for row in rows)
    cells = {(str(row.get("name", "")), column(row)): _measured(row) for row in rows}
    lines = [(name, *(cells.get((name, c), "") for c in columns)) for name in names]
    return f"<h4>{title}</h4>{table(('', *columns), lines, numeric=1)}"


def _measured(row: Mapping[str, Any]) -> Markup:
    """Returns a value with its interval beneath."""
    value = row.get("value")
    text = number(value) if is_number(value) else str(value)
    ends = interval(row.get("low"), row.get("high"))
    return Markup(escape(text) + (f"<small>{escape(ends)}</small>" if ends else ""))


def provenance(run: RunData) -> str:
    """Returns where the run's figures come from, and what failed."""
    manifest = run.manifest
    digests = {"identity": manifest.get("identity"), "base": manifest.get("base_sha256")}
    digests |= {f"pool, {name}": value for name, value in inside(manifest, "pools").items()}
    facts = [("folder", run.name), ("family", manifest.get("family", MISSING))]
    facts += [("seed", manifest.get("seed", MISSING)), ("python", manifest.get("python", MISSING))]
    facts += list(inside(manifest, "versions").items())
    codes = [
        (name, Markup(f"<code>{escape(value)}</code>")) for name, value in digests.items() if value
    ]
    body = (
        f"<div class=columns><div><h3>Versions</h3>{pairs(facts)}</div>"
        f"<div><h3>Digests (sha-256)</h3>{pairs(codes)}</div></div>"
        f"<details><summary>Configuration</summary><pre>{escape(run.config)}</pre></details>"
    )
    return card("Provenance", body + _failures(run), kind="wide")


def _failures(run: RunData) -> str:
    failed = [r for r in run.records if r.get("type") == "evaluation" and r.get("error")]
    if not failed:
        return "<p class=caption>No evaluation failed.</p>"
    rows = [
        (r.get("id", ""), r.get("split", ""), r.get("failure") or "", str(r["error"])[:2000])
        for r in failed[:MOST_FAILURES]
    ]
    more = f", the first {MOST_FAILURES} of them" if len(failed) > MOST_FAILURES else ""
    return (
        f"<details><summary>{len(failed)} failed evaluations{more}</summary>"
        f"{table(('pattern', 'split', 'kind', 'error'), rows)}</details>"
    )
