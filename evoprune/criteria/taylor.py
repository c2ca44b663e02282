"""Weights matter by how the loss would move without them."""

from dataclasses import dataclass

import numpy as np

from evoprune.criteria.subject import Subject, lifted


@dataclass(frozen=True)
class Taylor:
    """``taylor``: |w·∂L/∂w| of every weight, summed over a unit's coupled tensors.

    The first-order element form of LLM-Pruner (``param_first``); L is the loss summed over the
    calibration set, so it needs memory for one gradient of the ranked tensors.
    """

    needs_data = True

    def scores(self, subject: Subject) -> dict[str, np.ndarray]:
        """Returns the score of every unit, by site."""
        import torch

        rows = {row.name: row for site in subject.sites for row in subject.rows(site.name)}
        parameters = {name: subject.tensor(row) for name, row in rows.items()}
        try:
            for parameter in parameters.values():
                parameter.requires_grad_(True)
                parameter.grad = None
            with torch.enable_grad():
                for loss, _ in subject.run():
                    loss.backward()
            gradients = {
                name: parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
                for name, parameter in parameters.items()
            }
            return lifted(
                subject,
                lambda row: (parameters[row.name].detach() * gradients[row.name]).double().abs(),
            )
        finally:
            for parameter in parameters.values():
                parameter.requires_grad_(False)
                parameter.grad = None
