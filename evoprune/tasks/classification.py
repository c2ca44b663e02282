"""Telling classes apart, and knowing what belongs to none.

The pass ``clean`` reads the examples. Its table has for each ``n`` = 1, the negative log-likelihood
``nll`` (nats), ``correct``, and the scores by which inside is told from outside. The passes
``near`` and ``far`` read what is out of distribution; their tables have ``n`` and the scores.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from evoprune.core.errors import DataError
from evoprune.core.metrics import Table
from evoprune.core.networks import Batch, Columns, Outputs
from evoprune.core.quality import log_frequencies
from evoprune.data.examples import Examples
from evoprune.data.image_pool import ImagePool, image_pools
from evoprune.tasks.ood import SCORES

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Classification:
    """The task ``classification``."""

    passes: ClassVar[tuple[str, ...]] = ("clean", "near", "far")
    quality = "accuracy"
    objectives: ClassVar[tuple[str, ...]] = (
        "accuracy",
        "nll",
        "worst_cluster_retention",
        "ood_auroc",
    )
    costs: ClassVar[tuple[str, ...]] = ("sparsity", "units", "params", "flops", "bytes")

    def pools(self, data: Any, source: Any, processor: Any) -> Mapping[str, Any]:
        """Returns the images of the splits, with what lies outside each.

        Raises:
            DataError: the source holds no images, or a split is empty.
        """
        if not hasattr(source, "images"):
            raise DataError(
                f"The data source '{data.source.type}' holds no images.",
                "Use digits, npz, or (image, label) pairs from Python for a classification.",
            )
        return image_pools(source.images())

    def reference(self, outputs: Outputs, batch: Batch) -> dict[str, np.ndarray]:
        """Returns nothing: what is measured needs nothing of the dense network."""
        return {}

    def loss(self, outputs: Outputs, batch: Batch) -> "torch.Tensor":
        """Returns the cross-entropy summed over the examples, to differentiate.

        Args:
            outputs: with features of each example (B, H).
            batch: with ``labels`` (B,).
        """
        import torch

        logits = outputs.logits(outputs.features)
        return torch.nn.functional.cross_entropy(logits, batch["labels"], reduction="sum")

    def measure(self, outputs: Outputs, batch: Batch) -> Columns:
        """Returns the columns of a batch's table, each (B,) float64.

        Args:
            outputs: with features of each example (B, H).
            batch: with ``labels`` (B,), unless it is out of distribution, and ``dense_logp``
                (B, C) where the dense network's ``reference`` is kept: then there is ``kl`` too.
        """
        known = {n: batch[n].cpu().numpy() for n in ("labels", "dense_logp") if n in batch}
        return columns_of(logits_of(outputs), known.get("labels"), known.get("dense_logp"))

    def zero(self, pool: ImagePool, examples: Examples, stages: Any) -> dict[str, Table]:
        """Returns the tables of a model that knows the class frequencies of a pool.

        Args:
            pool: the images of the search split; no other split is looked at.
            examples: the examples of every pass.
            stages: of a network in stages; not used.
        """
        arrays = examples.clean.arrays
        classes = 1 + int(max(arrays["labels"].max(), pool.labels.max()))
        if "dense_logp" in arrays:
            classes = arrays["dense_logp"].shape[1]
        counts = np.bincount(pool.labels, minlength=classes)
        logits = log_frequencies(counts)[None, :]
        found = {}
        for name, one in examples.passes.items():
            same = np.repeat(logits, len(one), axis=0)
            labels, logp = (one.arrays.get(name) for name in ("labels", "dense_logp"))
            columns = columns_of(same, labels, logp)
            found[name] = Table(dict(sorted(columns.items())), one.groups)
        return found

    def known(self, batch: Batch) -> tuple[tuple["torch.Tensor", ...], dict[str, "torch.Tensor"]]:
        """Returns the examples (M,), and the right class of each, where there is one."""
        import torch

        rows = torch.arange(len(next(iter(batch.values()))))
        return (rows,), {"target": batch["labels"]} if "labels" in batch else {}

    def scores(
        self, logits: "torch.Tensor", known: Mapping[str, "torch.Tensor"]
    ) -> dict[str, "torch.Tensor"]:
        """Returns the columns of ``measure`` (M,), from logits (M, C)."""
        import torch

        labels = known["target"].numpy() if "target" in known else None
        columns = columns_of(logits.numpy(), labels)
        return {name: torch.from_numpy(column) for name, column in columns.items()}

    def events(
        self, logits: "torch.Tensor", known: Mapping[str, "torch.Tensor"]
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Returns the logits (K, M, C) as they are, and the right class of each (M,)."""
        return logits, known["target"]


def columns_of(
    logits: np.ndarray, labels: np.ndarray | None, dense_logp: np.ndarray | None = None
) -> Columns:
    """Returns the columns of examples, each (N,) float64.

    Args:
        logits: (N, C).
        labels: (N,); None for what is out of distribution.
        dense_logp: log-probabilities of the dense network (N, C), where they are kept.
    """
    columns = {"n": np.ones(len(logits))}
    columns |= {name: score(logits) for name, score in SCORES.items()}
    if labels is not None:
        top = logits.max(axis=1)
        total = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        columns["nll"] = total - logits[np.arange(len(labels)), labels]
        columns["correct"] = (logits.argmax(axis=1) == labels).astype(np.float64)
    if dense_logp is not None:
        columns["kl"] = (np.exp(dense_logp) * (dense_logp - log_softmax(logits))).sum(axis=1)
    return columns


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Returns log-probabilities (N, C)."""
    above = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(above - np.log(np.exp(above).sum(axis=1, keepdims=True)))


def logits_of(outputs: Outputs) -> np.ndarray:
    """Returns all logits, float64 (B, C)."""
    return np.asarray(outputs.logits(outputs.features).double().cpu().numpy())
