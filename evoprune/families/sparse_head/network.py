"""A frozen backbone with a head that is fitted anew for every mask."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from evoprune.families.flops import executed_flops_by_module
from evoprune.families.sparse_head.backbone import as_batch
from evoprune.families.sparse_head.backbone import features as backbone_features
from evoprune.families.sparse_head.channels import Channels, Cuts, analyse
from evoprune.families.sparse_head.graph import (
    OWNER,
    Graph,
    UntraceableError,
    flops_by_tensor,
    trace,
)
from evoprune.families.sparse_head.heads import Architecture

# Images that the base keeps, to compare an export with the backbone on.
SAMPLES = 16


@dataclass(frozen=True)
class BackboneRow:
    """One parameter of a backbone.

    Attributes:
        name: in the base file.
        shape: whole.
        flops: per entry and image.
    """

    name: str
    shape: tuple[int, ...]
    flops: float = 0.0


@dataclass(frozen=True)
class Blueprint:
    """What is known of a backbone without its class.

    Attributes:
        rows: its parameters.
        other_flops: per image, of what belongs to no parameter.
        graph: its steps; None if it could not be traced.
        reason: why not.
    """

    rows: tuple[BackboneRow, ...]
    other_flops: float
    graph: Graph | None
    reason: str = ""

    @cached_property
    def cuts(self) -> Cuts:
        """Where it can be cut with its features."""
        return Cuts(stops=(self.reason,)) if self.graph is None else analyse(self.graph)

    def channels(self, name: str) -> Channels | None:
        """Returns which entries of a tensor make which features; None if it is never cut."""
        return self.cuts.tensors.get(name)

    def to_json(self) -> dict[str, Any]:
        """Returns the blueprint as JSON."""
        return {
            "rows": [[row.name, list(row.shape), row.flops] for row in self.rows],
            "other_flops": self.other_flops,
            "graph": None if self.graph is None else self.graph.to_json(),
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Blueprint":
        """Returns the blueprint that ``to_json`` wrote."""
        return cls(
            tuple(BackboneRow(name, tuple(shape), flops) for name, shape, flops in data["rows"]),
            data["other_flops"],
            None if data["graph"] is None else Graph.from_json(data["graph"]),
            data["reason"],
        )


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
        self.classes: tuple[str, ...] = ()
        self.samples = np.zeros((0, 1, 1))
        self._drawn: tuple[Blueprint, dict[str, torch.Tensor]] | None = None

    def to(self, device: str) -> "HeadNetwork":
        """Returns the network; heads are small and stay on the CPU."""
        return self

    def settle(self, features: int, classes: Sequence[str]) -> None:
        """Fixes the head's full widths; classes are named."""
        self.classes = tuple(classes)
        self.architecture = Architecture(features, self.hidden, len(classes), self.seed)

    def attach(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Gives the training examples that heads are fitted to: features (N, D), labels (N,)."""
        self.training_features, self.training_labels = features, labels

    def features(self, images: np.ndarray) -> np.ndarray:
        """Returns the features of images, float32 (N, D)."""
        assert self.backbone is not None
        return backbone_features(self.backbone, images)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Returns what the base file holds."""
        # Copies, because a file holds no two tensors that share memory.
        found = {name: tensor.clone() for name, tensor in self.weights.items()}
        found["training.features"] = torch.from_numpy(np.array(self.training_features))
        found["training.labels"] = torch.from_numpy(np.array(self.training_labels))
        found["sample.images"] = as_batch(self.samples)
        found["sample.features"] = torch.from_numpy(self.features(self.samples))
        return found

    @property
    def blueprint(self) -> Blueprint:
        """What is known of the backbone without its class."""
        return self._traced()[0]

    def know(self, blueprint: Blueprint, tensors: Mapping[str, torch.Tensor]) -> None:
        """Gives what another process found out about the backbone: it and the base's tensors."""
        own = {name: t for name, t in tensors.items() if name.startswith(f"{OWNER}.")}
        self._drawn = blueprint, own
        self.samples = tensors["sample.images"].numpy()
        self.sample_features = tensors["sample.features"].numpy()

    @property
    def weights(self) -> Mapping[str, torch.Tensor]:
        """The backbone's tensors, by the names of its blueprint."""
        return self._traced()[1]

    def _traced(self) -> tuple[Blueprint, dict[str, torch.Tensor]]:
        if self._drawn is None:
            self._drawn = self._look()
        return self._drawn

    def _look(self) -> tuple[Blueprint, dict[str, torch.Tensor]]:
        """Returns the backbone's blueprint, and its tensors by the names in there."""
        assert self.backbone is not None
        images = as_batch(np.resize(self.samples, (2, *self.samples.shape[1:])))
        graph, reason = None, ""
        try:
            graph, tensors = trace(self.backbone, images)
            flops = flops_by_tensor(graph, tensors, images[:1])
        except UntraceableError as why:
            reason = f"the backbone cannot be traced: {why}"
            named = self.backbone.named_parameters()
            tensors = {f"{OWNER}.{n}": p.detach().contiguous() for n, p in named}
            by_module = executed_flops_by_module(self.backbone, images[:1])
            flops = Counter({f"{OWNER}.{n}.weight": count for n, count in by_module.items()})
        held = () if graph is None else graph.buffers
        rows = tuple(
            BackboneRow(name, tuple(tensor.shape), flops.pop(name, 0) / tensor.numel())
            for name, tensor in tensors.items()
            if name not in held
        )
        return Blueprint(rows, float(flops.total()), graph, reason), tensors
