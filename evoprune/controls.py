"""What a search must beat: simple ways to prune, given the same warm starts and budget."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evoprune.errors import ConfigError, did_you_mean
from evoprune.front import nondominated
from evoprune.pattern import Pattern
from evoprune.search.algorithms import Greedy, Random
from evoprune.search.archive import Archive
from evoprune.search.loop import Budget, Rung, objectives, search, violations
from evoprune.search.problem import Problem
from evoprune.search.starts import last_k, uniform

# Sparsities at which the rules that need no data are tried.
STEPS = 31


@dataclass(frozen=True)
class Setting:
    """What all controls share.

    Attributes:
        problem: what is searched.
        archive: what is known, and the evaluator.
        starts: the warm starts of the search.
        tokens: dense-equivalent tokens that the search spent.
        seed: of the random control; another than the search's.
        rung: the top rung.
    """

    problem: Problem
    archive: Archive
    starts: np.ndarray
    tokens: float
    seed: int
    rung: int


def _rule(make: Callable[..., np.ndarray]) -> Callable[[Setting], list[Pattern]]:
    def control(setting: Setting) -> list[Pattern]:
        problem = setting.problem
        X = np.unique(problem.space.canonical(make(problem.space, STEPS)), axis=0)
        return _front(setting, problem.space.patterns(X))

    return control


def _front(setting: Setting, patterns: Sequence[Pattern]) -> list[Pattern]:
    """Returns the feasible non-dominated patterns, as a search would hold them."""
    problem = setting.problem
    X = problem.space.encode(patterns)
    evaluations = setting.archive.get(patterns, rung=setting.rung)
    dense = setting.archive.get([problem.space.dense], rung=setting.rung)[0]
    F = objectives(problem, X, evaluations)
    F[violations(problem, X, evaluations, dense).any(axis=1)] = np.nan
    return [patterns[int(i)] for i in np.flatnonzero(nondominated(F))]


def _random(setting: Setting) -> list[Pattern]:
    stepper = Random().begin(setting.problem, setting.starts, setting.seed)
    return _searched(setting, stepper)


def _greedy(setting: Setting) -> list[Pattern]:
    return _searched(setting, Greedy().begin(setting.problem, setting.starts, setting.seed))


def _searched(setting: Setting, stepper: object) -> list[Pattern]:
    found = search(
        setting.problem,
        stepper,  # type: ignore[arg-type]
        setting.archive,
        Budget(tokens=setting.tokens),
        (Rung(setting.rung),),
    )
    return [found.patterns[i] for i in found.front]


CONTROLS: dict[str, Callable[[Setting], list[Pattern]]] = {
    "uniform": _rule(uniform),
    "last_k": _rule(last_k),
    "greedy": _greedy,
    "random": _random,
}


def control(name: str) -> Callable[[Setting], list[Pattern]]:
    """Returns a control by name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in CONTROLS:
        raise ConfigError(f"There is no control '{name}'.", did_you_mean(name, CONTROLS))
    return CONTROLS[name]
