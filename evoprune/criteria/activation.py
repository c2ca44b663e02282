"""Weights matter by what they are multiplied with."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from evoprune.criteria.statistics import input_moments
from evoprune.criteria.subject import Subject, along_inputs, lifted

if TYPE_CHECKING:
    import torch

    from evoprune.core.costs import Row


@dataclass(frozen=True)
class Activation:
    """``activation``: Wanda's |W_ij|·‖X_j‖₂ (Sun et al., 2024, §3), summed over a unit's columns.

    Lifted to units over the tensors that read them, as FLAP's authors do for their Wanda-sp.
    """

    needs_data = True

    def scores(self, subject: Subject) -> dict[str, np.ndarray]:
        """Returns the score of every unit, by site."""
        moments = input_moments(subject)

        def element(row: "Row") -> "torch.Tensor":
            weight = subject.tensor(row).detach().double().abs()
            return weight * along_inputs(row, moments[row.name].norm)

        return lifted(subject, element, reading=True)
