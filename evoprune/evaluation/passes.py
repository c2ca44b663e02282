"""Runs a realised pattern over examples and gathers the tables of its passes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune.evaluation.examples import Examples
from evoprune.metrics import Table

if TYPE_CHECKING:
    import torch

NO_SITES: frozenset[str] = frozenset()


def forward(
    stages: Any, tokens: "torch.Tensor", dropped: frozenset[str] = NO_SITES
) -> "torch.Tensor":
    """Returns what the head reads (B, T, H), after the blocks that a pattern keeps."""
    state = stages.embed(tokens)
    for index in range(stages.n_blocks):
        state = stages.block(index, state, dropped)
    return stages.features(state)


def tables(
    stages: Any,
    task: Any,
    examples: Examples,
    rungs: Sequence[int] = (),
    device: str = "cpu",
    dropped: frozenset[str] = NO_SITES,
) -> dict[str, Table]:
    """Returns the table of every pass of the task.

    Args:
        stages: the network; widths are already cut.
        task: what is measured.
        examples: the examples, with the task's reference of the dense model.
        rungs: where micro-batches must end.
        device: where the network is.
        dropped: sites that are not run.
    """
    import torch

    pieces: dict[str, list[np.ndarray]] = {}
    with torch.inference_mode():
        for rows in examples.batches(rungs):
            read = {"tokens": examples.tokens, "lengths": examples.lengths, **examples.extras}
            batch = {name: torch.from_numpy(v[rows]).to(device) for name, v in read.items()}
            features = forward(stages, batch["tokens"], dropped)
            for name, column in task.measure(stages, features, batch).items():
                pieces.setdefault(name, []).append(column)
    columns = {name: np.concatenate(values) for name, values in sorted(pieces.items())}
    return {"clean": Table(columns, examples.groups)}
