"""Units that fluctuate matter; what is constant can be put into a bias."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evoprune.criteria.statistics import input_moments
from evoprune.criteria.subject import Subject, along_inputs, lifted

if TYPE_CHECKING:
    import torch

    from evoprune.core.costs import Row


@dataclass(frozen=True)
class Flap:
    """``flap``: Var(X_j)·‖W_:,j‖² (An et al., 2024, §3), summed over a unit's columns.

    Made for ``adapt: bias_compensation``, which replaces what is removed by its mean.
    """

    needs_data = True

    def scores(self, subject: Subject) -> dict[str, np.ndarray]:
        """Returns the score of every unit, by site."""
        moments = input_moments(subject)

        def element(row: "Row") -> "torch.Tensor":
            weight = subject.tensor(row).detach().double().square()
            return weight * along_inputs(row, moments[row.name].variance)

        return lifted(subject, element, reading=True)
