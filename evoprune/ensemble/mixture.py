"""A mixture: who answers, with what weight or for which cluster, and by what rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from evoprune.ensemble.combine import combined

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Mixture:
    """Members among P patterns, by their positions.

    Attributes:
        weights: position → how often it counts.
        rule: how the answers become one.
        routes: cluster → the position that answers for it, alone; empty if all answer together.
    """

    weights: Mapping[int, int]
    rule: str = "probability"
    routes: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, positions: Sequence[int], rule: str) -> "Mixture":
        """Returns the mixture in which these count once each."""
        return cls(dict.fromkeys(sorted(positions), 1), rule)

    @classmethod
    def single(cls, position: int) -> "Mixture":
        """Returns the mixture of one pattern: its own logits."""
        return cls({position: 1}, "logit")

    @property
    def members(self) -> list[int]:
        """The positions of its members, ascending."""
        return sorted(self.weights)

    def answer(self, logits: "torch.Tensor", clusters: np.ndarray) -> "torch.Tensor":
        """Returns the logits of the mixture (M, C).

        Args:
            logits: of all patterns (P, M, C).
            clusters: of the positions' examples (M,); read only where members are routed.
        """
        import torch

        if not self.routes:
            chosen = self.members
            return combined(logits[chosen], self.rule, [self.weights[i] for i in chosen])
        who = torch.tensor([self.routes[int(c)] for c in clusters], device=logits.device)
        return logits[who, torch.arange(len(who), device=logits.device)]
