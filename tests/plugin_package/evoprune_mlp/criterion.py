"""Units matter by the paths that lead through them."""

from dataclasses import dataclass

import numpy as np

from evoprune.criteria.subject import Subject, lifted


@dataclass(frozen=True)
class PathNorm:
    """``path_norm``: the norm of what makes a unit times the norm of what reads it.

    Attributes:
        power: of the weights that are summed.
    """

    power: float = 2.0

    def scores(self, subject: Subject) -> dict[str, np.ndarray]:
        """Returns the score of every unit, by site."""

        def element(row):
            return subject.tensor(row).detach().double().abs() ** self.power

        whole = lifted(subject, element)
        reading = lifted(subject, element, reading=True)
        return {site: reading[site] * (whole[site] - reading[site]) for site in whole}
