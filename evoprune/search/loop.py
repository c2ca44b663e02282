"""The ask–tell loop: drop what is known, climb the rungs, tell, and count the budget."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from evoprune.errors import ModelError
from evoprune.front import hypervolume, nondominated
from evoprune.pattern import Pattern
from evoprune.protocols import CostObjective, Evaluation
from evoprune.search.algorithms import WORST, Stepper
from evoprune.search.archive import Archive, usable
from evoprune.search.problem import Problem

# A hypervolume (a share of the fixed box) that rises by less has not grown.
GROWTH = 1e-5


@dataclass(frozen=True)
class Rung:
    """A slice of the calibration set, and the share of candidates that goes on from it."""

    index: int
    keep: float | None = None


@dataclass(frozen=True)
class Budget:
    """When a search ends: the first of these to be reached; None is no bound.

    Attributes:
        n_eval: distinct patterns told to the algorithm.
        n_gen: generations.
        tokens: dense-equivalent tokens; a generation that has begun is finished, here and below.
        seconds: of this process, evaluating and waiting, after its warm starts; where it ended a
            search, the journal says so, and the search that is run again ends there too.
        patience: generations in which the hypervolume does not grow.
    """

    n_eval: int | None = None
    n_gen: int | None = None
    tokens: float | None = None
    seconds: float | None = None
    patience: int | None = None


@dataclass(frozen=True)
class Spent:
    """What was evaluated before a search began and counts as its own."""

    n_eval: int = 0
    tokens: float = 0.0


NOTHING_SPENT = Spent()


@dataclass
class Progress:
    """How far a search has come; handed to the observer after every evaluation.

    ``idle`` counts generations since the hypervolume grew; ``notes`` are what the algorithm has to
    say of itself.
    """

    problem: Problem
    box: "Box"
    n_eval: int = 0
    n_gen: int = 0
    tokens: float = 0.0
    patterns: list[Pattern] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)
    idle: int = 0
    notes: tuple[str, ...] = ()

    @property
    def F(self) -> np.ndarray:
        """Objectives of all feasible patterns so far, to be minimised (P, M)."""
        return np.array(self.rows).reshape(-1, len(self.problem.objectives))

    @property
    def front(self) -> list[int]:
        """The non-dominated among them."""
        return [int(i) for i in np.flatnonzero(nondominated(self.F))]

    @property
    def hypervolume(self) -> float:
        """Their hypervolume in the fixed box, in [0, 1]."""
        return hypervolume(self.F, self.box.reference, self.box.ideal) if self.rows else 0.0


@dataclass(frozen=True)
class Box:
    """The fixed bounds in which hypervolume is measured (M,), to be minimised.

    They are the objectives of the dense model and of the model without anything prunable, so
    they do not depend on the search, its seed or its budget.
    """

    ideal: np.ndarray
    reference: np.ndarray

    @classmethod
    def of(cls, corners: np.ndarray) -> "Box":
        """Returns the box that two rows of objectives (2, M) span."""
        low, high = corners.min(axis=0), corners.max(axis=0)
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
    clock, best = _Clock(archive, budget.seconds), 0.0
    while not _spent(progress, budget) and not clock.struck(progress.n_gen):
        X = stepper.ask()
        if X is None:
            break
        if budget.n_eval is not None:
            X = X[: budget.n_eval - progress.n_eval]
        F, G = _evaluate(problem, archive, X, rungs, progress, observe)
        progress.n_gen += 1
        observe(progress, None)
        if budget.patience is not None:
            now = progress.hypervolume
            progress.idle = 0 if now > best + GROWTH else progress.idle + 1
            best = max(best, now)
        if not _spent(progress, budget):
            stepper.tell(X, F, G)
        progress.notes = tuple(getattr(stepper, "notes", ()))
    return progress


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
    """Returns the fixed bounds of the objectives, from two evaluations that every run makes.

    Raises:
        ModelError: the dense model itself cannot be scored.
    """
    X = problem.space.corners
    patterns = problem.space.patterns(X)
    evaluations = archive.get(patterns, split, rung, tables=split != "search")
    dense, empty = (usable(evaluation, problem.measured) for evaluation in evaluations)
    if not dense:
        raise ModelError(
            f"The dense model cannot be scored on the {split} split: {_why(evaluations[0])}.",
            "Leave that objective out of `objectives` and `columns`, or give other data.",
        )
    if not empty:
        # Where removing everything breaks the network the dense model is both corners.
        evaluations = [evaluations[0], evaluations[0]]
    return Box.of(objectives(problem, X, evaluations))


def _why(evaluation: Evaluation) -> str:
    broken = [f"{n} is {v}" for n, v in evaluation.values.items() if not math.isfinite(v)]
    return evaluation.error or ", ".join(broken) or "it has no value of an objective"


def objectives(problem: Problem, X: np.ndarray, evaluations: Sequence[Evaluation]) -> np.ndarray:
    """Returns objectives to be minimised (P, M), ``WORST`` where an evaluation has none."""
    F = np.full((len(X), len(problem.objectives)), WORST)
    good = [usable(evaluation, problem.measured) for evaluation in evaluations]
    for column, (name, objective) in enumerate(problem.objectives.items()):
        if isinstance(objective, CostObjective):
            values = problem.cost(name, X)
        else:
            values = np.array([e.values.get(name, np.nan) for e in evaluations])
        F[good, column] = (values * problem.signs[column])[good]
    return F


def violations(
    problem: Problem, X: np.ndarray, evaluations: Sequence[Evaluation], dense: Evaluation
) -> np.ndarray:
    """Returns constraint violations (P, C + 1); the last column is 1 for what failed."""
    columns = [*problem.budget_violation(X).T]
    for floor in problem.floors:
        values = np.array([e.values.get(floor.name, np.nan) for e in evaluations])
        broken = floor.violation(values, dense.values[floor.name])
        columns.append(np.nan_to_num(broken, nan=0.0))
    names = {*problem.measured, *(floor.name for floor in problem.floors)}
    columns.append(np.array([0.0 if usable(e, names) else 1.0 for e in evaluations]))
    return np.stack(columns, axis=1)


def _evaluate(
    problem: Problem,
    archive: Archive,
    X: np.ndarray,
    rungs: Sequence[Rung],
    progress: Progress,
    observe: Callable[[Progress, Evaluation | None], None],
) -> tuple[np.ndarray, np.ndarray]:
    """Returns objectives (P, M) and violations (P, C + 1); counts the budget.

    A candidate that does not reach the top rung is told as failed: only top-rung values may
    enter the survival.
    """
    patterns = problem.space.patterns(X)
    F = np.full((len(X), len(problem.objectives)), WORST)
    G = np.ones((len(X), len(problem.constraints) + 1))
    going = np.arange(len(X))
    for rung in rungs:
        dense = archive.get([problem.space.dense], rung=rung.index)[0]
        chosen = [patterns[i] for i in going]
        evaluations = archive.get(
            chosen, rung=rung.index, observe=lambda evaluation: observe(progress, evaluation)
        )
        progress.tokens += sum(evaluation.tokens for evaluation in evaluations)
        here_F = objectives(problem, X[going], evaluations)
        here_G = violations(problem, X[going], evaluations, dense)
        if rung.keep is not None:
            going = going[promoted(here_F, here_G, rung.keep)]
            continue
        F[going], G[going] = here_F, here_G
        for i, row, broken in zip(going, here_F, here_G, strict=True):
            if not broken.any():
                progress.patterns.append(patterns[i])
                progress.rows.append(row)
    progress.n_eval += len(X)
    return F, G


def promoted(F: np.ndarray, G: np.ndarray, keep: float) -> np.ndarray:
    """Returns the indices that go on to the next rung, ascending: ⌈keep·P⌉ of them."""
    return np.sort(ranked(F, G)[: int(np.ceil(keep * len(F)))])


def ranked(F: np.ndarray, G: np.ndarray) -> np.ndarray:
    """Returns all indices (P,), the best first.

    Feasible before infeasible, then by non-dominated rank, then by crowding distance.
    """
    from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    violation = G.sum(axis=1)
    feasible = np.flatnonzero(violation == 0)
    order: list[int] = []
    if len(feasible):
        for layer in NonDominatedSorting().do(F[feasible]):
            crowding = calc_crowding_distance(F[feasible][layer])
            order += feasible[layer[np.argsort(-crowding, kind="stable")]].tolist()
    broken = np.flatnonzero(violation > 0)
    order += broken[np.argsort(violation[broken], kind="stable")].tolist()
    return np.array(order, dtype=np.int64)
