"""How far a cheap rung ranks patterns as the top rung does.

Spearman's rank correlation between a rung's values and the top rung's, of the patterns that were
promoted all the way. These are not drawn at random: a rung promotes what it likes, so the spread
that is left to be ranked is smaller, and the correlation over them is lower than it would be over
all candidates (range restriction). It is the right warning, since among these the choice is made,
but a low value after a small ``keep`` says less than the same value after a large one.

Where patterns of many sizes are searched, size alone orders most of them, and any rung gets that
right. What a rung is for is to tell patterns of like size apart, so the partial rank correlation
given their FLOPs is told beside it: (r_lt − r_ls·r_ts) / √((1 − r_ls²)(1 − r_ts²)), of low rung,
top rung and size.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evoprune.core.metrics import spearman

# A rung misleads below this rank correlation, over at least so many patterns.
MISLEADS = 0.5
ENOUGH = 12

# What a pattern that reached the top rung was worth: its values at each rung, by objective.
Climb = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class Agreement:
    """How a rung ranks the promoted patterns by an objective.

    Attributes:
        rung: its name, for people.
        objective: what is ranked.
        n: patterns that have a finite value at both rungs.
        correlation: Spearman's, with the top rung; nan where the top rung ranks nothing either.
        given_size: the partial one, given the patterns' FLOPs; nan where all are of one size, or
            size alone explains a rung.
    """

    rung: str
    objective: str
    n: int
    correlation: float
    given_size: float = math.nan

    @property
    def misleads(self) -> bool:
        """Whether either is too low to promote by, and told by enough patterns."""
        low = self.correlation < MISLEADS or self.given_size < MISLEADS
        return self.n >= ENOUGH and low

    def to_json(self) -> dict[str, Any]:
        """Returns it as the summary holds it; a correlation that is not told is None."""
        return {
            "rung": self.rung,
            "objective": self.objective,
            "n": self.n,
            "correlation": None if math.isnan(self.correlation) else self.correlation,
            "given_size": None if math.isnan(self.given_size) else self.given_size,
            "misleads": self.misleads,
        }


def agreements(
    climbs: Sequence[Climb],
    sizes: Sequence[float],
    rungs: Sequence[str],
    objectives: Sequence[str],
) -> list[Agreement]:
    """Returns how each rung but the top ranks as the top does, by each objective.

    Args:
        climbs: of every pattern that reached the top rung its values, lowest rung first.
        sizes: FLOPs of each of them, in any unit.
        rungs: names of the rungs, the top last.
        objectives: those that are measured.
    """
    found = []
    for i, rung in enumerate(rungs[:-1]):
        for name in objectives:
            told = [(c[i].get(name, np.nan), c[-1].get(name, np.nan)) for c in climbs]
            rows = np.array([(*pair, size) for pair, size in zip(told, sizes, strict=True)])
            rows = rows.reshape(-1, 3)
            low, top, size = rows[np.isfinite(rows).all(axis=1)].T
            plain, partial = _correlation(low, top), _given(low, top, size)
            found.append(Agreement(rung, name, len(low), plain, partial))
    return found


def _correlation(low: np.ndarray, top: np.ndarray) -> float:
    """Returns Spearman's correlation; 0 where only the top rung tells patterns apart."""
    if len(low) > 1 and np.ptp(low) == 0 and np.ptp(top) > 0:
        return 0.0
    return spearman(low, top)


def _given(low: np.ndarray, top: np.ndarray, size: np.ndarray) -> float:
    """Returns the partial rank correlation given the size; nan where there is nothing left."""
    both, of_low, of_top = spearman(low, top), spearman(low, size), spearman(top, size)
    rest = math.sqrt((1 - of_low**2) * (1 - of_top**2))
    if not rest > 1e-9:  # nan as well
        return math.nan
    return max(-1.0, min(1.0, (both - of_low * of_top) / rest))


def in_words(found: Sequence[Agreement]) -> tuple[str, ...]:
    """Returns a line for each rung, and a warning with a remedy for each that misleads."""
    lines = []
    for rung in dict.fromkeys(one.rung for one in found):
        here = [one for one in found if one.rung == rung]
        told = ", ".join(map(_one_in_words, here))
        n = min(one.n for one in here)
        lines.append(
            f"rungs     {rung}: rank correlation with the top rung over {n} promoted patterns: "
            f"{told}"
        )
        bad = [one.objective for one in here if one.misleads]
        if bad:
            lines.append(
                f"warning   the rung of {rung} misleads about {', '.join(bad)}: below "
                f"{MISLEADS:g} it promotes little better than by chance. Give it more samples or "
                "positions, keep more of it, or leave it out."
            )
    return tuple(lines)


def _one_in_words(one: Agreement) -> str:
    partial = "" if math.isnan(one.given_size) else f" ({one.given_size:.2f} given the size)"
    return f"{one.objective} {one.correlation:.2f}{partial}"
