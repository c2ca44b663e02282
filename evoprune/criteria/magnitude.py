"""Large weights matter."""

from dataclasses import dataclass

import numpy as np

from evoprune.criteria.subject import Subject, lifted


@dataclass(frozen=True)
class Magnitude:
    """``magnitude``: the sum of squared weights of a unit over all coupled tensors.

    The usual baseline, and a weak one for gated MLPs: LLM-Pruner found random units better.
    """

    needs_data = False

    def scores(self, subject: Subject) -> dict[str, np.ndarray]:
        """Returns the score of every unit, by site."""
        return lifted(subject, lambda row: subject.tensor(row).detach().double().square())
