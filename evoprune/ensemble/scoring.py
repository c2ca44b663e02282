"""Scores mixtures on a split: the same tables as of a single pattern, and calibration beside."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune.core.metrics import Table
from evoprune.core.pattern import Option
from evoprune.data.examples import Examples
from evoprune.ensemble.mixture import Mixture
from evoprune.evaluation.runner import Runner, Tables
from evoprune.tasks.outputs import PatternLogits

if TYPE_CHECKING:
    import torch

BINS = 15
GAPS = tuple(f"gap_{i:02d}" for i in range(BINS))


@dataclass(frozen=True)
class Stand:
    """What mixtures are scored with.

    Attributes:
        runner: runs the patterns.
        task: scores their logits.
        options: of each pattern.
        examples: the split.
        clusters: by pass the cluster of each example (N,); a routed mixture is not scored on a
            pass without.
    """

    runner: Runner
    task: Any
    options: Sequence[Mapping[str, Option]]
    examples: Examples
    clusters: Mapping[str, np.ndarray]


def score(stand: Stand, mixtures: Mapping[str, Mixture]) -> dict[str, Tables]:
    """Returns the tables of mixtures, by name and pass.

    All patterns are run once, and no more logits are held than those of a block. A table has the
    task's columns, summed over the positions of each example, and where there are right answers
    ``gap_00`` … ``gap_14``: in each bin of confidence the hits less the confidences (``ece``).
    """
    passes = stand.examples.passes
    sums: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for block in stand.runner.outputs(stand.options, stand.examples):
        count, rows = len(passes[block.name]), block.rows.numpy()
        clusters = stand.clusters.get(block.name)
        for name, mixture in mixtures.items():
            if mixture.routes and clusters is None:
                continue
            here = clusters[rows] if clusters is not None else rows
            into = sums.setdefault(name, {}).setdefault(block.name, {})
            for column, values in _columns(stand.task, block, mixture.answer(block.logits, here)):
                summed = np.bincount(rows, weights=values, minlength=count)
                into[column] = into.get(column, 0.0) + summed
    return {
        name: {
            one: Table(dict(sorted(columns.items())), passes[one].groups)
            for one, columns in by_pass.items()
        }
        for name, by_pass in sums.items()
    }


def _columns(
    task: Any, block: PatternLogits, answer: "torch.Tensor"
) -> Iterable[tuple[str, np.ndarray]]:
    """Yields the columns of a mixture's answer (M, C) at a block's positions, each (M,)."""
    found = {name: v.double().cpu().numpy() for name, v in task.scores(answer, block.known).items()}
    yield from found.items()
    if "target" in block.known:
        confidence = answer.log_softmax(dim=-1).amax(dim=-1).exp().double().cpu().numpy()
        where = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
        for i, name in enumerate(GAPS):
            yield name, np.where(where == i, found["correct"] - confidence, 0.0)


def ece(table: Table) -> float:
    """Returns the expected calibration error of a table of ``score`` (``metrics.ece``).

    Its rows may be examples of many positions: what is binned are the positions.
    """
    gaps = sum(abs(float(table.columns[name].sum())) for name in GAPS)
    return gaps / float(table.columns["n"].sum())
