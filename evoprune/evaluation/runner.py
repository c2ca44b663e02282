"""Runs realised patterns over examples and gathers the tables of their passes.

A runner measures a batch of patterns: ``tables`` gives for each its tables, or what went wrong.
Networks in stages share ``StagedRunner``; a family that fits something for each candidate brings
a runner of its own (``family.runner``).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from evoprune.core.metrics import Table
from evoprune.core.pattern import Option
from evoprune.data.examples import Examples, Pass
from evoprune.evaluation.prefix import Path, Prefixes, alike, in_prefix_order, path_of
from evoprune.evaluation.realise import Realiser
from evoprune.families.stages import batches, embed, forward, token_batches
from evoprune.tasks.outputs import Outputs

if TYPE_CHECKING:
    import torch

Tables = dict[str, Table]


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
        stages: Any,
        task: Any,
        realiser: Realiser,
        device: str = "cpu",
        boundary_bytes: int = 0,
    ) -> None:
        self.stages, self.task, self.realiser, self.device = stages, task, realiser, device
        self.prefixes = Prefixes(stages, boundary_bytes)
        self.batch = AT_ONCE if boundary_bytes else 1

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
        """Returns the tables of each pattern, or the exception that it raised.

        All patterns run on one micro-batch before the next, so that no more than the states of one
        micro-batch are alive beside those that are kept.
        """
        import torch

        clean, paths = examples.clean, self._paths(options)
        order = alike(paths, in_prefix_order(paths))
        pieces: list[dict[str, list[np.ndarray]]] = [{} for _ in options]
        errors: dict[int, Exception] = {}
        slices = batches(len(clean), clean.arrays["tokens"].shape[1], boundaries)
        with torch.inference_mode():
            for rows in slices:
                batch = self._batch(clean, rows)
                walk = self.prefixes.walk(batch["tokens"], len(slices))
                for i, shared in order:
                    if i in errors:
                        continue
                    try:
                        with self.realiser.apply(options[i]) as realised:
                            features = walk.features(paths[i], realised.dropped, shared)
                            found = self.task.measure(self.stages, features, batch)
                    except Exception as error:  # whatever a model, a task or a plug-in may raise
                        errors[i] = error
                        continue
                    for name, column in found.items():
                        pieces[i].setdefault(name, []).append(column)
        return [errors.get(i) or table_of(found, clean.groups) for i, found in enumerate(pieces)]

    def _batch(self, one: Pass, rows: slice) -> dict[str, "torch.Tensor"]:
        """Returns a micro-batch of a pass, on the device."""
        import torch

        return {n: torch.from_numpy(a[rows]).to(self.device) for n, a in one.arrays.items()}

    def _paths(self, options: Sequence[Mapping[str, Option]]) -> list[Path]:
        """Returns what each pattern does to each block, by which beginnings are compared."""
        # A recovery may change an early block because of what a late one loses.
        return [path_of(self.stages, one, self.realiser.far_reaching) for one in options]

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
            batch = self._batch(clean, rows)
            mask, known = self.task.known(batch)
            features = [one[:, :-1][mask] for one in self._features(options, batch["tokens"])]
            at = mask.nonzero()[:, 0].cpu() + rows.start
            for part in torch.arange(len(at)).split(max(MIN_POSITIONS, size)):
                here = slice(int(part[0]), int(part[-1]) + 1)
                logits = torch.stack([self.stages.logits(one[here]) for one in features])
                kind = torch.promote_types(logits.dtype, torch.float32)
                some = {name: value[here] for name, value in known.items()}
                yield Outputs("clean", at[here], logits.to(kind), some)

    def _features(
        self, options: Sequence[Mapping[str, Option]], tokens: "torch.Tensor"
    ) -> list["torch.Tensor"]:
        """Returns what the head reads of each pattern (B, T, H)."""
        import torch

        found: dict[int, torch.Tensor] = {}
        paths = self._paths(options)
        walk = self.prefixes.walk(tokens, 1)
        with torch.no_grad():
            for i, shared in alike(paths, in_prefix_order(paths)):
                with self.realiser.apply(options[i]) as realised:
                    found[i] = walk.features(paths[i], realised.dropped, shared)
        return [found[i] for i in range(len(options))]

    def embedding(self, one: Pass) -> np.ndarray:
        """Returns the dense model's mean-pooled features (N, H)."""
        return embed(self.stages, one.arrays["tokens"], one.arrays["lengths"], self.device)


def table_of(pieces: Mapping[str, Sequence[np.ndarray]], groups: np.ndarray) -> Tables:
    """Returns the tables of a pattern from its columns by micro-batch."""
    columns = {name: np.concatenate(values) for name, values in sorted(pieces.items())}
    return {"clean": Table(columns, groups)}
