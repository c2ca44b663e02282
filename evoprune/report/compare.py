"""The part of the page that sets several runs side by side."""

from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

from evoprune.core.errors import ConfigError
from evoprune.core.pareto import hypervolume, oriented
from evoprune.core.splits import SPLIT_OF
from evoprune.folder.front import Front, super_front, told_apart
from evoprune.report.reading import RunData
from evoprune.report.words import MISSING, card, escape, number, table


def merge(runs: Sequence[RunData]) -> tuple[Front | None, str]:
    """Returns the super-front of the runs on validation, or why there is none."""
    fronts = [run.front for run in runs if run.front]
    if len(fronts) < 2:
        return None, "Fewer than two of the runs have a front to merge."
    try:
        if told_apart(fronts, [run.name for run in runs if run.front]) != fronts:
            return None, (
                "The runs search different spaces, in which one id means two models: "
                "`evoprune front` merges them under their runs' names."
            )
        return super_front(fronts, "val"), ""
    except ConfigError as error:
        return None, str(error)


def comparison(runs: Sequence[RunData], best: Front | None, why: str, figure: str) -> str:
    """Returns the card that compares runs.

    Args:
        runs: two or more.
        best: their super-front; None if there is none.
        why: there is none.
        figure: the place of the overlay, as HTML.
    """
    body = _volumes(runs)
    if best is None:
        body += f"<p class=warning>{escape(why)}</p>"
    else:
        body = figure + body + _super(runs, best)
    return card(f"{len(runs)} runs side by side", body, kind="wide")


def _boxes(runs: Sequence[RunData], prefix: str) -> list[Any]:
    """Returns the different boxes of a split that the runs were measured in."""
    found: list[Any] = []
    for run in runs:
        box = run.box(prefix)
        if box and box not in found:
            found.append(box)
    return found


def _volumes(runs: Sequence[RunData]) -> str:
    """Returns hypervolumes by origin and split: mean ± standard deviation, then each run."""
    told = [(run, run.summary["hypervolumes"]) for run in runs if "hypervolumes" in run.summary]
    origins = dict.fromkeys(origin for _, volumes in told for origin in volumes)
    apart = [split for prefix, split in SPLIT_OF.items() if len(_boxes(runs, prefix)) > 1]
    rows = []
    for origin in origins:
        for prefix, split in SPLIT_OF.items():
            values = [volumes.get(origin, {}).get(prefix) for _, volumes in told]
            spread = MISSING if split in apart else _spread(values)
            rows.append((origin, split, spread, *(number(value) for value in values)))
    if not rows:
        return ""
    head = ("found by", "split", "mean ± std", *(run.name for run, _ in told))
    warning = (
        f"<p class=warning>The runs were measured in different boxes on {', '.join(apart)}: "
        "their hypervolumes there do not compare.</p>"
        if apart
        else ""
    )
    return (
        "<h3>Hypervolume</h3><p class=caption>Share of the fixed box of each split; the standard "
        f"deviation is over runs (n − 1).</p>{warning}{table(head, rows, numeric=2)}"
    )


def _spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return MISSING
    return f"{mean(known):.4f} ± {stdev(known):.4f}" if len(known) > 1 else f"{mean(known):.4f}"


def _super(runs: Sequence[RunData], best: Front) -> str:
    """Returns where the points of the super-front come from, and its hypervolume."""
    rows = [
        (
            run.name,
            len(run.front or ()),
            sum(point.id in {p.id for p in run.front or ()} for point in best),
        )
        for run in runs
    ]
    told = []
    for prefix, split in SPLIT_OF.items():
        boxes = _boxes(runs, prefix)
        if len(boxes) == 1:
            F = oriented(best.array(prefix), list(best.goals.values()))
            told.append(f"{number(hypervolume(F, boxes[0][1], boxes[0][0]))} on {split}")
    volume = f" Its hypervolume is {', '.join(told)}." if told else ""
    return (
        f"<h3>Super-front: {len(best)} points</h3><p class=caption>The non-dominated points of "
        f"all runs together, on validation.{escape(volume)}</p>"
        f"{table(('run', 'points', 'on the super-front'), rows, numeric=1)}"
    )
