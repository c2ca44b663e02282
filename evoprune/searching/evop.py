"""EvoP: a genetic algorithm over masks of one sparsity (Wu et al., 2025)."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from evoprune.searching.algorithm import Seen, Stepper
from evoprune.searching.algorithms import worth
from evoprune.searching.moves import at_edge, swapped
from evoprune.searching.problem import Problem


@dataclass(frozen=True)
class _Genetic(ABC):
    """What EvoP's algorithm and its correction share.

    Attributes:
        pop_size: the population.
        n_gen: its generations; most of the later ones may repeat what is known.
        tournament: candidates of a tournament, drawn with replacement.
        share: level steps of every kind of gene that are removed where no budget says how many.
    """

    pop_size: int = 50
    n_gen: int = 100
    tournament: int = 3
    share: float = 0.2

    def __post_init__(self) -> None:
        if self.pop_size < 2 or self.pop_size % 2:
            raise ValueError(f"pop_size is {self.pop_size}; it must be even and at least 2")
        for name in ("n_gen", "tournament"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        _check_share("share", self.share)

    @abstractmethod
    def mutated(self, problem: Problem, X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns candidates (P, n_var) after mutation, at the edge of the budgets."""


def _check_share(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"{name} is {value}; it must lie in (0, 1]")


@dataclass(frozen=True)
class Evop(_Genetic):
    """``evop``: EvoP's genetic algorithm as its code has it, on the first measured objective.

    Random start at the sparsity, tournaments of 3, two-point crossover of one half of the
    population with the other, rare flips, and random repair of the count; every generation
    replaces the last. Only what it proposes for the first time is evaluated, so a run asks for far
    fewer candidates than pop_size × n_gen; its notes say how many.

    Attributes:
        mutation_rate: the chance of each variable to change.
    """

    mutation_rate: float = 0.001

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_share("mutation_rate", self.mutation_rate)

    def begin(self, problem: Problem, starts: np.ndarray, seed: int) -> Stepper:
        """Returns the search at its start; EvoP takes no warm starts."""
        return EvopStepper(self, problem, starts[:0], seed)

    def mutated(self, problem: Problem, X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns candidates after flips, their count repaired at random places."""
        upper = problem.space.upper
        hit = rng.random(X.shape) < self.mutation_rate
        other = (X + 1 + np.floor(rng.random(X.shape) * upper).astype(np.int64)) % (upper + 1)
        return at_edge(problem, np.where(hit, other, X), self.share, rng)


@dataclass(frozen=True)
class EvopCorrected(_Genetic):
    """``evop_corrected``: EvoP's genetic algorithm without its defects.

    Warm starts are used, the best of all survives, and swaps that keep the count replace the
    rare flips, so that the population does not end as copies of one mask.

    Attributes:
        swap_rate: the chance of each child to swap two variables.
        elite: the best of all that enter each generation unchanged, as a share of it.
    """

    swap_rate: float = 0.2
    elite: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.swap_rate <= 1:
            raise ValueError(f"swap_rate is {self.swap_rate}; it must lie in [0, 1]")
        if not 0 <= self.elite < 1:
            raise ValueError(f"elite is {self.elite}; it must lie in [0, 1)")

    def begin(self, problem: Problem, starts: np.ndarray, seed: int) -> Stepper:
        """Returns the search at its start."""
        elite = min(math.ceil(self.elite * self.pop_size), self.pop_size - 1)
        return EvopStepper(self, problem, starts, seed, elite)

    def mutated(self, problem: Problem, X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Returns candidates with their count repaired, some after a swap."""
        X = at_edge(problem, X, self.share, rng)
        swaps = (rng.random(len(X)) < self.swap_rate).astype(np.int64)
        moved = swapped(problem.space, X, swaps, rng)
        broken = np.asarray(problem.budget_violation(moved).any(axis=1))
        return np.where(broken[:, None], X, moved)


class EvopStepper:
    """A population that is replaced each generation, and a memory of what it evaluated.

    Attributes:
        generation: generations before the population.
        population: what is evaluated, or was last (pop_size, n_var).
    """

    def __init__(
        self, settings: _Genetic, problem: Problem, starts: np.ndarray, seed: int, elite: int = 0
    ) -> None:
        self._settings, self._problem, self._elite = settings, problem, elite
        self._rng = np.random.default_rng([seed, 5])
        self._seen = Seen()
        self._values: dict[bytes, float] = {}
        space = problem.space
        X = self._rng.integers(0, space.upper + 1, (settings.pop_size, space.n_var))
        X = np.concatenate([starts, X])[: settings.pop_size]
        self.population = at_edge(problem, X, settings.share, self._rng)
        self.generation = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """How much of what was proposed was new, and how much of the population still differs."""
        proposed = min(self.generation + 1, self._settings.n_gen) * self._settings.pop_size
        left = len(np.unique(self.population, axis=0))
        return (
            f"evop      {len(self._values)} distinct among {proposed} proposed; "
            f"the last population holds {left}",
        )

    def ask(self) -> np.ndarray | None:
        """Returns what is new in the next generation that holds anything new; None at the end."""
        while self.generation < self._settings.n_gen:
            new = self.population[self._seen.new(self.population)]
            if len(new):
                self._seen.add(new)
                return new
            self._advance()
        return None

    def ranked(self, F: np.ndarray, G: np.ndarray) -> np.ndarray:
        """Returns who goes on to the next rung first: by the one objective it knows."""
        return np.argsort(worth(self._problem, F, G), kind="stable")

    def tell(self, X: np.ndarray, F: np.ndarray, G: np.ndarray) -> None:
        """Remembers what candidates are worth, and moves on."""
        for row, value in zip(X, worth(self._problem, F, G), strict=True):
            self._values[row.astype(np.int64).tobytes()] = float(value)
        self._advance()

    def _advance(self) -> None:
        settings, rng = self._settings, self._rng
        self.generation += 1
        values = np.array([self._values[row.tobytes()] for row in self.population])
        size = settings.pop_size
        draws = rng.integers(0, size, (size, settings.tournament))
        parents = self.population[draws[np.arange(size), values[draws].argmin(axis=1)]]
        children = settings.mutated(self._problem, _crossed(parents, rng), rng)
        if self._elite:
            known = sorted(self._values, key=lambda key: (self._values[key], key))[: self._elite]
            children[: len(known)] = [np.frombuffer(key, dtype=np.int64) for key in known]
        self.population = children


def _crossed(parents: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns two-point crossovers of the first half with the second (P, n_var)."""
    half, n_var = len(parents) // 2, parents.shape[1]
    ends = np.sort(rng.integers(0, n_var, (half, 2)), axis=1)
    at = np.arange(n_var)
    inside = (ends[:, :1] <= at) & (at < ends[:, 1:])
    a, b = parents[:half], parents[half:]
    return np.concatenate([np.where(inside, b, a), np.where(inside, a, b)])
