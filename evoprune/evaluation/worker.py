"""A worker: the resident model, and the measuring of one pattern after another."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from evoprune.config import Part, build
from evoprune.costs import CostTable
from evoprune.data.examples import Examples
from evoprune.evaluation.rank import ADAPT_FILE
from evoprune.evaluation.runner import make_runner
from evoprune.families.load import read_placed
from evoprune.metrics import Table
from evoprune.pattern import Pattern
from evoprune.protocols import Evaluation, TableObjective
from evoprune.recover.adapt import Adapt
from evoprune.registry import ADAPTS, FAMILIES, OBJECTIVES, TASKS, load_plugin
from evoprune.space import Space

# How torch says that memory ran out, on an accelerator and on the CPU.
OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "memoryerror",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
)
# How it says that the accelerator is lost to this process: everything after it fails as well.
DEVICE_LOST = ("cuda error", "acceleratorerror", "cublas_status", "cudnn_status", "hip error")


class DeviceLost(RuntimeError):
    """An accelerator that this process can no longer use; another process may."""


class _Timed:
    """A task whose measuring is timed; all else is the task's own.

    Args:
        task: the task.
        device: where the network runs.
    """

    def __init__(self, task: Any, device: str) -> None:
        self._task, self._gpu, self.seconds = task, device.startswith("cuda"), 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def measure(self, *args: Any, **options: Any) -> Any:
        """Returns what the task measures."""
        if self._gpu:
            import torch

            torch.cuda.synchronize()  # what the network still has to do is not measuring
        began = time.perf_counter()
        try:
            return self._task.measure(*args, **options)
        finally:
            self.seconds += time.perf_counter() - began


@dataclass(frozen=True)
class WorkerSpec:
    """All a worker needs to know; it finds the rest in the run folder.

    Attributes:
        folder: the run folder, on storage that every worker reads.
        space: the space as JSON.
        task: the task's type and options.
        objectives: the table objectives to measure, by type and options.
        functions: those of them that are functions of the driver's process, by name.
        required: those that a pattern must have a value of; the others are only reported.
        family: the family's name.
        rungs: sizes of the rungs, ascending; the last is the calibration set.
        context: tokens in an example, which the FLOPs of attention depend on.
        dtype, device, device_map, threads: how the model is run.
        boundary_mb: of states between blocks that are kept for candidates that begin alike.
        trust_remote_code: whether the model's own code may be run.
        plugins: files to run first.
        adapt: the recovery that is part of every evaluation, by type and options.
    """

    folder: str
    space: Mapping[str, Any]
    task: Mapping[str, Any]
    objectives: Sequence[Mapping[str, Any]]
    required: tuple[str, ...]
    family: str
    rungs: tuple[int, ...]
    context: int = 1
    dtype: str = "float32"
    device: str = "cpu"
    threads: int = 1
    boundary_mb: int = 256
    trust_remote_code: bool = False
    plugins: tuple[str, ...] = field(default=())
    adapt: Mapping[str, Any] | None = None
    functions: Mapping[str, Any] = field(default_factory=dict)
    device_map: str | None = None


def cost_table(
    family: Any, model: Any, context: int, adapt: Mapping[str, Any] | None = None
) -> CostTable:
    """Returns a model's cost table, with the tensors that a recovery adds."""
    table: CostTable = family.table(model, context)
    if adapt is None:
        return table
    made = build(ADAPTS, Part.model_validate(dict(adapt)))
    return CostTable((*table.rows, *made.rows(table)))


class Worker:
    """Evaluates patterns with a model of its own."""

    def __init__(self, spec: WorkerSpec) -> None:
        import torch

        torch.set_num_threads(spec.threads)
        for plugin in spec.plugins:
            load_plugin(plugin)
        self.spec = spec
        self.folder = Path(spec.folder)
        self.space = Space.from_json(spec.space)
        self.task = build(TASKS, Part.model_validate(dict(spec.task)))
        self.objectives: dict[str, TableObjective] = {
            part["type"]: spec.functions.get(part["type"])
            or build(OBJECTIVES, Part.model_validate(dict(part)))
            for part in spec.objectives
        }
        self.family = FAMILIES.load(spec.family)()
        self.model = read_placed(
            self.family,
            self.folder / "ranks",
            spec.dtype,
            spec.device,
            spec.device_map,
            spec.trust_remote_code,
        )
        self._examples: dict[str, Examples] = {}
        self.table = cost_table(self.family, self.model, spec.context, spec.adapt)
        self._timed = _Timed(self.task, spec.device)
        self.runner = make_runner(
            self.family,
            self.model,
            self._timed,
            self.table,
            spec.device,
            self._adapt(),
            boundary_bytes=spec.boundary_mb << 20,
        )
        self._dense_flops = float(self._flops(self.space.dense))

    def _adapt(self) -> tuple[Adapt, Mapping[str, np.ndarray]] | None:
        """Returns the recovery, with what it kept of the dense model."""
        if self.spec.adapt is None:
            return None
        from safetensors.numpy import load_file

        adapt = build(ADAPTS, Part.model_validate(dict(self.spec.adapt)))
        file = self.folder / "ranks" / ADAPT_FILE
        # A space that only drops whole sites gives it nothing to keep.
        return adapt, load_file(file) if file.is_file() else {}

    def examples(self, split: str) -> Examples:
        """Returns the examples of a split, mapped on first use."""
        if split not in self._examples:
            path = self.folder / "calibration" / f"{split}.safetensors"
            self._examples[split] = Examples.load(path)
        return self._examples[split]

    def _flops(self, pattern: Pattern) -> float:
        X = self.space.encode([pattern])
        return float(self.table.cost("flops", self.space, X)[0])

    def evaluate(
        self, pattern: Pattern, split: str = "search", rung: int = -1, keep: bool = False
    ) -> Evaluation:
        """Returns one pattern's evaluation (``evaluate_batch``)."""
        return self.evaluate_batch([pattern], split, rung, keep)[0]

    def evaluate_batch(
        self, patterns: Sequence[Pattern], split: str = "search", rung: int = -1, keep: bool = False
    ) -> list[Evaluation]:
        """Returns patterns' evaluations; one that fails has its error.

        Args:
            patterns: which; the runner says how many it likes at once (``runner.batch``).
            split: on which examples.
            rung: on which slice of them; -1 for all.
            keep: whether tables come back.
        """
        start = time.perf_counter()
        examples = self.examples(split)
        rungs = self.spec.rungs if split == "search" else ()
        if rungs and rung >= 0:
            examples = examples.first(rungs[rung])
        options = [self.space.options(pattern) for pattern in patterns]
        began, self._timed.seconds = time.perf_counter(), 0.0
        outcomes = self.runner.tables(options, examples, rungs)
        ended, measuring = time.perf_counter(), self._timed.seconds
        made = [
            self._judge(pattern, outcome, examples)
            for pattern, outcome in zip(patterns, outcomes, strict=True)
        ]
        if any(one.cause == "memory" for one in made):
            self._free()
            if len(patterns) > 1:  # one by one they may fit
                return [self.evaluate(pattern, split, rung, keep) for pattern in patterns]
        now, share = time.perf_counter(), 1 / max(1, len(patterns))
        return [
            replace(
                one,
                split=split,
                rung=rung,
                seconds=(now - start) * share,
                model_seconds=(ended - began - measuring) * share,
                metric_seconds=(now - ended + measuring) * share,
                tokens=examples.work * self._flops(one.pattern) / self._dense_flops,
                tables=one.tables if keep else {},
            )
            for one in made
        ]

    def _free(self) -> None:
        """Gives back what an accelerator keeps for later."""
        if self.spec.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()

    def _judge(
        self, pattern: Pattern, outcome: dict[str, Table] | Exception, examples: Examples
    ) -> Evaluation:
        """Returns the objectives of a pattern's tables, or why it has none.

        Raises:
            DeviceLost: the pattern may not be to blame, and none after it can be evaluated here.
        """
        blank = Evaluation(pattern, "", -1)
        try:
            if isinstance(outcome, Exception):
                raise outcome
            values = {
                name: float(objective.value(outcome, examples.dense))
                for name, objective in self.objectives.items()
            }
        except Exception as caught:  # whatever a model, a task or a plug-in may raise
            error = f"{type(caught).__name__}: {' '.join(str(caught).split())[:300]}"
            if any(words in error.lower() for words in OUT_OF_MEMORY):
                return replace(blank, error=error, failure="transient", cause="memory")
            if any(words in error.lower() for words in DEVICE_LOST):
                raise DeviceLost(error) from caught
            return replace(blank, error=error, failure="deterministic")
        broken = _broken(outcome, {name: values[name] for name in self.spec.required})
        if broken:
            return replace(blank, error=broken, failure="deterministic")
        return replace(blank, values=values, tables=outcome)


def _broken(found: Mapping[str, Table], values: Mapping[str, float]) -> str | None:
    """Returns what a broken network shows itself by, None if nothing.

    Columns are looked at as well: accuracy is still a number where all logits are NaN.
    """
    for table in found.values():
        for name, column in table.columns.items():
            if np.isnan(column).any():
                return f"{name} is nan for {int(np.isnan(column).sum())} examples"
    # Perplexity may overflow where the likelihood itself is still a number.
    broken = [n for n, value in values.items() if math.isnan(value) or value == -math.inf]
    return f"{broken[0]} is {values[broken[0]]}" if broken else None
