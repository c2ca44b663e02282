"""Classifiers of transformers: texts with a label in a column, pictures with their classes.

The tables are those of ``classification``; beside them stands ``kl`` (nats), the divergence of the
pruned from the dense network's distribution over the classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from evoprune.core.errors import DataError
from evoprune.core.networks import Batch, Outputs
from evoprune.core.splits import SPLITS
from evoprune.data.documents import assign_splits, check_disjoint
from evoprune.data.labelled_pool import LabelledPool, pixel_pools, text_pool
from evoprune.tasks.classification import Classification, log_softmax, logits_of


@dataclass(frozen=True)
class _Compared(Classification):
    """A classification whose dense network is compared with."""

    def reference(self, outputs: Outputs, batch: Batch) -> dict[str, np.ndarray]:
        """Returns the dense network's log-probabilities: ``dense_logp``, float64 (B, C)."""
        return {"dense_logp": log_softmax(logits_of(outputs))}


@dataclass(frozen=True)
class TextClassification(_Compared):
    """The task ``text_classification``: one class of a text."""

    passes = ("clean",)
    objectives = ("accuracy", "nll", "kl", "worst_cluster_retention", "worst_cluster_kl")
    costs = ("sparsity", "params", "flops", "bytes")

    def pools(self, data: Any, source: Any, processor: Any) -> Mapping[str, LabelledPool]:
        """Returns the texts of the three splits; no text is in two of them.

        Raises:
            DataError: the source holds no texts, one has no label, or a split is empty.
        """
        if not hasattr(source, "documents"):
            raise DataError(
                f"The data source '{data.source.type}' holds no texts.",
                "Use csv, jsonl, datasets, or mappings with text and label from Python.",
            )
        splits = assign_splits(source.documents(), data.fractions)
        check_disjoint(splits)
        length = data.chunk_tokens
        return {name: text_pool(splits[name], processor, name, length) for name in SPLITS}


@dataclass(frozen=True)
class ImageClassification(_Compared):
    """The task ``image_classification``: one class of a picture."""

    objectives = (
        "accuracy",
        "nll",
        "kl",
        "worst_cluster_retention",
        "worst_cluster_kl",
        "ood_auroc",
    )
    costs = ("sparsity", "params", "flops", "bytes")

    def pools(self, data: Any, source: Any, processor: Any) -> Mapping[str, LabelledPool]:
        """Returns the pictures of the three splits, with what lies outside each.

        Raises:
            DataError: the source holds no pictures, or a split is empty.
        """
        if not hasattr(source, "images"):
            raise DataError(
                f"The data source '{data.source.type}' holds no pictures.",
                "Use npz, digits, or (image, label) pairs from Python.",
            )
        if not hasattr(processor, "image_processor_type") and not hasattr(processor, "preprocess"):
            raise DataError(
                f"{type(processor).__name__} makes no pictures into inputs.",
                "Save the model's image processor beside it (preprocessor_config.json).",
            )
        return pixel_pools(source.images(), processor)
