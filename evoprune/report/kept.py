"""What quality kept means on a page: the run's own measure, or what stands in for it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from evoprune.core.quality import COLUMN as KEPT
from evoprune.core.quality import kept
from evoprune.core.splits import SPLIT_OF
from evoprune.folder.front import Front
from evoprune.report.words import is_number

# What only counts, on no split.
COSTS = ("params", "bytes", "flops", "kv_bytes", "units", "sparsity")


@dataclass(frozen=True)
class Meaning:
    """What the page means by quality kept.

    Attributes:
        words: what it is a share of; empty where the run has no such measure.
        own: whether the run itself measured it, with its own zero.
        basis: the column that it is computed from; empty where that is not known.
    """

    words: str
    own: bool = False
    basis: str = ""


def judged(front: Front) -> tuple[Front, Meaning]:
    """Returns a front whose points say what share of the dense model's quality they keep.

    Runs of today say it themselves. Of older ones the share of the first measured objective is
    taken where more of it is better, else what is left of the probability of a token; a front that
    measured neither is returned as it is, with a meaning without words.
    """
    known = front.columns()
    if f"val_{KEPT}" in known:
        words = "share of the dense model's gain over a model that knows only frequencies"
        return front, Meaning(words, True, _basis(front))
    for name, goal in front.goals.items():
        if goal == "max" and f"val_{name}" in known and _end(front.dense, name, "val"):
            return _with_shares(front, name), Meaning(
                f"share of the dense model's {name}", basis=name
            )
    if "val_nll" in known and _end(front.dense, "nll", "val"):
        words = "perplexity of the dense model, divided by that of the point"
        return _with_shares(front, "nll"), Meaning(words, basis="nll")
    return front, Meaning("")


def share(front: Front, meaning: Meaning, split: str, value: float | None) -> float | None:
    """Returns the quality that a value of the basis keeps; None where it cannot be told."""
    dense = _end(front.dense, meaning.basis, split)
    if not meaning.basis or not is_number(value) or not dense:
        return None
    if not meaning.own:
        return math.exp(min(dense - value, 1.0)) if meaning.basis == "nll" else value / dense
    zero = front.zero.get(f"{split}_{meaning.basis}")
    return kept(float(value), zero, dense) if is_number(zero) and zero != dense else None


def _end(values: Mapping[str, float], name: str, split: str) -> float:
    """Returns what the dense model scores on a split; 0 where it is not known."""
    value = values.get(f"{split}_{name}", values.get(name, math.nan))
    return float(value) if is_number(value) else 0.0


def _basis(front: Front) -> str:
    """Returns the column from which the run computed what its points keep, by comparing both."""
    for column in front.zero:
        split, _, name = column.partition("_")
        if split != "search" or name == KEPT:
            continue
        meaning = Meaning("", True, name)
        pairs = [
            (share(front, meaning, split, p.values.get(column)), p.values.get(f"{split}_{KEPT}"))
            for p in front
        ]
        if pairs and all(is_number(a) and is_number(b) and abs(a - b) < 1e-6 for a, b in pairs):
            return name
    return ""


def _with_shares(front: Front, name: str) -> Front:
    """Returns the front with a share of the dense value in columns of its own."""
    meaning, points = Meaning("", basis=name), []
    # A loss turns the interval: its upper end is the lower one of what is kept.
    low, high = ("_high", "_low") if name == "nll" else ("_low", "_high")
    ends = {"": "", "_low": low, "_high": high}
    for point in front:
        found = {
            f"{split}_{KEPT}{end}": share(
                front, meaning, split, point.values.get(f"{split}_{name}{of}")
            )
            for split in SPLIT_OF
            for end, of in ends.items()
        }
        told = {column: value for column, value in found.items() if value is not None}
        points.append(replace(point, values={**point.values, **told}))
    return replace(front, points=tuple(points))
