"""What lower rungs say of candidates: less than the top, but of more of them.

A candidate that a lower rung sent home has no top-rung value, and no model may take the lower one
for it: fewer examples are easier or harder, and noisier. A straight line through the candidates
that were measured at both brings it to the scale of the top, and what the line misses by is how
far the value is in doubt (the linear case of Kennedy and O'Hagan, Biometrika 2000).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# With fewer rows nothing is modelled, and from fewer pairs no line is drawn.
FEWEST = 8


@dataclass(frozen=True)
class Rows:
    """Candidates and what they are worth, in the order of their levels.

    Attributes:
        X: the candidates (P, n_var).
        F: their objectives, to be minimised (P, M).
        G: their violations (P, C).
        doubt: the standard deviation with which each value is known (P, M); 0 at the top rung.
    """

    X: np.ndarray
    F: np.ndarray
    G: np.ndarray
    doubt: np.ndarray

    @classmethod
    def none(cls, n_var: int, objectives: int, violations: int) -> "Rows":
        """Returns no rows."""
        of = np.zeros((0, objectives))
        return cls(np.zeros((0, n_var), dtype=np.int64), of, np.zeros((0, violations)), of)

    def __len__(self) -> int:
        return len(self.X)

    def take(self, rows: np.ndarray) -> "Rows":
        """Returns some of the rows: indices or a mask."""
        return Rows(self.X[rows], self.F[rows], self.G[rows], self.doubt[rows])

    def adding(self, X: np.ndarray, F: np.ndarray, G: np.ndarray) -> "Rows":
        """Returns these rows with more, of which nothing is in doubt."""
        return self._with(Rows(X, F, G, np.zeros_like(F)))

    def _with(self, more: "Rows") -> "Rows":
        pairs = ((self.X, more.X), (self.F, more.F), (self.G, more.G), (self.doubt, more.doubt))
        X, F, G, doubt = (np.concatenate(pair) for pair in pairs)
        return Rows(X, F, G, doubt).take(np.lexsort(X.T[::-1]))

    def joined(self, lower: Sequence["Rows"], measured: Sequence[bool]) -> "Rows":
        """Returns these rows, of the top rung, with what only lower rungs know.

        Args:
            lower: the rows of the lower rungs, the highest first.
            measured: which objectives differ between rungs; the others are exact (M,).
        """
        found, here = self, {row.tobytes(): i for i, row in enumerate(self.X)}
        known = set(here)
        for rung in lower:
            names = [row.tobytes() for row in rung.X]
            both = [i for i, name in enumerate(names) if name in here]
            new = [i for i, name in enumerate(names) if name not in known]
            at = [here[names[i]] for i in both]
            lines = _lines(rung.F[both], self.F[at], measured)
            if lines is None:
                continue
            slope, offset, doubt = lines
            rest = rung.take(np.array(new, dtype=np.int64))
            values = offset + slope * rest.F
            found = found._with(Rows(rest.X, values, rest.G, np.broadcast_to(doubt, values.shape)))
            known |= {names[i] for i in new}
        return found


def _lines(
    low: np.ndarray, top: np.ndarray, measured: Sequence[bool]
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Returns slope, offset and residual deviation for each objective (M,).

    None where a line cannot be drawn, or falls: such a rung says nothing of the top.
    """
    if len(low) < FEWEST:
        return None
    slope, offset, doubt = np.ones(low.shape[1]), np.zeros(low.shape[1]), np.zeros(low.shape[1])
    for column in np.flatnonzero(measured):
        x, y = low[:, column], top[:, column]
        spread = x.var()
        slope[column] = ((x - x.mean()) * (y - y.mean())).mean() / spread if spread else 0.0
        if slope[column] <= 0:
            return None
        offset[column] = y.mean() - slope[column] * x.mean()
        missed = y - offset[column] - slope[column] * x
        doubt[column] = np.sqrt((missed**2).sum() / (len(x) - 2))
    return slope, offset, doubt
