"""Runs realised patterns over examples and gathers the tables of their passes.

A runner measures a batch of patterns: ``tables`` gives for each its tables, or what went wrong.
Networks in stages share ``StagedRunner``; a family that fits something for each candidate brings
a runner of its own (``family.runner``).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from evoprune.costs import CostTable
from evoprune.data.examples import Examples, Pass
from evoprune.evaluation.realise import Realiser
from evoprune.families.stages import NO_SITES, batches, embed, forward, token_batches
from evoprune.metrics import Table
from evoprune.pattern import Option
from evoprune.recover.adapt import Adapt
from evoprune.tasks.outputs import Outputs

if TYPE_CHECKING:
    import torch

Tables = dict[str, Table]


# Logits held at once for several patterns together, and the least positions.
OUTPUTS_AT_ONCE = 1 << 22
MIN_POSITIONS = 16


class Runner(Protocol):
    """Measures patterns with a resident network.

    ``batch`` is how many patterns it likes to be given at once. ``shared`` and ``frozen`` begin
    the names of the cost table's rows that patterns have in common: tensors that are stored once,
    and work that is done once, whatever the pattern.
    """

    batch: int
    shared: tuple[str, ...]
    frozen: tuple[str, ...]

    def reference(self, examples: Examples, boundaries: Sequence[int] = ()) -> Examples:
        """Returns the examples with what the task keeps of the dense model's outputs."""
        ...

    def tables(
        self,
        options: Sequence[Mapping[str, Option]],
        examples: Examples,
        boundaries: Sequence[int] = (),
    ) -> list[Tables | Exception]:
        """Returns the tables of each pattern, or the exception that it raised.

        Args:
            options: for each pattern the options of the sites that are not whole.
            examples: what to read.
            boundaries: sizes of rungs, which no micro-batch may cross.
        """
        ...

    def outputs(
        self, options: Sequence[Mapping[str, Option]], examples: Examples
    ) -> Iterator[Outputs]:
        """Yields the logits of all patterns, block by block, so that memory is bounded."""
        ...

    def embedding(self, one: Pass) -> np.ndarray:
        """Returns the examples' embeddings, by which they were clustered (N, D)."""
        ...


class StagedRunner:
    """Runs networks stage by stage, one pattern after another."""

    batch = 1
    shared: tuple[str, ...] = ("",)
    frozen: tuple[str, ...] = ()

    def __init__(
        self,
        stages: Any,
        task: Any,
        realiser: Realiser,
        device: str = "cpu",
    ) -> None:
        self.stages, self.task, self.realiser, self.device = stages, task, realiser, device

    def reference(self, examples: Examples, boundaries: Sequence[int] = ()) -> Examples:
        """Returns the examples with the task's reference of the dense model."""
        import torch

        clean = examples.clean
        pieces: dict[str, list[np.ndarray]] = {}
        with torch.inference_mode():
            for rows, batch in token_batches(clean.arrays["tokens"], self.device, boundaries):
                lengths = torch.from_numpy(clean.arrays["lengths"][rows])
                mask = self.task.positions(batch.cpu(), lengths)
                features = forward(self.stages, batch)
                found = self.task.reference(self.stages, features, mask.to(self.device))
                for name, value in found.items():
                    pieces.setdefault(name, []).append(value)
        more = {name: np.concatenate(values) for name, values in pieces.items()}
        return Examples({**examples.passes, "clean": clean.with_arrays(more)}, examples.dense)

    def tables(
        self,
        options: Sequence[Mapping[str, Option]],
        examples: Examples,
        boundaries: Sequence[int] = (),
    ) -> list[Tables | Exception]:
        """Returns the tables of each pattern, or the exception that it raised."""
        found: list[Tables | Exception] = []
        for one in options:
            try:
                with self.realiser.apply(one) as realised:
                    found.append(self._measure(examples, boundaries, realised.dropped))
            except Exception as error:  # whatever a model, a task or a plug-in may raise
                found.append(error)
        return found

    def _measure(
        self, examples: Examples, boundaries: Sequence[int], dropped: Collection[str] = NO_SITES
    ) -> Tables:
        """Returns the tables of the network as it is realised now."""
        import torch

        clean = examples.clean
        pieces: dict[str, list[np.ndarray]] = {}
        with torch.inference_mode():
            for rows in batches(len(clean), clean.arrays["tokens"].shape[1], boundaries):
                batch = {
                    name: torch.from_numpy(value[rows]).to(self.device)
                    for name, value in clean.arrays.items()
                }
                features = forward(self.stages, batch["tokens"], dropped)
                for name, column in self.task.measure(self.stages, features, batch).items():
                    pieces.setdefault(name, []).append(column)
        columns = {name: np.concatenate(values) for name, values in sorted(pieces.items())}
        return {"clean": Table(columns, clean.groups)}

    def outputs(
        self, options: Sequence[Mapping[str, Option]], examples: Examples
    ) -> Iterator[Outputs]:
        """Yields the logits of all patterns, some positions at a time.

        Every pattern runs through its blocks on one micro-batch, whose features are kept; the
        head, which no pattern cuts, is then run on a few positions for all of them.
        """
        import torch

        clean = examples.clean
        size = OUTPUTS_AT_ONCE // max(1, len(options) * int(self.stages.vocabulary))
        for rows in batches(len(clean), clean.arrays["tokens"].shape[1]):
            batch = {
                name: torch.from_numpy(value[rows]).to(self.device)
                for name, value in clean.arrays.items()
            }
            mask, known = self.task.known(batch)
            features = [self._features(one, batch["tokens"])[:, :-1][mask] for one in options]
            at = mask.nonzero()[:, 0].cpu() + rows.start
            for part in torch.arange(len(at)).split(max(MIN_POSITIONS, size)):
                here = slice(int(part[0]), int(part[-1]) + 1)
                logits = torch.stack([self.stages.logits(one[here]) for one in features])
                kind = torch.promote_types(logits.dtype, torch.float32)
                some = {name: value[here] for name, value in known.items()}
                yield Outputs("clean", at[here], logits.to(kind), some)

    def _features(self, one: Mapping[str, Option], tokens: "torch.Tensor") -> "torch.Tensor":
        """Returns what the head reads of a pattern (B, T, H)."""
        import torch

        with torch.no_grad(), self.realiser.apply(one) as realised:
            return forward(self.stages, tokens, realised.dropped)

    def embedding(self, one: Pass) -> np.ndarray:
        """Returns the dense model's mean-pooled features (N, H)."""
        return embed(self.stages, one.arrays["tokens"], one.arrays["lengths"], self.device)


def make_runner(
    family: Any,
    model: Any,
    task: Any,
    table: CostTable,
    device: str = "cpu",
    adapt: tuple[Adapt, Mapping[str, np.ndarray]] | None = None,
) -> Runner:
    """Returns the runner of a family's network."""
    if hasattr(family, "runner"):
        runner: Runner = family.runner(model, task, device)
        return runner
    return StagedRunner(family.stages(model), task, Realiser(model, table, adapt), device)
