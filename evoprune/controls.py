"""What a search must beat: simple ways to prune, given the same warm starts and budget."""

from collections.abc import Callable
from dataclasses import dataclass

from evoprune.errors import ConfigError, did_you_mean
from evoprune.pattern import Pattern
from evoprune.registry import ALGORITHMS
from evoprune.search.algorithms import Random, Stepper
from evoprune.search.archive import Archive
from evoprune.search.loop import Budget, Rung, search
from evoprune.search.problem import Problem
from evoprune.search.warm import Warm, add_known

# Algorithms that are controls as well; they take no warm starts.
RULES = ("uniform", "last_k", "block_influence", "adapt_pruner", "cka", "additive", "greedy")


@dataclass(frozen=True)
class Setting:
    """What all controls share.

    Attributes:
        problem: what is searched.
        archive: what is known, and the evaluator.
        warm: the warm starts of the search.
        tokens: dense-equivalent tokens that the search spent, its warm starts included.
        seed: of the random control; another than the search's.
        rung: the top rung.
    """

    problem: Problem
    archive: Archive
    warm: Warm
    tokens: float
    seed: int
    rung: int


def _rule(name: str) -> Callable[[Setting], list[Pattern]]:
    def control(setting: Setting) -> list[Pattern]:
        algorithm = ALGORITHMS.load(name)()
        stepper = algorithm.begin(setting.problem, setting.warm.X[:0], setting.seed)
        return _searched(setting, stepper, Warm(setting.warm.X[:0]))

    return control


def _random(setting: Setting) -> list[Pattern]:
    stepper = Random().begin(setting.problem, setting.warm.X, setting.seed)
    return _searched(setting, stepper, setting.warm)


def _searched(setting: Setting, stepper: Stepper, warm: Warm) -> list[Pattern]:
    found = search(
        setting.problem,
        stepper,
        setting.archive,
        Budget(tokens=setting.tokens),
        (Rung(setting.rung),),
        spent=warm.spent,
    )
    add_known(found, setting.archive, warm, setting.rung)
    return [found.patterns[i] for i in found.front]


CONTROLS: dict[str, Callable[[Setting], list[Pattern]]] = {
    **{name: _rule(name) for name in RULES},
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
