"""What a search algorithm is: asked for candidates, told what they are worth.

The seam between the loop and whoever proposes: an ``Algorithm`` holds options and begins a
``Stepper``; the loop asks it for candidates, evaluates them, and tells it, until it or the budget
ends (pymoo calls this ask and tell).
"""

from typing import Protocol

import numpy as np

from evoprune.searching.problem import Problem

# Told instead of values that a candidate does not have: finite, and worse than any real one.
WORST = 1e30


class Stepper(Protocol):
    """A search in progress.

    With ``ranked(F, G)`` it orders candidates for promotion to the next rung itself; with
    ``hear(rung, X, F, G)`` it is also told what rungs below the top say of those that they saw;
    with ``recalls(X)`` it says which of the candidates that it asked for were sent home by a rung
    before and now go straight to the top.
    """

    def ask(self) -> np.ndarray | None:
        """Returns new candidates (P, n_var), canonical and inside the budgets; None at the end."""
        ...

    def tell(self, X: np.ndarray, F: np.ndarray, G: np.ndarray) -> None:
        """Takes in what they are worth.

        Args:
            X: the candidates of the last ``ask``.
            F: their objectives, to be minimised, always finite (P, M).
            G: their constraint violations, 0 where kept (P, C).
        """
        ...


class Algorithm(Protocol):
    """How a search proceeds; its fields are its options."""

    def begin(self, problem: Problem, starts: np.ndarray, seed: int) -> Stepper:
        """Returns a search at its start.

        Args:
            problem: what is searched.
            starts: warm starts (W, n_var), to be evaluated first.
            seed: of every random choice.
        """
        ...


class Seen:
    """Canonical candidates that were asked for already."""

    def __init__(self) -> None:
        self._keys: set[bytes] = set()

    def new(self, X: np.ndarray) -> np.ndarray:
        """Returns which rows (P,) are new and no repetition of a row before them."""
        mask, here = np.zeros(len(X), dtype=bool), set()
        for i, row in enumerate(np.ascontiguousarray(X, dtype=np.int64)):
            key = row.tobytes()
            mask[i] = key not in self._keys and key not in here
            here.add(key)
        return mask

    def add(self, X: np.ndarray) -> None:
        """Remembers candidates."""
        self._keys |= {row.tobytes() for row in np.ascontiguousarray(X, dtype=np.int64)}
