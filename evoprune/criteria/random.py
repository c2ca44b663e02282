"""The control of every criterion."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from evoprune.criteria.subject import Subject


@dataclass(frozen=True)
class Random:
    """``random``: units in random order.

    Attributes:
        seed: of the order, besides the calibration's.
    """

    needs_data: ClassVar[bool] = False
    seed: int = 0

    def scores(self, subject: Subject) -> dict[str, np.ndarray]:
        """Returns a random score of every unit, by site."""
        rng = np.random.default_rng([subject.seed, 4, self.seed])
        return {site.name: rng.random(site.units) for site in subject.sites}
