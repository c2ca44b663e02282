"""How far a cheap rung ranks patterns as the top rung does.

Spearman's rank correlation between a rung's values and the top rung's, of the patterns that were
promoted all the way. These are not drawn at random: a rung promotes what it likes, so the spread
that is left to be ranked is smaller, and the correlation over them is lower than it would be over
all candidates (range restriction). It is the right warning, since among these the choice is made,
but a low value after a small ``keep`` says less than the same value after a large one. Values of
several sizes are mixed: where size alone explains the order the correlation is high.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evoprune.metrics import spearman

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
    """

    rung: str
    objective: str
    n: int
    correlation: float

    @property
    def misleads(self) -> bool:
        """Whether it is too low to promote by, and told by enough patterns."""
        return self.n >= ENOUGH and self.correlation < MISLEADS

    def to_json(self) -> dict[str, Any]:
        """Returns it as the summary holds it; a correlation that is not told is None."""
        known = None if np.isnan(self.correlation) else self.correlation
        return {
            "rung": self.rung,
            "objective": self.objective,
            "n": self.n,
            "correlation": known,
            "misleads": self.misleads,
        }


def agreements(
    climbs: Sequence[Climb], rungs: Sequence[str], objectives: Sequence[str]
) -> list[Agreement]:
    """Returns how each rung but the top ranks as the top does, by each objective.

    Args:
        climbs: of every pattern that reached the top rung its values, lowest rung first.
        rungs: names of the rungs, the top last.
        objectives: those that are measured.
    """
    found = []
    for i, rung in enumerate(rungs[:-1]):
        for name in objectives:
            pairs = [(c[i].get(name, np.nan), c[-1].get(name, np.nan)) for c in climbs]
            values = np.array(pairs, dtype=np.float64).reshape(-1, 2)
            values = values[np.isfinite(values).all(axis=1)]
            found.append(Agreement(rung, name, len(values), _correlation(*values.T)))
    return found


def _correlation(low: np.ndarray, top: np.ndarray) -> float:
    """Returns Spearman's correlation; 0 where only the top rung tells patterns apart."""
    if len(low) > 1 and np.ptp(low) == 0 and np.ptp(top) > 0:
        return 0.0
    return spearman(low, top)


def in_words(found: Sequence[Agreement]) -> tuple[str, ...]:
    """Returns a line for each rung, and a warning with a remedy for each that misleads."""
    lines = []
    for rung in dict.fromkeys(one.rung for one in found):
        here = [one for one in found if one.rung == rung]
        told = ", ".join(f"{one.objective} {one.correlation:.2f}" for one in here)
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
