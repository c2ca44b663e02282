"""Networks larger than the device: a block is brought there once for all patterns that wait.

Pattern by pattern every block would have to be fetched for every pattern. Here all patterns of a
batch, on as many micro-batches as fit, pass through a block before the next one is fetched; those
that begin alike are still run once. Micro-batches and kernels are those of the resident network,
so values are the same to the last bit.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from evoprune.core.errors import ModelError
from evoprune.core.networks import Batch, HeadOutputs, Stages
from evoprune.data.examples import Pass
from evoprune.evaluation.prefix import Path, in_prefix_order, size_of
from evoprune.evaluation.realise import Realised, Realiser
from evoprune.evaluation.runner import Asked, StagedRunner
from evoprune.families.placement import visiting
from evoprune.families.stages import batch_of, batches

# Patterns that are given at once; the states of all of them are bounded, not their number.
AT_ONCE = 256


class StreamedRunner(StagedRunner):
    """Runs all patterns through a block before it fetches the next.

    Args:
        stages: the network's; with ``block_of``.
        task: what is measured.
        realiser: puts patterns into the network.
        blocks: the network's modules in order, as ``placement.streamed`` left them.
        device: where blocks are run.
        boundary_bytes: of states between two blocks that may be alive; at least two are.

    Attributes:
        sweeps: how often all blocks were fetched.

    Raises:
        ModelError: what a pattern does to one block cannot be told from the rest.
    """

    whole = True

    def __init__(
        self,
        stages: Stages,
        task: Any,
        realiser: Realiser,
        blocks: Sequence[Any],
        device: str = "cpu",
        boundary_bytes: int = 0,
    ) -> None:
        super().__init__(stages, task, realiser, device)
        if realiser.far_reaching or not hasattr(stages, "block_of"):
            raise ModelError(
                "`model.device_map: streamed` runs one block for all patterns, and here one block "
                "may change because of what another loses.",
                "Leave `adapt` or device_map out; a plug-in family needs stages with `block_of`, "
                "a plug-in recovery `local = True`.",
            )
        self._blocks, self._bound = blocks, boundary_bytes
        self.batch, self.sweeps = AT_ONCE, 0

    def _run(self, asked: Asked, name: str, one: Pass, ends: Sequence[int]) -> None:
        """Runs all patterns over one pass."""
        slices = batches(len(one), self.stages.positions(one.arrays), ends)
        for members, rows in self._groups(in_prefix_order(asked.paths), slices, one):
            try:
                many = [batch_of(one.arrays, some, self.device) for some in rows]
                self._sweep(asked, name, members, many)
            except Exception as error:  # a block that does not fit, say
                asked.errors.update(dict.fromkeys(members, error))

    def _groups(
        self, order: Sequence[int], slices: Sequence[slice], one: Pass
    ) -> Iterator[tuple[Sequence[int], Sequence[slice]]]:
        """Yields patterns and micro-batches for one sweep each, as many as the bound lets live."""
        # The first micro-batch is the largest: only a rung's last one is shorter.
        first = batch_of(one.arrays, slices[0], self.device)
        # One more is alive while it is made.
        room = max(1, self._bound // max(1, size_of(self.stages.begin(first))) - 1)
        n_rows = max(1, room // len(order))
        n_members = max(1, room // n_rows)
        for start in range(0, len(order), n_members):
            for at in range(0, len(slices), n_rows):
                yield order[start : start + n_members], slices[at : at + n_rows]

    def _sweep(
        self,
        asked: Asked,
        name: str,
        members: Sequence[int],
        many: Sequence[Batch],
    ) -> None:
        """Runs patterns on micro-batches from the first block to the head."""
        self.sweeps += 1
        states: list[dict[Path, Any]] = [{(): self.stages.begin(one)} for one in many]
        for index, block in enumerate(self._blocks):
            going = [i for i in members if i not in asked.errors]
            with visiting(block):
                for at in states:
                    self._through(asked, going, index, at)
        for batch, at in zip(many, states, strict=True):
            self._measure(asked, name, members, batch, at)

    def _through(
        self, asked: Asked, members: Sequence[int], index: int, states: dict[Path, Any]
    ) -> None:
        """Replaces the states before a block (by beginning) by those after it."""
        for before, family in groupby(members, key=lambda i: asked.paths[i][:index]):
            state = states.pop(before)
            for after, alike in groupby(family, key=lambda i: asked.paths[i][: index + 1]):
                same = list(alike)
                try:
                    found = self._block(asked.realised(self.realiser, same[0], index), index, state)
                except Exception as error:  # whatever a model or a plug-in may raise
                    asked.errors.update(dict.fromkeys(same, error))
                    continue
                states[after] = found
                if found is not state:
                    self.prefixes.executed += 1
                    self.prefixes.asked += len(same)

    def _block(self, inside: Realised, index: int, state: Any) -> Any:
        """Returns the state after a block.

        Args:
            inside: what the pattern does in the block.
            index: of the block.
            state: before it.
        """
        with self.realiser.apply(inside) as realised:
            return self.stages.block(index, state, realised.dropped)

    def _measure(
        self,
        asked: Asked,
        name: str,
        members: Sequence[int],
        batch: Batch,
        states: dict[Path, Any],
    ) -> None:
        for i in members:
            if i in asked.errors:
                continue
            try:
                features = self.stages.features(states[asked.paths[i]])
                found = self.task.measure(HeadOutputs(self.stages, features), batch)
            except Exception as error:  # whatever a task or a plug-in may raise
                asked.errors[i] = error
                continue
            asked.add(i, name, found)
