"""Ranks units, brings the model into rank order, and keeps what the recovery needs."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune.config.parts import build
from evoprune.config.schema import Config
from evoprune.core.costs import CostTable
from evoprune.core.errors import ModelError
from evoprune.core.networks import HeadOutputs
from evoprune.core.pattern import Keep
from evoprune.core.registry import ADAPTS, CRITERIA, TASKS
from evoprune.core.space import Site, Space
from evoprune.criteria.rank import permute
from evoprune.criteria.subject import Subject, orders
from evoprune.data.examples import Examples
from evoprune.families.stages import NO_SITES, micro_batches, real_positions

if TYPE_CHECKING:
    import torch

ADAPT_FILE = "adapt.safetensors"


def partial_sites(space: Space) -> tuple[Site, ...]:
    """Returns the sites of which some gene keeps a part: those whose units are ranked.

    A gene of bits names its units one by one: ranking would only rename them.
    """
    return tuple(
        space.sites[name]
        for gene in space.genes
        for name in gene.sites
        if sum(isinstance(option, Keep) for option in gene.options) > 1
    )


def cut_sites(space: Space) -> tuple[Site, ...]:
    """Returns the sites of which some pattern keeps a part: those that a recovery must know."""
    by_bits = (space.sites[n] for gene in space.genes if gene.bits for n in gene.sites)
    return (*partial_sites(space), *by_bits)


def rank(
    config: Config, space: Space, family: Any, model: Any, examples: Examples
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Brings the units of a model into rank order, in place.

    Returns:
        The scores of the units by site, in their old order, and what the recovery keeps.

    Raises:
        ModelError: a score is not finite.
    """
    subject = subject_of(config, space, family, model, examples)
    scores = scored(config, subject) if subject.sites else {}
    if scores:
        permute(subject, orders(scores))
    cut = replace(subject, sites=cut_sites(space))
    stored = build(ADAPTS, config.adapt).prepare(cut) if config.adapt and cut.sites else {}
    return scores, stored


def scored(config: Config, subject: Subject) -> dict[str, np.ndarray]:
    """Returns the criterion's scores of the units, by site.

    Raises:
        ModelError: a score is not finite.
    """
    scores: dict[str, np.ndarray] = build(CRITERIA, config.criterion).scores(subject)
    broken = [name for name, score in scores.items() if not np.isfinite(score).all()]
    if broken:
        raise ModelError(
            f"The criterion '{config.criterion.type}' gives '{broken[0]}' scores that are not "
            "finite.",
            "Choose another criterion, or a wider `model.dtype`.",
        )
    return scores


def subject_of(
    config: Config,
    space: Space,
    family: Any,
    model: Any,
    examples: Examples,
    sites: tuple[Site, ...] | None = None,
) -> Subject:
    """Returns what a criterion looks at: the model, and the sites of which some gene keeps a part.

    Other ``sites`` may be named.

    A family whose networks have no stages runs them over the examples itself (``family.runs``).
    """
    table: CostTable = family.table(model, config.data.chunk_tokens)
    task, device = build(TASKS, config.task), config.model.device
    sites = partial_sites(space) if sites is None else sites
    if hasattr(family, "runs"):
        runs = family.runs(model, task, examples, device)
    else:
        runs = _runs(task, device, family, model, examples)
    return Subject(model, table, sites, runs, config.calibration.seed)


def _runs(task: Any, device: str, family: Any, model: Any, examples: Examples) -> Any:
    """Returns a function that runs the dense model over the examples, batch after batch."""

    def run() -> "Iterator[tuple[torch.Tensor, torch.Tensor]]":
        stages = family.stages(model)
        for _, batch in micro_batches(stages, examples.clean.arrays, device):
            state = stages.begin(batch)
            entered = getattr(state, "hidden", None)
            for index in range(stages.n_blocks):
                state = stages.block(index, state, NO_SITES)
            features = stages.features(state)
            # What the layers of a block read has a position each, also where a head reads one.
            real = real_positions(batch, features if entered is None else entered)
            yield task.loss(HeadOutputs(stages, features), batch), real

    return run


def save(folder: Path, criterion: str, scores: Any, stored: Any) -> None:
    """Writes ``<criterion>.safetensors`` and what the recovery keeps, if there is any."""
    from safetensors.numpy import save_file

    if scores:
        save_file(dict(scores), folder / f"{criterion}.safetensors")
    if stored:
        save_file({k: np.ascontiguousarray(v) for k, v in stored.items()}, folder / ADAPT_FILE)
