"""What a run has before it: its phases, and what each evaluates.

Counted where it can be counted (budgets, the candidates of rules, the splits), estimated where it
cannot: how large candidates are on average, and how many of them lie on a front. ``plan`` reckons
with what passes take on this machine, a running search with what they have taken so far.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune.config.schema import Config
from evoprune.core.protocols import CostObjective
from evoprune.core.registry import ALGORITHMS, STARTS
from evoprune.searching.budget import Rung, per_candidate
from evoprune.searching.exhaustive import instead_of
from evoprune.searching.problem import Problem
from evoprune.searching.repair import repair
from evoprune.searching.rules import Rule
from evoprune.searching.starts import stratified

if TYPE_CHECKING:
    from evoprune.session import Session

# What algorithms call the candidates that they ask for at once, the most telling name first.
AT_ONCE = ("n_offsprings", "offspring", "batch", "pop_size", "steps")
# Seconds reckoned for a model that is written, for one that is loaded again in a fresh process,
# and for a report, until there is something better to go by.
EXPORT, VERIFY, REPORT = 2.0, 10.0, 1.0
# The points of a front are so many times the binary logarithm of its evaluations, for each
# objective after the first (of independent values it would be a power of the logarithm, Bentley et
# al., 1978; objectives of one model are far from independent); and at most so many for each value
# that a counted objective takes. Seen in searches of the quickstarts and two language models.
FRONT, LEVEL = 1.4, 1.8
# Of a front validation leaves so many; so many of a control's are on no other front, and no worse
# than knowing frequencies only.
LEFT, NEW = 0.75, 0.5


@dataclass(frozen=True)
class Work:
    """What is evaluated.

    Attributes:
        n_eval: patterns, each on one split at one rung.
        tokens: dense-equivalent tokens (or images) of all of them.
        read: tokens that they read, which their outputs are measured on.
    """

    n_eval: float = 0.0
    tokens: float = 0.0
    read: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.n_eval + other.n_eval, self.tokens + other.tokens, self.read + other.read)


@dataclass(frozen=True)
class Rate:
    """What work takes.

    Attributes:
        per_token: seconds that a worker runs the network for a dense-equivalent token.
        per_read: seconds that it measures and does all else for a token that is read.
        workers: that work at once, as far as they really do.
        per_point: seconds that a point of a front takes in the driver: its intervals.
    """

    per_token: float
    per_read: float
    workers: float = 1.0
    per_point: float = 0.0

    def seconds(self, work: Work) -> float:
        """Returns the seconds of some work."""
        return (self.per_token * work.tokens + self.per_read * work.read) / self.workers


@dataclass(frozen=True)
class Phase:
    """A part of a run.

    Attributes:
        name: ``prepare``, ``search``, a control's, ``score``, ``export``, ``verify`` or
            ``report``.
        work: what it evaluates.
        seconds: that it takes beside that.
        points: of fronts that it makes.
    """

    name: str
    work: Work = Work()
    seconds: float = 0.0
    points: float = 0.0

    def took(self, rate: Rate) -> float:
        """Returns the seconds of it all."""
        return rate.seconds(self.work) + self.points * rate.per_point + self.seconds


@dataclass(frozen=True)
class Splits:
    """Dense-equivalent tokens of the dense model: at each rung of the search, and beyond it."""

    rungs: tuple[float, ...]
    validation: float
    report: float

    def of(self, split: str, rung: int) -> float:
        """Returns those of a split, for the search at a rung."""
        return self.rungs[rung] if split == "search" else float(getattr(self, split))


@dataclass(frozen=True)
class Ends:
    """Where a search ends.

    Attributes:
        n_eval: its evaluations.
        why: the bound that is reached first, as a person wrote it.
        open: whether ``patience`` alone ends it, which nobody can foretell: then ``n_eval`` is the
            least.
    """

    n_eval: int
    why: str
    open: bool = False


class Forecast:
    """The phases of a run, as far as they can be foretold.

    Args:
        config: the experiment.
        problem: what is searched.
        algorithm: made with its options.
        rungs: of the search split.
        splits: what a dense pass takes.
    """

    def __init__(
        self,
        config: Config,
        problem: Problem,
        algorithm: Any,
        rungs: Sequence[Rung],
        splits: Splits,
    ) -> None:
        self._config, self._problem, self._rungs, self.splits = config, problem, rungs, splits
        self.algorithm = algorithm
        X = sample(problem)
        self.share = float(problem.share(X).mean())
        counted = [n for n, o in problem.objectives.items() if isinstance(o, CostObjective)]
        values = [len(np.unique(problem.cost(name, X))) for name in counted]
        # As many as the sample has candidates say nothing of how many there are.
        self._levels = min((LEVEL * n for n in values if n < len(X) / 2), default=math.inf)
        self.each = per_candidate(rungs, splits.rungs)

    @classmethod
    def of(cls, session: "Session", splits: Splits) -> "Forecast":
        """Returns that of a session."""
        algorithm = instead_of(
            session.algorithm, session.problem, session.budget, len(session.rungs)
        )
        return cls(session.config, session.problem, algorithm, session.rungs, splits)

    @property
    def together(self) -> int:
        """How many candidates the algorithm asks for at once, after its start."""
        sizes = (getattr(self.algorithm, name, None) for name in AT_ONCE)
        return next((int(size) for size in sizes if size), 1)

    def candidate(self) -> Work:
        """Returns the work of one candidate of the search, of mean size."""
        return Work(1, self.share * self.each, self.each)

    def ends(self, rate: Rate | None = None) -> Ends:
        """Returns where the search ends: the first of its bounds.

        Args:
            rate: what work takes; without it ``seconds`` bounds nothing.
        """
        wanted, step, space = self._config.search, self.together, self._problem.space
        found = [(float(space.size), "the whole space")]
        if wanted.n_eval is not None:
            found.append((wanted.n_eval, f"n_eval={wanted.n_eval:,}"))
        if wanted.n_gen is not None:
            first = getattr(self.algorithm, "pop_size", step)
            found.append((first + (wanted.n_gen - 1) * step, f"n_gen={wanted.n_gen:,}"))
        if wanted.tokens is not None:
            count = wanted.tokens / self.candidate().tokens
            found.append((_whole(count, step), f"tokens={wanted.tokens:,.0f}"))
        if wanted.seconds is not None and rate is not None:
            count = wanted.seconds / rate.seconds(self.candidate())
            found.append((_whole(count, step), f"seconds={wanted.seconds:g}"))
        # Of equal bounds the one that a person wrote.
        count, why = min(reversed(found), key=lambda one: one[0])
        if len(found) == 1 and wanted.patience is not None:
            least = min(step * wanted.patience, int(count))
            return Ends(least, f"patience={wanted.patience}", open=True)
        return Ends(max(1, int(count)), why)

    def phases(self, rate: Rate | None = None, found: Phase | None = None) -> list[Phase]:
        """Returns the phases after ``prepare``.

        Args:
            rate: what work takes, where that ends the search.
            found: what the search came to, once it has ended.
        """
        search = found or self._search(self.ends(rate))
        controls = [self._control(name, search) for name in self._config.controls]
        evaluating = [search, *controls]
        exported = [Phase("export", seconds=EXPORT)]
        if self._config.export.verify:
            exported.append(Phase("verify", seconds=VERIFY))
        return [
            *(replace(phase, points=0.0) for phase in evaluating),
            self._score(evaluating),
            *(phase for _ in self._config.export.picks for phase in exported),
            Phase("report", seconds=REPORT),
        ]

    def _search(self, ends: Ends) -> Phase:
        n, one = ends.n_eval, self.candidate()
        work = Work(n, n * one.tokens, n * one.read)
        return Phase("search", work, points=self.front(n))

    def front(self, n_eval: float) -> float:
        """Returns about how many of so many evaluations are non-dominated."""
        more = FRONT * (len(self._problem.objectives) - 1)
        return min(n_eval, max(1.0, more * math.log2(max(n_eval, 1.0))), self._levels)

    def _control(self, name: str, search: Phase) -> Phase:
        """Returns what a control evaluates that the search has not, within the search's tokens."""
        top, problem, bound = self.splits.rungs[-1], self._problem, search.work.tokens
        started = self._started()
        if name == "random":
            known = float(problem.share(started).sum()) * top if len(self._rungs) == 1 else 0.0
            tokens = max(0.0, bound - known)
            drawn = tokens / (self.share * top)
            # Of a small space the search has evaluated much of what is drawn.
            n = drawn * (1 - min(1.0, search.work.n_eval / problem.space.size))
            work = Work(n, n * self.share * top, n * top)
            return Phase(name, work, points=self.front(drawn))
        algorithm = ALGORITHMS.load(name)()
        if isinstance(algorithm, Rule):
            X = algorithm.begin(problem, started[:0], 0).ask()
            X = started[:0] if X is None else X
            new = ~(X[:, None] == started[None]).all(axis=2).any(axis=1)
            shares = problem.share(X[new][np.cumsum(problem.share(X))[new] * top <= bound])
        else:
            shares = self._walk(bound / top)
        n = len(shares)
        return Phase(name, Work(n, float(shares.sum()) * top, n * top), points=self.front(n))

    def _walk(self, bound: float) -> np.ndarray:
        """Returns about the shares of what greedy removal tries, whole steps only (P,).

        Args:
            bound: how many dense passes it may take.
        """
        dense, empty = self._problem.share(self._problem.space.corners)
        n_var, levels = self._problem.space.n_var, int(self._problem.space.upper.sum())
        shares, spent = [float(dense)], float(dense)
        for taken in range(levels):
            share = float(dense + (empty - dense) * (taken + 1) / levels)
            count = min(n_var, levels - taken)
            spent += count * share
            if spent > bound:
                break
            shares += [share] * count
        return np.array(shares)

    def _started(self) -> np.ndarray:
        """Returns the warm starts that need no evaluation (W, n_var)."""
        names = self._config.search.warm_starts
        rules = [made for name in names if isinstance(made := STARTS.load(name)(), Rule)]
        count = max(1, getattr(self.algorithm, "pop_size", 24) // 3 // max(1, len(rules)))
        found = [_first(made, self._problem, count) for made in rules]
        return np.concatenate([self._problem.space.corners[:1], *found])

    def _score(self, fronts: Sequence[Phase]) -> Phase:
        points = fronts[0].points + NEW * sum(phase.points for phase in fronts[1:])
        validation, report = self.splits.validation, self.splits.report
        n, kept = points + 2, LEFT * points + 2  # the corners of the box as well
        read = n * validation + kept * report
        return Phase("score", Work(n + kept, self.share * read, read), points=kept)


def _first(rule: Rule, problem: Problem, count: int) -> np.ndarray:
    """Returns where a rule, which evaluates nothing, lets a search start."""
    return rule.first(problem, count, None)  # type: ignore[arg-type]


def sample(problem: Problem, count: int = 64) -> np.ndarray:
    """Returns candidates spread over sparsity and inside the budgets (count, n_var)."""
    rng = np.random.default_rng(0)
    return np.asarray(repair(problem, stratified(problem.space, count, rng), rng))


def _whole(count: float, step: int) -> float:
    """Returns evaluations with the generation that was begun when a bound was reached."""
    return step * max(1.0, math.ceil(count / step))
