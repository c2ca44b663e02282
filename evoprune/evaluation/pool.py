"""Keeps workers busy and survives them: who is given what, who died, what is sent again.

Nothing here knows what a worker is. A ``Crew`` starts and ends workers and reports what they did:
Ray actors (``ray_pool``), or made-up ones in tests.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from evoprune.core.errors import EvopruneError
from evoprune.core.pattern import Pattern
from evoprune.core.protocols import Cause, Evaluation, Request
from evoprune.evaluation.queue import Batch, Queue
from evoprune.evaluation.tally import Tally, Work

# Batches at a worker: one is evaluated while the next already waits there.
IN_FLIGHT = 2
# Seconds after which the pool looks up: for overdue candidates and for room for more workers.
TICK = 1.0
# Workers that may fail to start, or die one after the other with nothing finished in between.
FAILED_STARTS = 3
# Seconds before a place where a worker could not start is tried again, while others work.
REST = 30.0
DEATHS_IN_A_ROW = 12

Costs = Callable[[Sequence[Pattern]], np.ndarray]
Say = Callable[[str], None]
Show = Callable[[Sequence[Work]], None]


@dataclass(frozen=True)
class Ready:
    """A worker says that it holds the model.

    Attributes:
        batch: how many candidates it likes at once.
        place: where it runs, for people.
        pid: its process.
        whole: whether it should get all of them at once, however long they take.
    """

    batch: int
    place: str
    pid: int
    whole: bool = False


@dataclass(frozen=True)
class Done:
    """A worker has evaluated the batch that it was given first.

    Attributes:
        evaluations: of its candidates.
        seconds: it was at them.
        memory: bytes that it held at most so far.
    """

    evaluations: Sequence[Evaluation]
    seconds: float
    memory: int = 0


@dataclass(frozen=True)
class Died:
    """A worker is no more, or cannot go on.

    Attributes:
        why: in words.
        cause: ``memory`` or ``crash``; None if what it was at cannot be to blame (its node was
            lost).
        error: what to stop the search with, where another worker would meet it as well.
    """

    why: str
    cause: Cause | None = "crash"
    error: EvopruneError | None = None


class Crew(Protocol):
    """Starts workers, gives them batches, and reports what became of both."""

    def wanted(self) -> int:
        """Returns how many workers there should be now."""
        ...

    def start(self) -> Any:
        """Returns a new worker, which reports ``Ready`` when there is room for it."""
        ...

    def send(self, worker: Any, patterns: Sequence[Pattern], request: Request) -> None:
        """Gives a worker a batch; it does its batches in order."""
        ...

    def reports(self, seconds: float) -> list[tuple[Any, Ready | Done | Died]]:
        """Returns what happened, or nothing once so many seconds have passed.

        What a worker finished before it died is reported before its death.
        """
        ...

    def end(self, worker: Any) -> None:
        """Ends a worker, whatever it is at; nothing more is reported of it."""
        ...

    def close(self) -> None:
        """Ends all of them."""
        ...


@dataclass
class Slot:
    """The place of a worker, which another one takes when it dies.

    Attributes:
        worker: who has it now; None before it is started.
        ready: what the worker said of itself; None until it holds the model.
        jobs: what it was given and has not finished, in order.
        since: when it began with the first of them.
        work: what was done here.
        rests_until: when another worker may be started here.
    """

    work: Work
    worker: Any = None
    ready: Ready | None = None
    jobs: deque[Batch] = field(default_factory=deque)
    since: float = 0.0
    rests_until: float = 0.0


class Pool:
    """Evaluates with a crew of workers.

    Args:
        crew: starts and ends the workers.
        costs: returns what candidates cost, in dense passes.
        timeout_s: seconds that a candidate may take; None for no bound.
        say: told what a person should know.
        clock: seconds that only grow.
        show: shown what the workers have done, whenever that changed.
    """

    def __init__(
        self,
        crew: Crew,
        costs: Costs,
        timeout_s: float | None = None,
        say: Say = lambda line: None,
        clock: Callable[[], float] = time.monotonic,
        show: Show = lambda workers: None,
    ) -> None:
        self._crew, self._costs, self._timeout = crew, costs, timeout_s
        self._say, self._clock, self._show = say, clock, show
        self._failed_starts = self._deaths = 0
        self._asked = self._looked = clock()
        self._told = False
        self._tally = Tally(say)
        self.slots: list[Slot] = []
        self.wall = 0.0

    def evaluate(self, request: Request) -> Iterator[Evaluation]:
        """Yields evaluations as they finish, the costliest candidates begun first.

        Raises:
            EvopruneError: no worker can be started, or they die one after the other.
        """
        queue = Queue(request.patterns, self._costs(request.patterns))
        self._looked, began = self._clock(), self._clock()
        try:
            while True:
                self._hire()
                self._dispatch(queue, request)
                working = any(slot.jobs for slot in self.slots)
                if not working and (request.stopping() or not len(queue)):
                    return
                for worker, report in self._crew.reports(TICK):
                    slot = next((s for s in self.slots if s.worker == worker), None)
                    if slot is not None:
                        yield from self._take(slot, report, queue, request)
                self._account()
                yield from self._overdue(queue, request)
                self._show([slot.work for slot in self.slots])
        finally:
            self.wall += self._clock() - began
            for slot in self.slots:
                if slot.jobs:  # whoever asked for them is gone
                    slot.jobs.clear()
                    self._dismiss(slot)

    def _account(self) -> None:
        """Counts the time in which workers could have worked."""
        now = self._clock()
        for slot in self.slots:
            slot.work.available += now - self._looked if slot.ready else 0.0
        self._looked = now

    def _hire(self) -> None:
        """Starts workers until there are as many as there should be."""
        wanted = self._crew.wanted()
        while len(self.slots) < wanted:
            self.slots.append(Slot(Work(len(self.slots) + 1)))
        missing = wanted - sum(slot.worker is not None for slot in self.slots)
        for slot in self.slots:
            if missing > 0 and slot.worker is None and slot.rests_until <= self._clock():
                slot.worker = self._crew.start()
                missing -= 1
        waits = not any(slot.ready for slot in self.slots)
        if waits and not self._told and self._clock() - self._asked > 60:
            self._told = True
            self._say("workers   none has started for a minute; waiting for room in the cluster")

    def _dispatch(self, queue: Queue, request: Request) -> None:
        """Gives out what waits; nothing once the search shall stop."""
        ready = [slot for slot in self.slots if slot.ready]
        if not ready or request.stopping():
            return
        queue.batch = max(slot.ready.batch for slot in ready if slot.ready)
        queue.whole = any(slot.ready.whole for slot in ready if slot.ready)
        for depth in range(IN_FLIGHT):
            for slot in ready:
                if len(slot.jobs) > depth or request.stopping():
                    continue
                # A second one only where the others have enough to do until it is begun.
                before = sum(job.cost for job in slot.jobs)
                if depth and queue.cost < 2 * len(ready) * before:
                    continue
                if slot.jobs and (slot.jobs[0].single or queue.single):
                    continue
                if any(job.alone for other in ready for job in other.jobs):
                    return
                free = sum(len(other.jobs) <= depth for other in ready)
                batch = queue.take(free if queue.whole else len(ready))
                if batch is not None:
                    self._send(slot, batch, request)
        if not any(slot.jobs for slot in ready) and not request.stopping():
            alone = queue.take_alone()
            if alone is not None:
                self._send(ready[0], alone, request)

    def _send(self, slot: Slot, batch: Batch, request: Request) -> None:
        if not slot.jobs:
            slot.since = self._clock()
        slot.jobs.append(batch)
        self._crew.send(slot.worker, batch.patterns, request)

    def _take(
        self, slot: Slot, report: Ready | Done | Died, queue: Queue, request: Request
    ) -> Iterator[Evaluation]:
        if isinstance(report, Ready):
            slot.ready, self._failed_starts = report, 0
            slot.work.place = f"{report.place}, process {report.pid}"
            if slot.work.restarts:
                self._say(f"workers   worker {slot.work.number} is back: {slot.work.place}")
        elif isinstance(report, Done):
            slot.jobs.popleft()
            slot.since, self._deaths = self._clock(), 0
            slot.work.candidates += len(report.evaluations)
            slot.work.seconds += report.seconds
            slot.work.memory = max(slot.work.memory, report.memory)
            self._tally.add(report.evaluations)
            # What is done is only told once its worker has something new to do.
            self._dispatch(queue, request)
            yield from report.evaluations
        else:
            yield from self._mourn(slot, report, queue, request)

    def _mourn(
        self, slot: Slot, report: Died, queue: Queue, request: Request
    ) -> Iterator[Evaluation]:
        """Replaces a worker that died, and sends again what it was at."""
        if report.error is not None:
            raise report.error
        held, began = slot.ready is not None, list(slot.jobs)
        where = f" on {slot.ready.place}" if slot.ready else ""
        self._dismiss(slot)
        if not held:
            self._failed_starts += 1
            if any(other.ready for other in self.slots):
                slot.rests_until = self._clock() + REST
                self._say(f"workers   worker {slot.work.number} could not start: {report.why}")
            elif self._failed_starts >= FAILED_STARTS:
                raise EvopruneError(
                    f"The workers could not start: {report.why}.",
                    "Try workers.backend=local to see the failure in this process.",
                )
            return
        self._deaths += 1
        if self._deaths > DEATHS_IN_A_ROW + len(self.slots):
            raise EvopruneError(
                f"{self._deaths} workers in a row died, the last of this: {report.why}.",
                "Give each more memory or have fewer of them (workers.count), then give the same "
                "command again.",
            )
        lost = [pattern.id for job in began for pattern in job.patterns]
        more = f" and {len(lost) - 4} more" if len(lost) > 4 else ""
        again = f"; in flight were {', '.join(lost[:4])}{more}" if lost else ""
        self._say(f"workers   worker {slot.work.number}{where} died: {report.why}{again}")
        for job in began:
            if report.cause is None:
                queue.put_back(job)
            elif job.alone:
                yield from self._failed(job, request, report.cause, report.why)
            else:
                for pattern in queue.died(job):
                    self._say(
                        f"workers   {pattern.id} was in flight at two deaths: run last, alone"
                    )

    def _overdue(self, queue: Queue, request: Request) -> Iterator[Evaluation]:
        """Ends workers that take too long over a candidate."""
        if self._timeout is None:
            return
        for slot in self.slots:
            if not slot.jobs:
                continue
            first, bound = slot.jobs[0], self._timeout * len(slot.jobs[0].members)
            if self._clock() - slot.since <= bound:
                continue
            rest = list(slot.jobs)[1:]
            self._crew.end(slot.worker)
            self._dismiss(slot, ended=True)
            for job in rest:
                queue.put_back(job)
            if len(first.members) > 1:
                queue.split(first)  # which of them it was is not known
                continue
            why = f"it took longer than workers.timeout_s, {self._timeout:g} s"
            self._say(
                f"workers   worker {slot.work.number} was ended over {first.patterns[0].id}: {why}"
            )
            yield from self._failed(first, request, "timeout", why)

    def _failed(self, job: Batch, request: Request, cause: Cause, why: str) -> Iterator[Evaluation]:
        self._deaths = 0
        for pattern in job.patterns:
            yield Evaluation(
                pattern, request.split, request.rung, error=why, failure="transient", cause=cause
            )

    def _dismiss(self, slot: Slot, ended: bool = False) -> None:
        """Empties a slot; the next look around fills it again."""
        if not ended:
            self._crew.end(slot.worker)
        if slot.ready is not None:
            slot.work.restarts += 1
            slot.work.place += " (gone)"
        slot.worker = slot.ready = None
        slot.jobs.clear()

    def close(self) -> None:
        """Ends the workers, and says what they have done."""
        self._crew.close()
        self._tally.close([slot.work for slot in self.slots])
