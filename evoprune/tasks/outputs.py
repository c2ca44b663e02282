"""What several patterns say at the same positions: the seam between runners and ensembles."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PatternLogits:
    """A block of a pass: the logits of K patterns at M positions.

    Attributes:
        name: the pass.
        rows: the example that each position belongs to (M,) int64, on the CPU.
        logits: (K, M, C), in float32 or better.
        known: what the task scores them with, each (M, …); no ``target`` where there is no
            right answer.
    """

    name: str
    rows: "torch.Tensor"
    logits: "torch.Tensor"
    known: Mapping[str, "torch.Tensor"]
