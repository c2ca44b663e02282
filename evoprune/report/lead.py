"""The first screen: what the model is now, and which three points one should look at."""

from collections.abc import Mapping

from evoprune.folder.front import Front, FrontPoint
from evoprune.report.advice import (
    LOADING,
    Advice,
    advice,
    beside,
    command,
    rung,
    speed,
)
from evoprune.report.clusters import Losses
from evoprune.report.kept import COSTS, KEPT, Meaning
from evoprune.report.reading import RunData, inside
from evoprune.report.words import Markup, card, escape, is_number, number

# Shown beside quality kept, the first that was measured: what people know of such a model.
_KNOWN = ("perplexity", "accuracy", "token_accuracy", "nll")


def lead(run: RunData, losses: Losses | None) -> str:
    """Returns the header of a run with its recommendations, as HTML."""
    body = _subtitle(run)
    if run.front is None:
        text = (
            "This run has not come to its end: it has no front yet, so nothing can be recommended. "
            "What it evaluated is below. Give the search's command again and it goes on; the best "
            f"so far: {command(run, 'front')}"
        )
        return card(run.name, f"{body}<p class=warning>{escape(text)}</p>", kind="wide lead")
    if not len(run.front):
        return card(run.name, f"{body}<p class=warning>The front is empty.</p>", kind="wide lead")
    told = advice(run.front, run.kept)
    cards = "".join(_recommended(run, run.front, one, losses) for one in told)
    body += _now(run.front) + f"<div class=picks>{cards}</div>" + _meaning(run.kept)
    return card(run.name, body, kind="wide lead")


def _subtitle(run: RunData) -> str:
    """Returns the model, the space and the algorithm in a line."""
    model, search = inside(run.identity, "model"), inside(run.identity, "search")
    told = [
        str(model.get("name_or_path") or model.get("factory") or "").rstrip("/").split("/")[-1],
        f"space {inside(run.identity, 'space').get('name') or 'of its own'}",
        str(inside(search, "algorithm").get("type", "")),
        f"{run.summary['n_eval']} evaluations" if "n_eval" in run.summary else "",
        f"seed {search['seed']}" if "seed" in search else "",
    ]
    return f"<p class=subtitle>{escape(' · '.join(part for part in told if part))}</p>"


def _now(front: Front) -> str:
    """Returns what the dense model is: the point that all shares refer to."""
    dense = front.dense
    tiles = [(number(dense.get("params")), "parameters"), (_bytes(dense.get("bytes")), "weights")]
    tiles += [(number(value), f"{name}, report split") for name, value in _known(dense)]
    shown = [(value, words) for value, words in tiles if value != "–"]
    cells = "".join(f"<div><b>{escape(v)}</b> <span>{escape(w)}</span></div>" for v, w in shown)
    return f"<div class=now><h3>The model now</h3>{cells}</div>" if shown else ""


def _known(values: Mapping[str, float]) -> list[tuple[str, float]]:
    """Returns the measure that people know such a model by, with its value."""
    found = [(n, values[f"report_{n}"]) for n in _KNOWN if is_number(values.get(f"report_{n}"))]
    return found[:1]


def _bytes(value: object) -> str:
    return f"{number(value)}B" if is_number(value) else "–"


def _recommended(run: RunData, front: Front, one: Advice, losses: Losses | None) -> str:
    """Returns one of the recommendations."""
    head = f"<h3>{escape(one.name)}</h3><p class=aim>{escape(one.aim)}</p>"
    if one.point is None:
        return (
            f"<article class='pick none'>{head}<p class=warning>{escape(one.warning)}</p></article>"
        )
    rows = _rows(run, front, one.point, losses)
    items = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in rows)
    said = f"<p class=warning>{escape(one.warning)}</p>" if one.warning else ""
    if one.same:
        head += f"<p class=same>the same point as {escape(one.same)}</p>"
    return (
        f"<article class=pick>{head}{_size(front, one.point)}<dl>{items}</dl>{said}"
        f"{copyable(command(run, pick=one.pick))}"
        f"<button type=button class=link data-point='{escape(one.point.id)}'>"
        f"All about {escape(one.point.id)}</button></article>"
    )


def copyable(text: str) -> str:
    """Returns a command with the button that copies it, as HTML."""
    shown, (start, pick) = escape(text), map(escape, text.rsplit(" -p ", 1))
    return (
        f"<div class=command><code>{start} <span>-p {pick}</span></code>"
        f"<button type=button data-copy='{shown}' aria-label='Copy the command'>Copy</button></div>"
    )


def _size(front: Front, point: FrontPoint) -> str:
    """Returns how large a point is, of the dense model."""
    ours, whole = point.values.get("params"), front.dense.get("params")
    if not is_number(ours) or not is_number(whole) or not whole:
        return ""
    size = f"{number(ours)} parameters"
    held, dense = point.values.get("bytes"), front.dense.get("bytes")
    size += f" · {_bytes(held)}" if is_number(held) and is_number(dense) else ""
    return f"<p class=size><b>{ours / whole:.0%}</b> of the size<small>{escape(size)}</small></p>"


def _rows(
    run: RunData, front: Front, point: FrontPoint, losses: Losses | None
) -> list[tuple[str, str]]:
    """Returns what is to be known of a point, line by line."""
    rows: list[tuple[str, str]] = []
    kept = share(point)
    if kept:
        rows.append(("keeps", Markup(_gauge(point) + kept)))
    for (name, after), (_, before) in zip(_known(point.values), _known(front.dense), strict=False):
        rows.append((name, f"{number(before)} → {number(after)}"))
    removes = _removes(front, point)
    told, measured = speed(run, point, front.dense)
    if told and removes:
        rows.append(("speed" if measured else "work", told))
    loads = LOADING.get(rung(run, point), "")
    if loads:
        rows.append(("loads with", loads))
    if not removes:
        return rows
    lost = losses.text(point.id) if losses else ""
    if lost:
        rows.append(("loses most", lost))
    rows += [(name, _rival(rival, front)) for name, rival in beside(run, point).items()]
    return rows


def _removes(front: Front, point: FrontPoint) -> bool:
    """Returns whether a point is smaller than the dense model in anything that is counted."""
    return any(
        is_number(front.dense.get(cost)) and point.values.get(cost) != front.dense[cost]
        for cost in COSTS
    )


def share(point: FrontPoint) -> str:
    """Returns the quality that a point keeps with its interval, as HTML; empty if unknown."""
    value, low, high = (point.values.get(f"report_{KEPT}{end}") for end in ("", "_low", "_high"))
    if not is_number(value):
        return ""
    ends = f" <small>[{low:.1%}, {high:.1%}]</small>" if is_number(low) and is_number(high) else ""
    return f"<b>{value:.1%}</b> of the quality{ends}"


def _gauge(point: FrontPoint) -> str:
    """Returns a bar of the quality kept, with its interval."""
    value, low, high = (
        min(max(100 * (v if is_number(v) else 0.0), 0.0), 100.0)
        for v in (point.values.get(f"report_{KEPT}{end}") for end in ("", "_low", "_high"))
    )
    return (
        f'<span class=gauge style="--kept:{value:.2f}%;--low:{low:.2f}%;--high:{high:.2f}%" '
        'aria-hidden="true"><i></i></span>'
    )


def _rival(point: FrontPoint | None, front: Front) -> str:
    """Returns what a control makes of the same size."""
    if point is None:
        return "has no point as small"
    size = ""
    if is_number(front.dense.get("params")) and front.dense["params"]:
        size = f" at {point.values['params'] / front.dense['params']:.0%} of the size"
    return Markup((share(point) or "not measured") + size)


def _meaning(kept: Meaning) -> str:
    text = (
        f"Quality kept is the {kept.words}, on the report split; brackets hold 95% bootstrap "
        "intervals. Points are chosen on validation."
        if kept.words
        else "This run measured nothing that could be set against the dense model as a share."
    )
    return f"<p class=caption>{escape(text)}</p>"
