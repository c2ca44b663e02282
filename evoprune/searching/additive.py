"""The best pattern if harms added up: each step is tried alone, the rest is a knapsack."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from evoprune.core.pattern import Drop
from evoprune.core.protocols import CostObjective
from evoprune.core.space import Space
from evoprune.searching.algorithm import WORST, Seen, Stepper
from evoprune.searching.problem import Problem
from evoprune.searching.rules import FINE, Trials, check_steps, inside

# Into how many units all that can be saved is divided, where it has no coarser common unit.
GRID = 4096


@dataclass(frozen=True)
class Additive:
    """``additive``: the best pattern of each size if the harms of single steps added up.

    The first measured objective is evaluated for every level of every gene alone; then, for rising
    budgets of the first counted objective (parameters if there is none), a knapsack is solved by
    dynamic programming. It is exact on a grid of 4096 units, and where costs add up over genes
    (tied genes are taken for independent).

    Attributes:
        steps: budgets tried where it is an algorithm or a control.
    """

    needs_blocks: ClassVar[bool] = False

    steps: int = 31

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def least(self, problem: Problem) -> int:
        """Returns the evaluations of the dense model and of every level alone."""
        return 1 + int(problem.space.upper.sum())

    most = least

    def begin(self, problem: Problem, starts: np.ndarray, seed: int) -> Stepper:
        """Returns the search at its start; warm starts are left out."""
        return AdditiveStepper(problem, self.steps)

    def first(self, problem: Problem, count: int, trials: Trials) -> np.ndarray:
        """Returns what the knapsacks hold, where there are budgets what meets them."""
        stepper = AdditiveStepper(problem, count)
        X = stepper.ask()
        assert X is not None
        stepper.tell(X, *trials(X))
        return stepper.found


class AdditiveStepper:
    """Asks for the dense model and every single step, then for what the knapsacks hold.

    Attributes:
        found: what the knapsacks hold, once the single steps were told (W, n_var).
    """

    def __init__(self, problem: Problem, count: int) -> None:
        self._problem, self._count = problem, count
        self._singles = singles(problem.space)
        self._seen = Seen()
        self._asked = 0
        self.found = self._singles[:0]

    def ask(self) -> np.ndarray | None:
        """Returns the single steps, then what was found, then None."""
        self._asked += 1
        X = self._singles if self._asked == 1 else self.found[self._seen.new(self.found)]
        self._seen.add(X)
        return X if len(X) and self._asked <= 2 else None

    def tell(self, X: np.ndarray, F: np.ndarray, G: np.ndarray) -> None:
        """Takes in what the single steps are worth, and solves the knapsacks."""
        if self._asked > 1:
            return
        problem, names = self._problem, list(self._problem.objectives)
        column = names.index(problem.measured[0]) if problem.measured else 0
        order = {row.tobytes(): value for row, value in zip(X, F[:, column], strict=True)}
        values = np.array([order[row.tobytes()] for row in self._singles])
        rising = knapsacks(
            problem.space,
            self._singles[1:],
            _savings(problem, self._singles),
            _harms(values),
            max(FINE, self._count) if problem.budgets else self._count,
        )
        self.found = inside(problem, rising, self._count)


def singles(space: Space) -> np.ndarray:
    """Returns the dense candidate, then every level of each variable alone (S + 1, n_var)."""
    variable = np.repeat(np.arange(space.n_var), space.upper)
    first = np.repeat(np.cumsum(space.upper) - space.upper, space.upper)
    X = np.zeros((len(variable) + 1, space.n_var), dtype=np.int64)
    X[1 + np.arange(len(variable)), variable] = 1 + np.arange(len(variable)) - first
    return X


def _savings(problem: Problem, X: np.ndarray) -> np.ndarray:
    """Returns what each candidate after the first saves of the first counted objective (S,)."""
    for name, objective in problem.objectives.items():
        if isinstance(objective, CostObjective):
            cost = problem.cost(name, X) * (1.0 if objective.goal == "min" else -1.0)
            return np.asarray(cost[0] - cost[1:])
    cost = problem.table.cost("params", problem.space, X)
    return np.asarray(cost[0] - cost[1:])


def _harms(values: np.ndarray) -> np.ndarray:
    """Returns by how much each value after the first, the dense model's, is worse than that (S,).

    What failed counts as worse than everything that did not.
    """
    failed = values >= WORST
    known = values[~failed]
    dense = known.min(initial=0.0) if failed[0] else values[0]
    harms = values[1:] - dense
    harms[failed[1:]] = 1.0 + 10.0 * np.abs(known - dense).max(initial=0.0)
    return harms


@dataclass(frozen=True)
class _Choice:
    """Something to remove: what it saves in units of the grid, its harm, variables and levels."""

    saving: int
    harm: float
    moves: tuple[tuple[int, int], ...] = ()


NOTHING = _Choice(0, 0.0)


def knapsacks(
    space: Space, X: np.ndarray, savings: np.ndarray, harms: np.ndarray, count: int
) -> np.ndarray:
    """Returns for evenly rising savings the least harmful candidate that saves it (count, n_var).

    Args:
        space: the candidates' space.
        X: single steps (S, n_var).
        savings: of each (S,).
        harms: of each (S,).
        count: how many savings between nothing and everything.
    """
    units = on_grid(np.maximum(savings, 0.0), X)
    variables = X.argmax(axis=1)
    steps: dict[int, list[_Choice]] = {v: [] for v in range(space.n_var)}
    for row, variable in enumerate(variables.tolist()):
        move = ((variable, int(X[row, variable])),)
        steps[variable].append(_Choice(int(units[row]), float(harms[row]), move))
    groups = _groups(space, steps)
    best, picked = _table(groups)
    found = np.zeros((count, space.n_var), dtype=np.int64)
    for row in range(count):
        least = math.ceil((len(best) - 1) * (row + 1) / (count + 1))
        at = least + int(np.argmin(best[least:]))
        for group, picks in zip(reversed(groups), reversed(picked), strict=True):
            choice = group[picks[at]]
            for variable, level in choice.moves:
                found[row, variable] = level
            at -= choice.saving
    return found


def on_grid(savings: np.ndarray, X: np.ndarray) -> np.ndarray:
    """Returns savings as whole numbers of a unit (S,).

    Their greatest common divisor where that is coarse enough, so that nothing is rounded.
    """
    most = np.zeros(X.shape[1])
    np.maximum.at(most, X.argmax(axis=1), savings)
    whole = np.round(savings).astype(np.int64)
    if (whole == savings).all():
        common = math.gcd(*whole.tolist()) or 1
        if most.sum() <= common * GRID:
            return np.asarray(whole // common)
    return np.round(savings * (GRID / (most.sum() or 1.0))).astype(np.int64)


def _groups(space: Space, steps: dict[int, list[_Choice]]) -> list[list[_Choice]]:
    """Returns what can be chosen independently: a list of choices for each outermost variable.

    What lies in a site that can be dropped belongs to the choices of that site: drop it, or take
    one of the combinations of what lies in it that no other one beats.
    """
    inner: dict[int, list[int]] = {}
    outer: list[int] = []
    for index in range(len(space.genes)):
        parent = _parent(space, index)
        (outer if parent is None else inner.setdefault(parent, [])).append(index)

    def choices(index: int) -> list[list[_Choice]]:
        columns = space.columns(index)
        own = [[NOTHING, *steps[v]] for v in range(columns.start, columns.stop)]
        within = [group for child in inner.get(index, ()) for group in choices(child)]
        if not within:
            return own
        kept = [NOTHING]
        for group in within:
            kept = _unbeaten([_both(a, b) for a in kept for b in group])
        drop = own[0][-1]
        levels = own[0][:-1]  # of a gene that also has levels: each goes with what lies within
        return [[*(_both(level, rest) for level in levels for rest in kept), drop]]

    return [group for index in outer for group in choices(index)]


def _parent(space: Space, index: int) -> int | None:
    """Returns the innermost other gene that can drop all that a gene is about."""
    above = []
    for site in space.genes[index].sites:
        chain, at = [], space.sites[site].parent
        while at is not None:
            chain.append(at)
            at = space.sites[at].parent
        above.append(chain)
    for site in above[0]:
        for other, gene in enumerate(space.genes):
            droppable = any(isinstance(option, Drop) for option in gene.options)
            if droppable and site in gene.sites and all(set(c) & set(gene.sites) for c in above):
                return other
    return None


def _both(a: _Choice, b: _Choice) -> _Choice:
    return _Choice(a.saving + b.saving, a.harm + b.harm, a.moves + b.moves)


def _unbeaten(choices: Sequence[_Choice]) -> list[_Choice]:
    """Returns the choices that no other one beats: by saving at least as much with less harm."""
    kept: list[_Choice] = []
    for choice in sorted(choices, key=lambda c: (-c.saving, c.harm, len(c.moves))):
        if not kept or choice.harm < kept[-1].harm:
            kept.append(choice)
    return kept[::-1]


def _table(groups: Sequence[Sequence[_Choice]]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns the least harm of each total saving (W + 1,), and each group's choice there."""
    top = sum(max(choice.saving for choice in group) for group in groups)
    best = np.full(top + 1, np.inf)
    best[0] = 0.0
    picked = []
    for group in groups:
        options = np.full((len(group), top + 1), np.inf)
        for row, choice in enumerate(group):
            options[row, choice.saving :] = best[: top + 1 - choice.saving] + choice.harm
        picked.append(options.argmin(axis=0))
        best = options.min(axis=0)
    return best, picked
