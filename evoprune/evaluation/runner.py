"""Runs realised patterns over examples and gathers the tables of their passes.

A runner measures a batch of patterns: ``tables`` gives for each its tables, or what went wrong.
Networks in stages share ``StagedRunner``; a family that fits something for each candidate brings
a runner of its own (``family.runner``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from evoprune.core.metrics import Table
from evoprune.core.networks import Batch, Columns, HeadOutputs, Stages
from evoprune.core.pattern import Option
from evoprune.data.examples import Examples, Pass
from evoprune.evaluation.prefix import Path, Prefixes, alike, in_prefix_order, path_of
from evoprune.evaluation.realise import Realised, Realiser
from evoprune.families.stages import batch_of, batches, embed, forward, micro_batches
from evoprune.tasks.outputs import PatternLogits

if TYPE_CHECKING:
    import torch

Tables = dict[str, Table]


# By pass, the sizes of rungs; no micro-batch may cross them.
Boundaries = Mapping[str, Sequence[int]]
NO_BOUNDARIES: Boundaries = MappingProxyType({})
# Patterns that run over one micro-batch before the next.
AT_ONCE = 16
# Logits held at once for several patterns together, and the least positions.
OUTPUTS_AT_ONCE = 1 << 22
MIN_POSITIONS = 16


class Runner(Protocol):
    """Measures patterns with a resident network.

    ``batch`` is how many patterns it likes to be given at once; one with ``whole = True`` should
    get them all at once however long they take. ``shared`` and ``frozen`` begin the names of the
    cost table's rows that patterns have in common: tensors that are stored once, and work that is
    done once, whatever the pattern.
    """

    batch: int
    shared: tuple[str, ...]
    frozen: tuple[str, ...]

    def reference(self, examples: Examples, boundaries: Boundaries = NO_BOUNDARIES) -> Examples:
        """Returns the examples with what the task keeps of the dense model's outputs."""
        ...

    def tables(
        self,
        options: Sequence[Mapping[str, Option]],
        examples: Examples,
        boundaries: Boundaries = NO_BOUNDARIES,
    ) -> list[Tables | Exception]:
        """Returns the tables of each pattern, or the exception that it raised.

        Args:
            options: for each pattern the options of the sites that are not whole.
            examples: what to read.
            boundaries: sizes of rungs by pass, which no micro-batch may cross.
        """
        ...

    def outputs(
        self, options: Sequence[Mapping[str, Option]], examples: Examples
    ) -> Iterator[PatternLogits]:
        """Yields the logits of all patterns, block by block, so that memory is bounded."""
        ...

    def embedding(self, one: Pass) -> np.ndarray:
        """Returns the examples' embeddings, by which they were clustered (N, D)."""
        ...


class StagedRunner:
    """Runs networks stage by stage; what patterns share at their beginning is run once.

    Args:
        stages: the resident network's.
        task: what is measured.
        realiser: puts patterns into the network.
        device: where it runs.
        boundary_bytes: of states between blocks that are kept for later patterns; with 0 patterns
            are given one by one, and share nothing.
    """

    shared: tuple[str, ...] = ("",)
    frozen: tuple[str, ...] = ()

    def __init__(
        self,
        stages: Stages,
        task: Any,
        realiser: Realiser,
        device: str = "cpu",
        boundary_bytes: int = 0,
    ) -> None:
        self.stages, self.task, self.realiser, self.device = stages, task, realiser, device
        self.prefixes = Prefixes(stages, boundary_bytes)
        self.batch = AT_ONCE if boundary_bytes else 1

    def reference(self, examples: Examples, boundaries: Boundaries = NO_BOUNDARIES) -> Examples:
        """Returns the examples with the task's reference of the dense model."""
        import torch

        passes = {}
        with torch.inference_mode():
            for name, one in examples.passes.items():
                pieces: dict[str, list[np.ndarray]] = {}
                ends = boundaries.get(name, ())
                for _, batch in micro_batches(self.stages, one.arrays, self.device, ends):
                    outputs = HeadOutputs(self.stages, forward(self.stages, batch))
                    for column, value in self.task.reference(outputs, batch).items():
                        pieces.setdefault(column, []).append(value)
                more = {column: np.concatenate(values) for column, values in pieces.items()}
                passes[name] = one.with_arrays(more)
        return Examples(passes, examples.dense)

    def tables(
        self,
        options: Sequence[Mapping[str, Option]],
        examples: Examples,
        boundaries: Boundaries = NO_BOUNDARIES,
    ) -> list[Tables | Exception]:
        """Returns the tables of each pattern, or the exception that it raised.

        All patterns run on one micro-batch before the next, so that no more than the states of one
        micro-batch are alive beside those that are kept.
        """
        import torch

        asked = Asked.of(options, self._paths(options))
        with torch.inference_mode():
            for name, one in examples.passes.items():
                self._run(asked, name, one, boundaries.get(name, ()))
        return asked.tables(examples)

    def _run(self, asked: "Asked", name: str, one: Pass, ends: Sequence[int]) -> None:
        """Runs all patterns over one pass."""
        order = alike(asked.paths, in_prefix_order(asked.paths))
        slices = batches(len(one), self.stages.positions(one.arrays), ends)
        for rows in slices:
            batch = batch_of(one.arrays, rows, self.device)
            walk = self.prefixes.walk(batch, len(slices))
            for i, shared in order:
                if i in asked.errors:
                    continue
                try:
                    with self.realiser.apply(asked.realised(self.realiser, i)) as realised:
                        features = walk.features(asked.paths[i], realised.dropped, shared)
                        found = self.task.measure(HeadOutputs(self.stages, features), batch)
                except Exception as error:  # whatever a model, a task or a plug-in may raise
                    asked.errors[i] = error
                    continue
                asked.add(i, name, found)

    def _paths(self, options: Sequence[Mapping[str, Option]]) -> list[Path]:
        """Returns what each pattern does to each block, by which beginnings are compared."""
        # A recovery may change an early block because of what a late one loses.
        return [path_of(self.stages, one, self.realiser.far_reaching) for one in options]

    def outputs(
        self, options: Sequence[Mapping[str, Option]], examples: Examples
    ) -> Iterator[PatternLogits]:
        """Yields the logits of all patterns, some positions at a time.

        Every pattern runs through its blocks on one micro-batch, whose features are kept; the
        head, which no pattern cuts, is then run on a few positions for all of them.
        """
        import torch

        size = OUTPUTS_AT_ONCE // max(1, len(options) * int(self.stages.vocabulary))
        for name, one in examples.passes.items():
            for rows in batches(len(one), self.stages.positions(one.arrays)):
                batch = batch_of(one.arrays, rows, self.device)
                where, known = self.task.known(batch)
                features = [one[where] for one in self._features(options, batch)]  # (M, H) each
                at = where[0].cpu() + rows.start
                for part in torch.arange(len(at)).split(max(MIN_POSITIONS, size)):
                    here = slice(int(part[0]), int(part[-1]) + 1)
                    logits = torch.stack([self.stages.logits(some[here]) for some in features])
                    kind = torch.promote_types(logits.dtype, torch.float32)
                    scored = {column: value[here] for column, value in known.items()}
                    yield PatternLogits(name, at[here], logits.to(kind), scored)

    def _features(
        self, options: Sequence[Mapping[str, Option]], batch: Batch
    ) -> list["torch.Tensor"]:
        """Returns what the head reads of each pattern, (B, T, H) or (B, H)."""
        import torch

        found: dict[int, torch.Tensor] = {}
        paths = self._paths(options)
        walk = self.prefixes.walk(batch, 1)
        with torch.no_grad():
            for i, shared in alike(paths, in_prefix_order(paths)):
                with self.realiser.apply(options[i]) as realised:
                    found[i] = walk.features(paths[i], realised.dropped, shared)
        return [found[i] for i in range(len(options))]

    def embedding(self, one: Pass) -> np.ndarray:
        """Returns the dense model's mean-pooled features (N, H)."""
        return embed(self.stages, one.arrays, self.device)


@dataclass
class Asked:
    """Patterns while they are measured.

    Attributes:
        options: of each pattern the sites that are not whole.
        paths: what each does to each block.
        pieces: the columns measured of each so far, by pass and name, a piece a micro-batch.
        errors: what a pattern raised.
    """

    options: Sequence[Mapping[str, Option]]
    paths: Sequence[Path]
    pieces: list[dict[str, dict[str, list[np.ndarray]]]]
    errors: dict[int, Exception] = field(default_factory=dict)
    _realised: dict[tuple[int, int], Realised] = field(default_factory=dict)

    @classmethod
    def of(cls, options: Sequence[Mapping[str, Option]], paths: Sequence[Path]) -> "Asked":
        """Returns patterns of which nothing is measured yet."""
        return cls(options, paths, [{} for _ in options])

    def realised(self, realiser: Realiser, i: int, block: int = -1) -> Realised:
        """Returns what a pattern does, worked out on first use.

        Args:
            realiser: of the network.
            i: which pattern.
            block: only what it does inside a block, where patterns run block by block; -1: all.
        """
        if (i, block) not in self._realised:
            options = self.options[i] if block < 0 else dict(self.paths[i][block] or ())
            self._realised[i, block] = realiser.realised(options)
        return self._realised[i, block]

    def add(self, i: int, name: str, columns: Columns) -> None:
        """Takes in what a micro-batch of a pass says of a pattern."""
        pieces = self.pieces[i].setdefault(name, {})
        for column, values in columns.items():
            pieces.setdefault(column, []).append(values)

    def tables(self, examples: Examples) -> list[Tables | Exception]:
        """Returns the tables of each pattern, or the exception that it raised."""
        return [
            self.errors.get(i)
            or {
                name: table_of(pieces.get(name, {}), one.groups)
                for name, one in examples.passes.items()
            }
            for i, pieces in enumerate(self.pieces)
        ]


def table_of(pieces: Mapping[str, Sequence[np.ndarray]], groups: np.ndarray) -> Table:
    """Returns a table from its columns by micro-batch."""
    return Table({name: np.concatenate(found) for name, found in sorted(pieces.items())}, groups)
