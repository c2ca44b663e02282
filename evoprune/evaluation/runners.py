"""Which runner a network gets."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from evoprune.core.costs import CostTable
from evoprune.evaluation.realise import Realiser
from evoprune.evaluation.runner import Runner, StagedRunner
from evoprune.evaluation.sweep import StreamedRunner
from evoprune.families.placement import is_streamed
from evoprune.recover.adapt import Adapt


def make_runner(
    family: Any,
    model: Any,
    task: Any,
    table: CostTable,
    device: str = "cpu",
    adapt: tuple[Adapt, Mapping[str, np.ndarray]] | None = None,
    boundary_bytes: int = 0,
) -> Runner:
    """Returns the runner of a family's network.

    Raises:
        ModelError: the network is streamed, and cannot be run block by block for all patterns.
    """
    if hasattr(family, "runner"):
        runner: Runner = family.runner(model, task, device)
        return runner
    attrs = family.attrs(model) if hasattr(family, "attrs") else ()
    realiser, stages = Realiser(model, table, adapt, attrs), family.stages(model)
    if is_streamed(family, model):
        blocks = list(family.blocks(model))
        return StreamedRunner(stages, task, realiser, blocks, device, boundary_bytes)
    return StagedRunner(stages, task, realiser, device, boundary_bytes)
