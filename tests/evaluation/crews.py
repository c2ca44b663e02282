"""A crew of made-up workers in made-up time, for tests of the pool."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from evoprune.core.pattern import Pattern
from evoprune.core.protocols import Evaluation, Request
from evoprune.evaluation.pool import Died, Done, Ready

START = 3.0


@dataclass
class Made:
    """A worker: when it is ready, and what it has been given."""

    number: int
    ready: float
    told: bool = False
    free: float = 0.0
    jobs: list[tuple[float, tuple[Pattern, ...], Request]] = field(default_factory=list)


@dataclass
class MadeCrew:
    """Workers that take ``seconds(pattern)`` for a pattern, and die as they are told to.

    Attributes:
        seconds: of a pattern.
        kills: patterns that always kill their worker.
        deaths: times at which the oldest busy worker dies.
        lost: those of the deaths at which it is the node that is lost.
        room: how many workers there should be, by time.
        batch: what the workers like.
        whole: whether they want all at once.
        startable: whether a worker (by number) starts.
    """

    seconds: Callable[[Pattern], float] = lambda pattern: 1.0
    kills: frozenset[Pattern] = frozenset()
    deaths: list[float] = field(default_factory=list)
    lost: bool = False
    room: Callable[[float], int] = lambda now: 2
    batch: int = 1
    whole: bool = False
    startable: Callable[[int], bool] = lambda number: True
    now: float = 0.0
    workers: list[Made] = field(default_factory=list)
    started: int = 0
    begun: list[tuple[float, int, tuple[Pattern, ...]]] = field(default_factory=list)
    finished: list[Pattern] = field(default_factory=list)

    def clock(self) -> float:
        return self.now

    def wanted(self) -> int:
        return self.room(self.now)

    def start(self) -> int:
        self.started += 1
        self.workers.append(Made(self.started, self.now + START))
        return self.started

    def _of(self, number: int) -> Made:
        return next(worker for worker in self.workers if worker.number == number)

    def send(self, worker: int, patterns: Sequence[Pattern], request: Request) -> None:
        one = self._of(worker)
        one.free = max(one.free, self.now) + sum(map(self.seconds, patterns))
        one.jobs.append((one.free, tuple(patterns), request))
        self.begun.append((self.now, worker, tuple(patterns)))

    def reports(self, seconds: float) -> list[tuple[int, Ready | Done | Died]]:
        until = self.now + seconds
        events = [(w.ready, w.number) for w in self.workers if not w.told]
        events += [(w.jobs[0][0], w.number) for w in self.workers if w.told and w.jobs]
        event = min(events, default=(until, 0))
        if self.deaths and self.deaths[0] <= min(event[0], until):
            self.now = max(self.now, self.deaths.pop(0))
            busy = [w for w in self.workers if w.jobs]
            return [self._die(busy[0], None if self.lost else "crash")] if busy else []
        if event[0] > until or not event[1]:
            self.now = until
            return []
        self.now = max(self.now, event[0])
        return [self._next(self._of(event[1]))]

    def _next(self, worker: Made) -> tuple[int, Ready | Done | Died]:
        if not worker.told:
            if not self.startable(worker.number):
                return self._die(worker, "crash")
            worker.told = True
            return worker.number, Ready(self.batch, "here", worker.number, self.whole)
        _, patterns, request = worker.jobs[0]
        if self.kills & set(patterns):
            return self._die(worker, "crash")
        worker.jobs.pop(0)
        self.finished += patterns
        found = [Evaluation(p, request.split, request.rung, {"kl": 1.0}) for p in patterns]
        return worker.number, Done(found, sum(map(self.seconds, patterns)), 1000)

    def _die(self, worker: Made, cause: str | None) -> tuple[int, Died]:
        self.workers.remove(worker)
        return worker.number, Died("it was killed", cause)

    def end(self, worker: int) -> None:
        self.workers = [one for one in self.workers if one.number != worker]

    def close(self) -> None:
        self.workers = []
