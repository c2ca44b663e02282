"""The control of every criterion."""

from dataclasses import dataclass

import numpy as np

from evoprune.criteria.subject import Subject


@dataclass(frozen=True)
class Random:
    """``random``: units in random order, by the calibration's seed."""

    needs_data = False

    def scores(self, subject: Subject) -> dict[str, np.ndarray]:
        """Returns a random score of every unit, by site."""
        rng = np.random.default_rng([subject.seed, 4])
        return {site.name: rng.random(site.units) for site in subject.sites}
