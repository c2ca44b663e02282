"""A frozen backbone with a head that is fitted anew for every mask."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from evoprune.families.flops import executed_flops_by_module
from evoprune.families.sparse_head.backbone import features as backbone_features
from evoprune.families.sparse_head.heads import Architecture

BackboneRow = tuple[str, Sequence[int], int | None, float]


class HeadNetwork:
    """What the family ``sparse_head`` works on.

    Args:
        backbone: maps images to features; None in a worker, which needs none.
        hidden: widths of the hidden layers.
        seed: of the head's initialisation, which all candidates share.
        fit_options: how heads are fitted (``runner.HeadRunner``).
    """

    def __init__(
        self,
        backbone: torch.nn.Module | None,
        hidden: tuple[int, ...],
        seed: int,
        fit_options: Mapping[str, Any],
    ) -> None:
        self.backbone, self.hidden, self.seed = backbone, hidden, seed
        self.fit_options = dict(fit_options)
        self.rows: Sequence[BackboneRow] | None = None

    def to(self, device: str) -> "HeadNetwork":
        """Returns the network; heads are small and stay on the CPU."""
        return self

    def settle(self, features: int, classes: int) -> None:
        """Fixes the head's full widths."""
        self.architecture = Architecture(features, self.hidden, classes, self.seed)

    def attach(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Gives the training examples that heads are fitted to: features (N, D), labels (N,)."""
        self.training_features, self.training_labels = features, labels

    def features(self, images: np.ndarray) -> np.ndarray:
        """Returns the features of images, float32 (N, D)."""
        assert self.backbone is not None
        self._input = images.shape[1:]
        return backbone_features(self.backbone, images)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Returns what the base file holds."""
        assert self.backbone is not None
        found = {f"backbone.{k}": v.contiguous() for k, v in self.backbone.state_dict().items()}
        found["training.features"] = torch.from_numpy(np.array(self.training_features))
        found["training.labels"] = torch.from_numpy(np.array(self.training_labels))
        return found

    def backbone_rows(self) -> Sequence[BackboneRow]:
        """Returns for each backbone parameter its name, shape, feature axis and FLOPs per entry.

        A backbone may say which parameters make one feature per entry of their first axis, in
        ``feature_parameters``; the features that a mask drops are then cut there as well.
        """
        if self.rows is None:
            self.rows = self._measured_rows()
        return self.rows

    def _measured_rows(self) -> Sequence[BackboneRow]:
        assert self.backbone is not None
        example = torch.zeros((1, *self._input)) if len(self._input) == 3 else None
        if example is None:
            example = torch.zeros((1, 1, *self._input))
        flops = executed_flops_by_module(self.backbone, example)
        cut = getattr(self.backbone, "feature_parameters", ())
        rows: list[BackboneRow] = []
        for name, parameter in self.backbone.named_parameters():
            module, _, leaf = name.rpartition(".")
            per_entry = flops.get(module, 0) / parameter.numel() if leaf == "weight" else 0.0
            axis = 0 if name in cut else None
            rows.append((name, list(parameter.shape), axis, per_entry))
        return rows
