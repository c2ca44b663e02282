"""How far a run is: what its phases have taken, and what is left by that."""

import time
from collections import deque
from collections.abc import Callable, Sequence

from evoprune.core.amounts import duration
from evoprune.core.protocols import Evaluation
from evoprune.progress.forecast import Phase, Rate, Splits, Work

# Seconds after which the forecast is made anew with what evaluations take by now.
RENEW = 10.0
# New evaluations that the rest is reckoned by: a machine that others use as well changes its pace.
LATEST = 64
# Seconds reckoned for the intervals of a point of a front.
INTERVAL = 0.2

# Returns the phases after ``prepare``, given what work takes.
Foretell = Callable[[Rate | None], Sequence[Phase]]


class Course:
    """Where a run is.

    Nothing is known of what is left before the first candidates were evaluated: a search that is
    replayed from its journal says nothing until it comes to new ones.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._began = clock, clock()
        self._foretell: Foretell = lambda rate: ()
        self._splits: Splits | None = None
        self._phases: list[Phase] = []
        self._ended = 0  # of the phases that were foretold
        self._answered: set[tuple[str, str, int]] = set()
        # When each of the latest new evaluations began, itself, and what it read.
        self._latest: deque[tuple[float, Evaluation, float]] = deque(maxlen=LATEST)
        self._renewed = 0.0
        self.name, self.done, self._since = "", Work(), self._began

    def expect(self, foretell: Foretell, splits: Splits) -> None:
        """Takes in what is to come; again, once more of it is known."""
        self._foretell, self._splits = foretell, splits
        self._renew()

    def _renew(self) -> None:
        self._phases, self._renewed = list(self._foretell(self.rate)), self._clock()

    def begin(self, name: str) -> None:
        """A phase begins; what was foretold before it and did not come is left out."""
        self.name, self.done, self._since = name, Work(), self._clock()
        self._renew()
        names = [phase.name for phase in self._phases]
        if name in names[self._ended :]:
            self._ended = names.index(name, self._ended)

    def end(self) -> float:
        """The phase ends; returns its seconds."""
        if self.current is not None:
            self._ended += 1
        seconds, self.name = self._clock() - self._since, ""
        return seconds

    @property
    def current(self) -> Phase | None:
        """What was foretold of the phase that runs, None if nothing was."""
        here = self._phases[self._ended : self._ended + 1]
        return here[0] if here and here[0].name == self.name else None

    @property
    def elapsed(self) -> float:
        """Seconds of the run so far."""
        return self._clock() - self._began

    def heard(self, one: Evaluation, new: bool) -> None:
        """Counts an answer of the archive.

        Args:
            one: the evaluation.
            new: whether it was made now, and not known before.
        """
        key = (one.pattern.id, one.split, one.rung)
        if key in self._answered or self._splits is None:
            return
        self._answered.add(key)
        read = self._splits.of(one.split, one.rung)
        self.done += Work(1, one.tokens, read)
        if new:
            self._latest.append((self._clock() - one.seconds, one, read))

    @property
    def rate(self) -> Rate | None:
        """What the latest evaluations have taken, None before the first."""
        tokens = sum(one.tokens for _, one, _ in self._latest)
        read = sum(read for _, _, read in self._latest)
        if not tokens or not read:
            return None
        model = sum(one.model_seconds for _, one, _ in self._latest)
        every = sum(one.seconds for _, one, _ in self._latest)
        wall = max(self._clock() - min(began for began, _, _ in self._latest), 1e-9)
        return Rate(model / tokens, (every - model) / read, max(every / wall, 1e-9), INTERVAL)

    @property
    def left(self) -> float | None:
        """Seconds until the run ends, None where that cannot be told yet."""
        if self._clock() - self._renewed > RENEW:
            self._renew()
        rate = self.rate
        if rate is None or not self._phases:
            return None
        current, ended = self.current, self._ended + (self.current is not None)
        later = sum(phase.took(rate) for phase in self._phases[ended:])
        if current is None:
            return later
        gone = rate.seconds(self.done) if current.work.n_eval else self._clock() - self._since
        return later + max(0.0, current.took(rate) - gone)

    def words(self) -> str:
        """Returns the share of the run that is done, and what is left; empty if not known."""
        left = self.left
        if not left:  # not known, or nothing
            return ""
        share = self.elapsed / max(self.elapsed + left, 1e-9)
        return f"{share:.0%} done, about {duration(left)} left"

    def line(self) -> str:
        """Returns what the phase has evaluated, for phases that do not say it themselves."""
        current = self.current
        about = f" of about {current.work.n_eval:,.0f}" if current else ""
        return f"{self.name:<9} {self.done.n_eval:,.0f}{about} evaluations"
