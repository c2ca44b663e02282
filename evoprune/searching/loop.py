"""The ask–tell loop: drop what is known, climb the rungs, tell, and count the budget.

A rung that adds rows to the one before it is given what was measured there, in memory only: the
journal holds values, and after a restart such a pattern is measured from its first row, with the
same result to the last bit. The tokens of a search count each row once all the same, whether or
not it was interrupted: what a pattern takes at a rung, less what it took at the rung before. Only
one that an algorithm calls back, after a rung had sent it home, is measured whole and paid whole.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from evoprune.core.errors import ModelError, unscorable
from evoprune.core.pareto import hypervolume, nondominated
from evoprune.core.pattern import Pattern
from evoprune.core.protocols import Evaluation
from evoprune.searching.agreement import Agreement, agreements, in_words
from evoprune.searching.algorithm import WORST, Stepper
from evoprune.searching.archive import Archive, usable
from evoprune.searching.budget import NOTHING_SPENT, Budget, Rung, Spent
from evoprune.searching.problem import Problem
from evoprune.searching.values import Ranking, objectives, promoted, ranked, violations

# Takes in a rung's number, candidates, their objectives and violations there.
Hear = Callable[[int, np.ndarray, np.ndarray, np.ndarray], None]
# Returns which candidates skip the lower rungs, boolean (P,).
Recalls = Callable[[np.ndarray], np.ndarray]
# A hypervolume (a share of the fixed box) that rises by less has not grown.
GROWTH = 1e-5


@dataclass
class Progress:
    """How far a search has come; handed to the observer after every evaluation.

    Attributes:
        problem: what is searched.
        box: in which hypervolume is measured.
        n_eval: distinct patterns told to the algorithm.
        n_gen: generations.
        tokens: dense-equivalent tokens, counted as this module says.
        worthless: what is no better than knowing frequencies only (``core.quality``), and nothing
            else is wrong with.
        patterns, rows: the feasible ones, and their objectives to be minimised.
        idle: generations since the hypervolume grew.
        notes: what the algorithm has to say of itself, and the rungs.
        own_seconds: those in which it chose and learnt.
        seconds: those that workers spent on its candidates, in this process or before.
        climbs: the values of what climbed to the top rung, lowest rung first.
        sizes: the FLOPs of these relative to the dense model.
        rungs: what each rung is, for people.
        agreements: how each rung but the top ranks what climbed.
    """

    problem: Problem
    box: "Box"
    n_eval: int = 0
    n_gen: int = 0
    tokens: float = 0.0
    worthless: int = 0
    patterns: list[Pattern] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)
    idle: int = 0
    notes: tuple[str, ...] = ()
    own_seconds: float = 0.0
    seconds: float = 0.0
    climbs: list[tuple[Mapping[str, float], ...]] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)
    rungs: tuple[str, ...] = ()
    agreements: list[Agreement] = field(default_factory=list)

    @property
    def F(self) -> np.ndarray:
        """Objectives of all feasible patterns so far, to be minimised (P, M)."""
        return np.array(self.rows).reshape(-1, len(self.problem.objectives))

    @property
    def front(self) -> list[int]:
        """The non-dominated among them."""
        return [int(i) for i in np.flatnonzero(nondominated(self.F))]

    def add(self, patterns: Sequence[Pattern], F: np.ndarray, G: np.ndarray) -> None:
        """Takes in what reached the top rung: the feasible, and the number of the worthless.

        Args:
            patterns: P of them.
            F: their objectives (P, M).
            G: their violations (P, C).
        """
        for pattern, row, broken in zip(patterns, F, G > 0, strict=True):
            if not broken.any():
                self.patterns.append(pattern)
                self.rows.append(row)
            self.worthless += bool(broken[self.problem.at_zero].any() and broken.sum() == 1)

    @property
    def hypervolume(self) -> float:
        """Their hypervolume in the fixed box, in [0, 1]."""
        return hypervolume(self.F, self.box.reference, self.box.ideal) if self.rows else 0.0


@dataclass(frozen=True)
class Box:
    """The fixed bounds in which hypervolume is measured (M,), to be minimised.

    Costs span from the model without anything prunable to the dense one; what is measured from
    the dense model to one that knows frequencies only, or, where that is not known, to the model
    without anything prunable. So they do not depend on the search, its seed or its budget.

    Attributes:
        ideal: the best corner.
        reference: the worst corner.
    """

    ideal: np.ndarray
    reference: np.ndarray

    @classmethod
    def of(cls, dense: np.ndarray, empty: np.ndarray, ceiling: np.ndarray | None = None) -> "Box":
        """Returns the box between the objectives of two models (M,).

        Args:
            dense: of the dense model.
            empty: of the model without anything prunable.
            ceiling: the zero of each objective, which replaces the latter; infinite where there
                is none.
        """
        if ceiling is not None:
            empty = np.where(np.isfinite(ceiling), ceiling, empty)
        low, high = np.minimum(dense, empty), np.maximum(dense, empty)
        return cls(low, np.where(high > low, high, low + 1.0))


def search(
    problem: Problem,
    stepper: Stepper,
    archive: Archive,
    budget: Budget,
    rungs: Sequence[Rung] = (Rung(-1),),
    observe: Callable[[Progress, Evaluation | None], None] = lambda progress, evaluation: None,
    spent: Spent = NOTHING_SPENT,
) -> Progress:
    """Runs a search to the end of its budget and returns what it found.

    The journal answers what it knows, so a search that is run again is replayed: the same
    candidates in the same order, and only what was not finished is evaluated.

    Args:
        problem: what is searched.
        stepper: the algorithm, at its start.
        archive: what is known, and the evaluator.
        budget: when to stop.
        rungs: slices of the calibration set, cheap to full.
        observe: called after each new evaluation, and with None after each generation.
        spent: on its warm starts, and counted with what it spends itself.
    """
    bounds = box(problem, archive, rungs[-1].index)
    progress = Progress(problem, bounds, spent.n_eval, tokens=spent.tokens)
    progress.rungs = tuple(rung.label or f"rung {rung.index}" for rung in rungs)
    order, hear = getattr(stepper, "ranked", ranked), getattr(stepper, "hear", None)
    recalls: Recalls = getattr(stepper, "recalls", lambda X: np.zeros(len(X), dtype=bool))
    clock, best = _Clock(archive, budget.seconds), 0.0
    while not _spent(progress, budget) and not clock.struck(progress.n_gen):
        with _timed(progress):
            X = stepper.ask()
        if X is None:
            progress.notes = _notes(stepper, progress)
            break
        recalled = recalls(X)
        if budget.n_eval is not None:
            # Who is called back costs no evaluation, and takes no place from who is new.
            within = recalled | (np.cumsum(~recalled) <= budget.n_eval - progress.n_eval)
            X, recalled = X[within], recalled[within]
        climb = _Climb(problem, archive, X, recalled, progress, order, hear)
        for rung, above in zip(rungs, (*rungs[1:], None), strict=True):
            climb.take(rung, above is not None and above.grows, observe)
        progress.n_gen += 1
        progress.agreements = agreements(
            progress.climbs, progress.sizes, progress.rungs, problem.measured
        )
        observe(progress, None)
        if budget.patience is not None:
            now = progress.hypervolume
            progress.idle = 0 if now > best + GROWTH else progress.idle + 1
            best = max(best, now)
        if not _spent(progress, budget):
            with _timed(progress):
                stepper.tell(X, climb.F, climb.G)
        progress.notes = _notes(stepper, progress)
    return progress


def _notes(stepper: Stepper, progress: Progress) -> tuple[str, ...]:
    """Returns what the algorithm has to say of itself, and the rungs."""
    return (*getattr(stepper, "notes", ()), *in_words(progress.agreements))


@contextmanager
def _timed(progress: Progress) -> Iterator[None]:
    """Counts what runs within as the algorithm's own time."""
    began = time.perf_counter()
    yield
    progress.own_seconds += time.perf_counter() - began


class _Clock:
    """Ends a search by time, and ends it at the same generation whenever it is replayed."""

    def __init__(self, archive: Archive, seconds: float | None) -> None:
        self._archive, self._seconds = archive, seconds
        self._began = time.monotonic()
        ends = [e for e in archive.events("out_of_time") if seconds and e["seconds"] >= seconds]
        self._end = int(ends[-1]["n_gen"]) if ends else None

    def struck(self, n_gen: int) -> bool:
        """Returns whether time is up after ``n_gen`` generations; journals that it is."""
        if self._seconds is None:
            return False
        if self._end is None and time.monotonic() - self._began >= self._seconds:
            self._archive.event("out_of_time", seconds=self._seconds, n_gen=n_gen)
            return True
        return self._end is not None and n_gen >= self._end


def _spent(progress: Progress, budget: Budget) -> bool:
    pairs = (
        (progress.n_eval, budget.n_eval),
        (progress.n_gen, budget.n_gen),
        (progress.tokens, budget.tokens),
        (progress.idle, budget.patience),
    )
    return any(bound is not None and done >= bound for done, bound in pairs)


def box(problem: Problem, archive: Archive, rung: int, split: str = "search") -> Box:
    """Returns the fixed bounds of the objectives, from evaluations that every run makes.

    Raises:
        ModelError: the dense model itself cannot be scored.
    """
    found = archive.get(problem.bounding(split), split, rung, tables=split != "search")
    dense, *empty = found
    if not usable(dense, problem.measured):
        raise unscorable(split, _why(dense))
    # Where removing everything breaks the network the dense model is both corners.
    worst = next((one for one in empty if usable(one, problem.measured)), dense)
    corners = objectives(problem, problem.space.corners, [dense, worst])
    return Box.of(corners[0], corners[1], problem.ceilings(split))


def _why(evaluation: Evaluation) -> str:
    broken = [f"{n} is {v}" for n, v in evaluation.values.items() if not math.isfinite(v)]
    return evaluation.error or ", ".join(broken) or "it has no value of an objective"


class _Climb:
    """A generation on its way up the rungs.

    A candidate that does not reach the top rung is told as failed: only top-rung values may
    enter the survival. One that is called back after that goes straight to the top, which costs
    it all rows there and counts as no further evaluation.

    Attributes:
        F: objectives (P, M), ``WORST`` but for what reached the top.
        G: violations (P, C), 1 but for what reached the top.
    """

    def __init__(
        self,
        problem: Problem,
        archive: Archive,
        X: np.ndarray,
        recalled: np.ndarray,
        progress: Progress,
        order: Ranking,
        hear: Hear | None,
    ) -> None:
        self._problem, self._archive, self._X = problem, archive, X
        self._progress, self._order, self._hear = progress, order, hear
        self._patterns = problem.space.patterns(X)
        self._going, self._recalled = np.flatnonzero(~recalled), np.flatnonzero(recalled)
        self._values: list[list[Mapping[str, float]]] = [[] for _ in X]
        self._before: dict[str, Evaluation] = {}  # of the rung below, with tables
        self.F = np.full((len(X), len(problem.objectives)), WORST)
        self.G = np.ones((len(X), problem.n_violations))

    def take(
        self, rung: Rung, carry: bool, observe: Callable[[Progress, Evaluation | None], None]
    ) -> None:
        """Evaluates at a rung what got there, and takes on what it keeps; counts the budget.

        Args:
            rung: the next one.
            carry: whether the rung after it adds rows to its tables.
            observe: called after each new evaluation.
        """
        problem, progress = self._problem, self._progress
        if rung.keep is None:
            self._going = np.sort(np.concatenate([self._going, self._recalled]))
        going, dense = self._going, self._dense(rung)
        before = self._before if rung.grows else {}
        evaluations = self._archive.get(
            [self._patterns[i] for i in going],
            rung=rung.index,
            observe=lambda evaluation: observe(progress, evaluation),
            carry=carry,
            begun={name: one.tables for name, one in before.items() if one.tables},
        )
        self._before = {one.pattern.id: one for one in evaluations}
        for i, one in zip(going, evaluations, strict=True):
            done = before.get(one.pattern.id)
            progress.tokens += one.tokens - (min(done.tokens, one.tokens) if done else 0.0)
            progress.seconds += one.seconds
            self._values[i].append(one.values)
        F = objectives(problem, self._X[going], evaluations)
        G = violations(problem, self._X[going], evaluations, dense)
        if rung.keep is not None:
            if self._hear is not None:
                with _timed(progress):
                    self._hear(rung.index, self._X[going], F, G)
            self._going = going[promoted(F, G, rung.keep, self._order)]
        else:
            self._arrive(F, G)

    def _dense(self, rung: Rung) -> Evaluation:
        """Returns the dense model's evaluation at a rung.

        Raises:
            ModelError: it has no value there, so no candidate can be judged.
        """
        dense = self._archive.get([self._problem.space.dense], rung=rung.index)[0]
        if rung.keep is not None and not usable(dense, self._problem.measured):
            raise ModelError(
                f"The dense model cannot be scored at the rung of {rung.label or rung.index}: "
                f"{_why(dense)}.",
                "Give that rung more samples or positions, or leave it out.",
            )
        return dense

    def _arrive(self, F: np.ndarray, G: np.ndarray) -> None:
        progress = self._progress
        self.F[self._going], self.G[self._going] = F, G
        climbed = np.setdiff1d(self._going, self._recalled)
        progress.sizes += self._problem.share(self._X[climbed]).tolist()
        progress.climbs += [tuple(self._values[i]) for i in climbed]
        progress.add([self._patterns[i] for i in self._going], F, G)
        progress.n_eval += len(self._X) - len(self._recalled)
