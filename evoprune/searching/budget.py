"""What bounds a search: its rungs, and when it ends."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Rung:
    """A slice of the calibration set, and the share of candidates that goes on from it.

    Attributes:
        index: its number; -1 is the top.
        keep: the share that goes on; None at the top.
        grows: whether it scores what the rung before it did, and further examples.
        label: what it is, for people.
    """

    index: int
    keep: float | None = None
    grows: bool = False
    label: str = ""


@dataclass(frozen=True)
class Budget:
    """When a search ends: the first of these to be reached; None is no bound.

    Attributes:
        n_eval: distinct patterns told to the algorithm; one called back counts once.
        n_gen: generations.
        tokens: dense-equivalent tokens; a generation that has begun is finished, here and below.
        seconds: of this process, evaluating and waiting, after its warm starts; where it ended a
            search, the journal says so, and the search that is run again ends there too.
        patience: generations in which the hypervolume does not grow.
    """

    n_eval: int | None = None
    n_gen: int | None = None
    tokens: float | None = None
    seconds: float | None = None
    patience: int | None = None


@dataclass(frozen=True)
class Spent:
    """What was evaluated before a search began and counts as its own."""

    n_eval: int = 0
    tokens: float = 0.0


NOTHING_SPENT = Spent()


def per_candidate(rungs: Sequence[Rung], tokens: Sequence[float]) -> float:
    """Returns the tokens that a candidate takes on average, the later rungs by who gets there.

    Args:
        rungs: lowest first.
        tokens: that a candidate takes at each of them from nothing.
    """
    total, share, before = 0.0, 1.0, 0.0
    for rung, whole in zip(rungs, tokens, strict=True):
        total += share * (whole - (before if rung.grows else 0.0))
        share, before = share * (rung.keep or 0.0), whole
    return total
