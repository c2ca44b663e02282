"""Rules: simple ways to prune, each a warm start, a baseline algorithm and a control."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from evoprune.searching.algorithm import Seen, Stepper
from evoprune.searching.problem import Problem
from evoprune.searching.repair import repair
from evoprune.searching.starts import dense, evenly, last_k, uniform

# How finely a rule's sparsities are tried where only some of them meet the budgets.
FINE = 256


class Trials(Protocol):
    """Evaluates what a warm start asks for."""

    def affords(self, X: np.ndarray) -> bool:
        """Returns whether candidates may be evaluated within what is set aside for the start."""
        ...

    def __call__(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns objectives to be minimised (P, M) and violations (P, C) of candidates."""
        ...


class Start(Protocol):
    """A warm start.

    ``needs_blocks`` says that it goes by what the dense network's blocks do (``Problem.hints``).
    """

    needs_blocks: ClassVar[bool]

    def least(self, problem: Problem) -> int:
        """Returns how many evaluations it cannot do without."""
        ...

    def most(self, problem: Problem) -> int:
        """Returns how many evaluations it makes at most."""
        ...

    def first(self, problem: Problem, count: int, trials: Trials) -> np.ndarray:
        """Returns about ``count`` canonical candidates of rising sparsity (W, n_var)."""
        ...


@dataclass(frozen=True)
class Dense:
    """``dense``: the network as it is."""

    needs_blocks: ClassVar[bool] = False

    def least(self, problem: Problem) -> int:
        """Returns 0: it evaluates nothing."""
        return 0

    most = least

    def first(self, problem: Problem, count: int, trials: Trials) -> np.ndarray:
        """Returns the candidate that removes nothing (1, n_var)."""
        return dense(problem.space, count)


def check_steps(steps: int) -> None:
    """Refuses fewer than one sparsity."""
    if steps < 1:
        raise ValueError(f"steps is {steps}; it must be at least 1")


@dataclass(frozen=True)
class Rule(ABC):
    """A rule that needs no evaluation; as an algorithm it asks for its candidates and ends.

    Attributes:
        steps: sparsities tried where it is an algorithm or a control, spread over its whole range
            or over what meets the budgets.
    """

    needs_blocks: ClassVar[bool] = False

    steps: int = 31

    def __post_init__(self) -> None:
        check_steps(self.steps)

    @abstractmethod
    def rising(self, problem: Problem, count: int) -> np.ndarray:
        """Returns ``count`` candidates of evenly rising sparsity (count, n_var)."""

    def least(self, problem: Problem) -> int:
        """Returns 0: it evaluates nothing."""
        return 0

    most = least

    def first(self, problem: Problem, count: int, trials: Trials) -> np.ndarray:
        """Returns the candidates that it gives, where there are budgets those that meet them."""
        if not problem.budgets:
            return problem.space.canonical(self.rising(problem, count))
        return inside(problem, self.rising(problem, max(FINE, count)), count)

    def begin(self, problem: Problem, starts: np.ndarray, seed: int) -> Stepper:
        """Returns the search at its start; warm starts are left out."""
        X = self.rising(problem, max(FINE, self.steps) if problem.budgets else self.steps)
        return RuleStepper(inside(problem, X, self.steps))


@dataclass(frozen=True)
class Uniform(Rule):
    """``uniform``: rising shares removed, spread evenly over depth."""

    def rising(self, problem: Problem, count: int) -> np.ndarray:
        """Returns ``count`` candidates of evenly rising sparsity (count, n_var)."""
        return uniform(problem.space, count)


@dataclass(frozen=True)
class LastK(Rule):
    """``last_k``: rising shares removed, taken from the end."""

    def rising(self, problem: Problem, count: int) -> np.ndarray:
        """Returns ``count`` candidates of evenly rising sparsity (count, n_var)."""
        return last_k(problem.space, count)


class RuleStepper:
    """Asks for the candidates of a rule, once."""

    def __init__(self, X: np.ndarray) -> None:
        self._X: np.ndarray | None = X[halving(len(X))]

    def ask(self) -> np.ndarray | None:
        """Returns all of them, so ordered that the first few are spread as well; then None."""
        X, self._X = self._X, None
        return X if X is not None and len(X) else None

    def tell(self, X: np.ndarray, F: np.ndarray, G: np.ndarray) -> None:
        """A rule learns nothing."""


def inside(problem: Problem, rising: np.ndarray, count: int) -> np.ndarray:
    """Returns at most ``count`` of some candidates of rising sparsity, canonical and distinct.

    They are spread evenly over those that meet the budgets; where none does, all are repaired.
    """
    X = _distinct(problem.space.canonical(rising))
    met = X[~problem.budget_violation(X).any(axis=1)]
    if not len(met):
        X = _distinct(repair(problem, X, np.random.default_rng(0)))
        met = X[~problem.budget_violation(X).any(axis=1)]
    return met if len(met) <= count else met[evenly(len(met), count)]


def _distinct(X: np.ndarray) -> np.ndarray:
    return X[Seen().new(X)]


def halving(count: int) -> np.ndarray:
    """Returns 0 … count − 1 in such an order that each prefix is spread over all (count,).

    The order of reversed bits (van der Corput, 1935).
    """
    bits = max(1, int(count - 1).bit_length())
    index = np.arange(1 << bits)
    turned = np.zeros_like(index)
    for bit in range(bits):
        turned |= ((index >> bit) & 1) << (bits - 1 - bit)
    return turned[turned < count]


def by_share(moves: np.ndarray, n_var: int, count: int) -> np.ndarray:
    """Returns candidates that take evenly rising shares of some moves (count, n_var).

    Args:
        moves: the variables to move by a level, in this order (S,).
        n_var: how many variables there are.
        count: how many candidates.
    """
    shares = (np.arange(count) + 1) / (count + 1)
    taken = [moves[: round(share * len(moves))] for share in shares]
    return np.stack([np.bincount(some, minlength=n_var) for some in taken]).astype(np.int64)
