"""What waits to be evaluated: the costliest first, and what killed its workers last and alone.

Candidates that stand together in a request begin alike, so a batch is taken from one place of it.
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from evoprune.core.pattern import Pattern

# A candidate that was in flight at so many deaths is run last, alone.
DEATHS = 2
# A batch costs at most this part of what each worker still has before it, so that the last
# batches are short.
PARTS = 4


@dataclass(frozen=True)
class Batch:
    """Candidates that one worker is given at once.

    Attributes:
        members: their places in the request.
        patterns: themselves.
        cost: of all of them, in dense passes.
        single: whether it is one candidate that a worker may have died of: nothing waits behind it.
        alone: whether nothing else may be in flight at all.
    """

    members: tuple[int, ...]
    patterns: tuple[Pattern, ...]
    cost: float
    single: bool = False
    alone: bool = False


class Queue:
    """The candidates of a request that wait.

    Whoever is free takes from this one queue, so that no work has to be stolen back.

    Args:
        patterns: the candidates.
        costs: of each, in any unit (P,).
        batch: how many candidates a worker likes at once.

    Attributes:
        cost: of all that waits, but for what waits to be run alone.
        whole: whether each worker gets its share at once instead of a part of it.
    """

    def __init__(self, patterns: Sequence[Pattern], costs: np.ndarray, batch: int = 1) -> None:
        self._patterns, self._costs, self.batch = patterns, costs, batch
        self.cost, self.whole = 0.0, False
        # What waits, the costliest first; an entry of what was taken is dropped when it is on top.
        self._waits: set[int] = set()
        self._heap: list[tuple[float, int]] = []
        for i in range(len(patterns)):
            self._push(i)
        self._deaths: Counter[int] = Counter()
        self._single: set[int] = set()
        self._alone: list[int] = []

    def _push(self, i: int) -> None:
        # Ties by place, so that the order is fixed.
        heapq.heappush(self._heap, (-float(self._costs[i]), i))
        self._waits.add(i)
        self.cost += float(self._costs[i])

    def _take(self, i: int) -> int:
        self._waits.remove(i)
        self.cost -= float(self._costs[i])
        while self._heap and self._heap[0][1] not in self._waits:
            heapq.heappop(self._heap)
        return i

    def __len__(self) -> int:
        return len(self._waits) + len(self._alone)

    @property
    def single(self) -> bool:
        """Whether what comes next is given out as a ``single``."""
        return bool(self._heap) and self._heap[0][1] in self._single

    def take(self, workers: int) -> Batch | None:
        """Returns what the next free worker is given, None if nothing waits but what runs alone.

        Args:
            workers: how many there are.
        """
        if not self._heap:
            return None
        limit = self.cost / (workers if self.whole else PARTS * workers)
        first = self._take(self._heap[0][1])
        members = [first]
        if first not in self._single:
            members += self._beside(first, limit)
        return self._batch(sorted(members))

    def _beside(self, first: int, limit: float) -> Iterator[int]:
        """Takes the candidates around one, as many as a batch may hold."""
        spent, count, ends, step = float(self._costs[first]), 1, {1: first, -1: first}, 1
        while ends and count < self.batch:
            at = ends.get(step, first) + step
            fits = at in self._waits and at not in self._single
            if step in ends and fits and spent + self._costs[at] <= limit:
                spent, count, ends[step] = spent + float(self._costs[at]), count + 1, at
                yield self._take(at)
            else:
                ends.pop(step, None)
            step = -step

    def take_alone(self) -> Batch | None:
        """Returns a candidate to run while nothing else is in flight, None if there is none."""
        return self._batch([self._alone.pop(0)], alone=True) if self._alone else None

    def _batch(self, members: Sequence[int], alone: bool = False) -> Batch:
        patterns = tuple(self._patterns[i] for i in members)
        cost, single = float(self._costs[list(members)].sum()), members[0] in self._single
        return Batch(tuple(members), patterns, cost, single, alone)

    def put_back(self, batch: Batch) -> None:
        """Takes back a batch that was lost and is not to blame for it."""
        if batch.alone:
            self._alone[:0] = batch.members
            return
        for i in batch.members:
            self._push(i)

    def split(self, batch: Batch) -> None:
        """Takes back a batch to send its candidates one by one."""
        self._single.update(batch.members)
        self.put_back(batch)

    def died(self, batch: Batch) -> tuple[Pattern, ...]:
        """Takes back a batch that was in flight when its worker died.

        Returns:
            The candidates that wait to be run alone from now on.
        """
        self._deaths.update(batch.members)
        self._single.update(batch.members)
        strikes = [i for i in batch.members if self._deaths[i] >= DEATHS]
        self._alone += strikes
        for i in sorted(set(batch.members) - set(strikes)):
            self._push(i)
        return tuple(self._patterns[i] for i in strikes)
