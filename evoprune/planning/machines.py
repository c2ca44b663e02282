"""What a search takes of a machine, or of many: memory and disk counted, seconds by arithmetic."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from evoprune.core.amounts import duration, gigabytes
from evoprune.planning import arithmetic

if TYPE_CHECKING:
    from evoprune.planning.timing import Timed
    from evoprune.progress.forecast import Forecast

Rows = list[list[str]]
# Workers whose seconds are told beside those of this machine.
MANY = (1, 8, 64)


@dataclass(frozen=True)
class Held:
    """What a worker holds.

    Attributes:
        base: bytes of the weights on the disk, mapped once by all workers of a machine.
        memory: by arithmetic; None of what is no language model in stages.
    """

    base: int
    memory: arithmetic.Memory | None


def held_by(worker: Any, base: int, tokens: float, boundary_mb: int) -> Held:
    """Returns what a worker holds.

    Args:
        worker: a ``Worker``.
        base: bytes of the weights.
        tokens: of the calibration set.
        boundary_mb: ``workers.boundary_mb``.
    """
    from evoprune.evaluation.runner import StagedRunner
    from evoprune.families.placement import is_streamed
    from evoprune.families.stages import BATCH_TOKENS
    from evoprune.tasks.causal_lm import LOGITS_AT_ONCE, MIN_POSITIONS

    stages: Any = getattr(worker.runner, "stages", None)
    if not isinstance(worker.runner, StagedRunner) or not hasattr(stages, "vocabulary"):
        return Held(base, None)
    itemsize = next(worker.model.parameters()).element_size()
    sizes = arithmetic.Sizes.of(worker.table, stages.vocabulary, stages.n_blocks, itemsize)
    held = arithmetic.memory(
        sizes, BATCH_TOKENS, LOGITS_AT_ONCE, MIN_POSITIONS, tokens, boundary_mb
    )
    if not is_streamed(worker.family, worker.model):
        return Held(base, held)
    blocks = [sum(p.nbytes for p in one.parameters()) for one in worker.family.blocks(worker.model)]
    return Held(base, replace(held, weights=held.weights - sum(blocks) + max(blocks)))


def local_rows(held: Held) -> Rows:
    """Returns what this machine needs of memory."""
    weights = f"{gigabytes(held.base)} of weights, mapped once by all its workers"
    rows = [["memory, each machine", weights]]
    return rows + (memory_rows(held.memory)[:1] if held.memory is not None else [])


def disk_row(held: Held, n_eval: int, genes: int) -> list[str]:
    """Returns what a run folder takes, its models left out."""
    show, examples = gigabytes, held.memory.examples if held.memory else 0
    journal = arithmetic.journal_bytes(n_eval, genes)
    return ["disk", f"{show(held.base + examples)} and about {show(journal)} of journal"]


def scale_rows(held: Held, measured: "Timed", forecast: "Forecast", n_eval: int) -> Rows:
    """Returns what the search alone would take on many such workers, and a GPU's memory."""
    rows = memory_rows(held.memory)[1:] if held.memory is not None else []
    each = replace(measured.rate, workers=1.0).seconds(forecast.candidate())
    for workers in MANY:
        took = arithmetic.seconds(n_eval, forecast.together, each, workers)
        name = f"search with {workers} such worker{'s' if workers > 1 else ''}"
        rows.append([name, _arithmetic(duration(took))])
    return rows


def memory_rows(held: arithmetic.Memory) -> Rows:
    """Returns what one worker holds, on the CPU and with an accelerator."""
    show = gigabytes
    parts = (
        f"states {show(held.states)}, logits {show(held.logits)}, examples {show(held.examples)}"
    )
    cpu = f"{show(held.private)} beside the weights: process {show(arithmetic.PROCESS)}, {parts}"
    gpu = (
        f"{show(held.on_device)}: weights {show(held.weights)}, states {show(held.states)}, "
        f"logits {show(held.logits)}, context {show(arithmetic.CONTEXT)}"
    )
    return [
        ["memory, each worker", _arithmetic(cpu)],
        ["memory, each GPU worker", _arithmetic(gpu)],
    ]


def _arithmetic(text: str) -> str:
    return f"{text} (arithmetic, not measurement)"
