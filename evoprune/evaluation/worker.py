"""A worker: the resident model, and the measuring of one pattern after another."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from evoprune.config.parts import build
from evoprune.config.sections import Part
from evoprune.core.costs import CostTable
from evoprune.core.metrics import Table
from evoprune.core.pattern import Pattern
from evoprune.core.protocols import Evaluation, TableObjective
from evoprune.core.registry import ADAPTS, FAMILIES, OBJECTIVES, TASKS, load_plugin
from evoprune.core.space import Space
from evoprune.data.examples import Examples, thin_file
from evoprune.evaluation.rank import ADAPT_FILE
from evoprune.evaluation.runner import Tables
from evoprune.evaluation.runners import make_runner
from evoprune.families.load import read_placed
from evoprune.recover.adapt import Adapt

NOTHING_BEGUN: Mapping[str, Mapping[str, Table]] = MappingProxyType({})
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
        positions: for each of them how many positions of an example are scored; None for all.
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
    boundary_mb: int = 512
    trust_remote_code: bool = False
    plugins: tuple[str, ...] = field(default=())
    adapt: Mapping[str, Any] | None = None
    functions: Mapping[str, Any] = field(default_factory=dict)
    device_map: str | None = None
    positions: tuple[int | None, ...] = ()


def cost_table(
    family: Any, model: Any, context: int, adapt: Mapping[str, Any] | None = None
) -> CostTable:
    """Returns a model's cost table, with the tensors that a recovery adds."""
    table: CostTable = family.table(model, context)
    if adapt is None:
        return table
    made = build(ADAPTS, Part.model_validate(dict(adapt)))
    return CostTable((*table.rows, *made.rows(table)))


@dataclass(frozen=True)
class _Slice:
    """What a rung scores: examples, and the share of their positions that counts."""

    examples: Examples
    scored: float = 1.0


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
        self.model = read_placed(self.family, self.folder / "ranks", spec)
        self._examples: dict[str, Examples] = {}
        self._slices: dict[tuple[str, int], _Slice] = {}
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
        # Of a plug-in that does not name what only scored positions go through all is counted.
        head = tuple(getattr(self.family, "head", ()))
        self._head = CostTable(tuple(r for r in self.table.rows if r.name.startswith(head)))
        self._dense_flops = self._flops(self.table, self.space.dense)

    @property
    def whole(self) -> bool:
        """Whether all patterns should be given at once, however long they take."""
        return bool(getattr(self.runner, "whole", False))

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

    def _slice(self, split: str, rung: int) -> "_Slice":
        """Returns what a rung scores of a split, cut on first use; -1 is all of it."""
        if (split, rung) not in self._slices:
            self._slices[split, rung] = self._cut(split, rung)
        return self._slices[split, rung]

    def _cut(self, split: str, rung: int) -> "_Slice":
        sizes = self.spec.rungs if split == "search" else ()
        if not sizes:
            return _Slice(self.examples(split))
        whole = self.examples(split).first(sizes[rung])
        positions = self.spec.positions[rung] if self.spec.positions else None
        if positions is None:
            return _Slice(whole)
        thin = Examples.load(self.folder / "calibration" / thin_file(positions))
        examples = whole.scored_at(thin.first(sizes[rung]))
        scored, all_of_them = (
            float(one.dense["clean"].columns["n"].sum()) for one in (examples, whole)
        )
        return _Slice(examples, scored / all_of_them if all_of_them else 1.0)

    def _flops(self, table: CostTable, pattern: Pattern) -> float:
        X = self.space.encode([pattern])
        return float(table.cost("flops", self.space, X)[0])

    def tokens(self, pattern: Pattern, split: str = "search", rung: int = -1) -> float:
        """Returns the dense-equivalent tokens (or images) of a pattern at a rung, from nothing.

        Where fewer positions are scored, the head counts for as many as it is run on.
        """
        cut = self._slice(split, rung)
        unscored = (1 - cut.scored) * self._flops(self._head, pattern)
        flops = self._flops(self.table, pattern) - unscored
        return cut.examples.work * flops / self._dense_flops

    def evaluate(
        self, pattern: Pattern, split: str = "search", rung: int = -1, keep: bool = False
    ) -> Evaluation:
        """Returns one pattern's evaluation (``evaluate_batch``)."""
        return self.evaluate_batch([pattern], split, rung, keep)[0]

    def evaluate_batch(
        self,
        patterns: Sequence[Pattern],
        split: str = "search",
        rung: int = -1,
        keep: bool = False,
        begun: Mapping[str, Mapping[str, Table]] = NOTHING_BEGUN,
    ) -> list[Evaluation]:
        """Returns patterns' evaluations; one that fails has its error.

        Args:
            patterns: which; the runner says how many it likes at once (``runner.batch``).
            split: on which examples.
            rung: on which slice of them; -1 for all.
            keep: whether tables come back.
            begun: tables of a pattern's first rows, by its id; only the others are measured.
        """
        start = time.perf_counter()
        examples = self._slice(split, rung).examples
        began, self._timed.seconds = time.perf_counter(), 0.0
        outcomes = self._outcomes(patterns, examples, split, begun)
        ended, measuring = time.perf_counter(), self._timed.seconds
        made = [
            self._judge(pattern, outcome, examples)
            for pattern, outcome in zip(patterns, outcomes, strict=True)
        ]
        if any(one.cause == "memory" for one in made):
            self._free()
            if len(patterns) > 1:  # one by one they may fit
                return [self.evaluate_batch([p], split, rung, keep, begun)[0] for p in patterns]
        now, share = time.perf_counter(), 1 / max(1, len(patterns))
        return [
            replace(
                one,
                split=split,
                rung=rung,
                seconds=(now - start) * share,
                model_seconds=(ended - began - measuring) * share,
                metric_seconds=(now - ended + measuring) * share,
                tokens=self.tokens(one.pattern, split, rung),
                tables=one.tables if keep else {},
            )
            for one in made
        ]

    def _outcomes(
        self,
        patterns: Sequence[Pattern],
        examples: Examples,
        split: str,
        begun: Mapping[str, Mapping[str, Table]],
    ) -> list[Tables | Exception]:
        """Returns the tables of patterns, or what they raised, in order.

        Rows that a lower rung measured are taken from there: micro-batches end at every rung, so
        those that are measured after them are the same to the last bit.
        """
        # Of all examples, also where a rung reads the first of them only.
        ends = self.examples(split).boundaries(self.spec.rungs if split == "search" else ())
        lengths = {
            p.id: tuple((n, len(t)) for n, t in begun.get(p.id, {}).items()) for p in patterns
        }
        found: dict[str, Tables | Exception] = {}
        for done in dict.fromkeys(lengths.values()):
            here = [p for p in patterns if lengths[p.id] == done]
            options = [self.space.options(pattern) for pattern in here]
            counts = dict(done)
            rest = examples.after(counts) if counts else examples
            left = {
                name: [end - counts.get(name, 0) for end in of if end > counts.get(name, 0)]
                for name, of in ends.items()
            }
            outcomes = self.runner.tables(options, rest, left)
            for pattern, outcome in zip(here, outcomes, strict=True):
                found[pattern.id] = _joined(begun.get(pattern.id, {}), outcome)
        return [found[pattern.id] for pattern in patterns]

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
            values = {}
            for name, objective in self.objectives.items():
                try:
                    values[name] = float(objective.value(outcome, examples.dense))
                except KeyError:
                    # A column beside the objectives may read what this network does not say, or a
                    # pass that these data do not make.
                    if name in self.spec.required:
                        raise
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


def _joined(begun: Mapping[str, Table], outcome: Tables | Exception) -> Tables | Exception:
    """Returns tables with the rows that were measured before in front."""
    if isinstance(outcome, Exception) or not begun:
        return outcome
    return {name: Table.concat([begun[name], table]) for name, table in outcome.items()}


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
