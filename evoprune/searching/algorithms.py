"""Algorithms behind one seam: ``ask`` for candidates, ``tell`` what they are worth."""

import math
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Literal

import numpy as np

from evoprune.searching.algorithm import WORST, Seen, Stepper
from evoprune.searching.problem import Problem
from evoprune.searching.repair import repair
from evoprune.searching.starts import stratified


def first_candidates(
    problem: Problem, starts: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Returns the start population: the warm starts, filled up with a stratified sample."""
    seen = Seen()
    found: list[np.ndarray] = []
    drawn = (stratified(problem.space, count, rng) for _ in range(20))  # no more than are needed
    for pool in chain([starts], drawn):
        X = repair(problem, pool, rng)
        X = X[seen.new(X)][: count - sum(len(rows) for rows in found)]
        seen.add(X)
        found.append(X)
        if sum(len(rows) for rows in found) == count:
            break
    return np.concatenate(found)


def worth(problem: Problem, F: np.ndarray, G: np.ndarray) -> np.ndarray:
    """Returns the first measured objective of candidates (P,), ``WORST`` where one is infeasible.

    For algorithms that know one objective only.
    """
    names = list(problem.objectives)
    column = names.index(problem.measured[0]) if problem.measured else 0
    return np.where(G.sum(axis=1) == 0, F[:, column], WORST)


@dataclass(frozen=True)
class Nsga2:
    """``nsga2``: NSGA-II (Deb et al., 2002), as pymoo builds it, never asking anything twice.

    Attributes:
        pop_size: the population.
        n_offsprings: candidates of a generation; as many as the population by default.
        crossover: ``uniform`` (MO-EvoPruneDeepTL) or ``two_point`` (EvoP).
        mutation_rate: the chance of each variable to change; 1/n_var by default.
        crossover_rate: the chance of each pair of parents to be crossed.
        enumerates: whether a space no larger than the budget is listed instead.
    """

    enumerates: ClassVar[bool] = True

    pop_size: int = 24
    n_offsprings: int | None = None
    crossover: Literal["uniform", "two_point"] = "uniform"
    mutation_rate: float | None = None
    crossover_rate: float = 0.9

    def __post_init__(self) -> None:
        if self.pop_size < 4:
            raise ValueError(f"pop_size is {self.pop_size}; it must be at least 4")
        if self.n_offsprings is not None and self.n_offsprings < 1:
            raise ValueError(f"n_offsprings is {self.n_offsprings}; it must be at least 1")
        if self.mutation_rate is not None and not 0 < self.mutation_rate <= 1:
            raise ValueError(f"mutation_rate is {self.mutation_rate}; it must lie in (0, 1]")
        if not 0 <= self.crossover_rate <= 1:
            raise ValueError(f"crossover_rate is {self.crossover_rate}; it must lie in [0, 1]")

    def begin(
        self, problem: Problem, starts: np.ndarray, seed: int, on_model: bool = False
    ) -> Stepper:
        """Returns the search at its start.

        Args:
            problem: what is searched.
            starts: the first candidates (N, n_var).
            seed: of every choice.
            on_model: whether a model answers, for which nothing fails and little is worth a
                long search for one more child that is new.
        """
        from evoprune.searching.operators import Repaired

        made = self._pymoo(problem)
        return PymooStepper(made, problem, starts, seed, Repaired(problem), Seen(), on_model)

    def _pymoo(self, problem: Problem) -> Any:
        """Returns pymoo's algorithm, every operator built explicitly."""
        from pymoo.algorithms.moo.nsga2 import NSGA2, RankAndCrowding, binary_tournament
        from pymoo.operators.selection.tournament import TournamentSelection

        # With three objectives and more, crowding by cuboids misjudges density; pymoo advises mnn.
        crowding = "cd" if len(problem.objectives) < 3 else "mnn"
        return NSGA2(
            pop_size=self.pop_size,
            n_offsprings=self.n_offsprings,
            selection=TournamentSelection(func_comp=binary_tournament),
            survival=RankAndCrowding(crowding_func=crowding),
            **self._variation(),
        )

    def _variation(self) -> dict[str, Any]:
        from pymoo.operators.crossover.pntx import PointCrossover
        from pymoo.operators.crossover.ux import UniformCrossover

        from evoprune.searching.operators import LevelMutation

        made: Any = UniformCrossover if self.crossover == "uniform" else PointCrossover
        points = {"n_points": 2} if self.crossover == "two_point" else {}
        cross = made(prob=self.crossover_rate, **points)
        return {"crossover": cross, "mutation": LevelMutation(self.mutation_rate)}


@dataclass(frozen=True)
class Nsga3(Nsga2):
    """``nsga3``: NSGA-III (Deb and Jain, 2014), as pymoo builds it: for three objectives and more.

    Reference directions are evenly spread (Das and Dennis), as many as the population holds.
    """

    def _pymoo(self, problem: Problem) -> Any:
        from pymoo.algorithms.moo.nsga3 import NSGA3, ReferenceDirectionSurvival
        from pymoo.operators.selection.tournament import TournamentSelection
        from pymoo.util.ref_dirs import get_reference_directions

        from evoprune.searching.operators import less_broken

        count, parts = len(problem.objectives), 1
        while count > 1 and math.comb(parts + count, count - 1) <= self.pop_size:
            parts += 1
        directions = get_reference_directions("das-dennis", count, n_partitions=parts)
        return NSGA3(
            ref_dirs=directions,
            pop_size=self.pop_size,
            n_offsprings=self.n_offsprings,
            selection=TournamentSelection(func_comp=less_broken),
            survival=ReferenceDirectionSurvival(directions),
            **self._variation(),
        )


@dataclass(frozen=True)
class SmsEmoa(Nsga2):
    """``smsemoa``: SMS-EMOA (Beume et al., 2007), as pymoo builds it: survival by hypervolume."""

    def _pymoo(self, problem: Problem) -> Any:
        from pymoo.algorithms.moo.sms import (
            SMSEMOA,
            LeastHypervolumeContributionSurvival,
            cv_and_dom_tournament,
        )
        from pymoo.operators.selection.tournament import TournamentSelection

        return SMSEMOA(
            pop_size=self.pop_size,
            n_offsprings=self.n_offsprings or self.pop_size,
            selection=TournamentSelection(func_comp=cv_and_dom_tournament),
            survival=LeastHypervolumeContributionSurvival(),
            **self._variation(),
        )


@dataclass(frozen=True)
class MoEvoPrune(Nsga2):
    """``moevoprune``: NSGA-II with MO-EvoPruneDeepTL's settings (Poyatos et al., 2023).

    30 candidates, 2 children a generation, uniform crossover of every pair, a bit in n flipped;
    use it with ``warm_starts: []`` and ``n_eval: 200``. Its start population has random densities;
    ours are stratified, and nothing is evaluated twice.
    """

    pop_size: int = 30
    n_offsprings: int | None = 2
    crossover_rate: float = 1.0


# How often pymoo mates for one generation on a model until all children are new; 100 is its own
# bound, and where a budget leaves few candidates it gets there again and again.
MATINGS = 5


class PymooStepper:
    """A pymoo algorithm behind ask and tell, its duplicates judged against all ever asked."""

    def __init__(
        self,
        algorithm: Any,
        problem: Problem,
        starts: np.ndarray,
        seed: int,
        repaired: Any,
        seen: Seen,
        on_model: bool = False,
    ) -> None:
        from pymoo.core.problem import Problem as PymooProblem
        from pymoo.core.termination import NoTermination

        from evoprune.searching.operators import NewOnly

        space = problem.space
        self._constrained = not on_model or problem.n_violations > 1
        if on_model:
            algorithm.mating.n_max_iterations = MATINGS
        first = first_candidates(
            problem, starts, algorithm.pop_size, np.random.default_rng([seed, 1])
        )
        algorithm.initialization.sampling = first
        algorithm.repair = algorithm.mating.repair = repaired
        new_only = NewOnly(seen)
        algorithm.eliminate_duplicates = algorithm.mating.eliminate_duplicates = new_only
        algorithm.setup(
            PymooProblem(
                n_var=space.n_var,
                n_obj=len(problem.objectives),
                n_ieq_constr=problem.n_violations if self._constrained else 0,
                xl=np.zeros(space.n_var, dtype=np.int64),
                xu=space.upper,
            ),
            seed=seed,
            termination=NoTermination(),
        )
        self._algorithm, self.seen, self._asked = algorithm, seen, None

    def ask(self) -> np.ndarray | None:
        """Returns the next generation, None when the space is exhausted."""
        population = self._algorithm.ask()
        if population is None or len(population) == 0:
            return None
        self._asked = population
        X = np.asarray(population.get("X")).astype(np.int64)
        self.seen.add(X)
        return X

    def tell(self, X: np.ndarray, F: np.ndarray, G: np.ndarray) -> None:
        """Hands the generation back."""
        self._asked.set("F", F)  # type: ignore[attr-defined]
        if self._constrained:
            self._asked.set("G", G)  # type: ignore[attr-defined]
        self._algorithm.tell(infills=self._asked)


@dataclass(frozen=True)
class Random:
    """``random``: the warm starts, then a stratified sample without repetition: the control.

    Attributes:
        batch: candidates asked for at once.
    """

    batch: int = 24

    def begin(self, problem: Problem, starts: np.ndarray, seed: int) -> Stepper:
        """Returns the search at its start."""
        return _RandomStepper(self.batch, problem, starts, seed)


class _RandomStepper:
    def __init__(self, batch: int, problem: Problem, starts: np.ndarray, seed: int) -> None:
        self._batch, self._problem = batch, problem
        self._starts: np.ndarray | None = starts if len(starts) else None
        self._rng = np.random.default_rng([seed, 2])
        self._seen = Seen()

    def ask(self) -> np.ndarray | None:
        if self._starts is not None:
            X, self._starts = repair(self._problem, self._starts, self._rng), None
            X = X[self._seen.new(X)]
            self._seen.add(X)
            return X
        for _ in range(50):
            X = stratified(self._problem.space, self._batch, self._rng)
            X = repair(self._problem, X, self._rng)
            X = X[self._seen.new(X)]
            if len(X):
                self._seen.add(X)
                return X
        return None

    def tell(self, X: np.ndarray, F: np.ndarray, G: np.ndarray) -> None:
        """A random search learns nothing."""
