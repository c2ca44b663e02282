"""What waits to be evaluated: the costliest first, and what killed its workers last and alone."""

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evoprune.pattern import Pattern

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
    """

    def __init__(self, patterns: Sequence[Pattern], costs: np.ndarray, batch: int = 1) -> None:
        self._patterns, self._costs, self.batch = patterns, costs, batch
        self.cost = 0.0
        self._heap: list[tuple[float, int]] = []
        for i in range(len(patterns)):
            self._push(i)
        self._deaths: Counter[int] = Counter()
        self._single: set[int] = set()
        self._alone: list[int] = []

    def _push(self, i: int) -> None:
        # Ties by place, so that the order is fixed.
        heapq.heappush(self._heap, (-float(self._costs[i]), i))
        self.cost += float(self._costs[i])

    def _pop(self) -> int:
        cost, i = heapq.heappop(self._heap)
        self.cost += cost
        return i

    def __len__(self) -> int:
        return len(self._heap) + len(self._alone)

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
        limit, members = self.cost / (PARTS * workers), [self._pop()]
        spent = float(self._costs[members[0]])
        while self._heap and len(members) < self.batch and members[0] not in self._single:
            cost, following = self._heap[0]
            if following in self._single or spent - cost > limit:
                break
            spent -= cost
            members.append(self._pop())
        return self._batch(members)

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
