"""What a search must beat: simple ways to prune, given the same warm starts and budget.

None takes more dense-equivalent tokens than the search did, known answers included: a control asks
for no candidate that it has no tokens left for. Tokens are a function of the candidates, so a run
that is resumed has the same controls to the last byte, which seconds would not give.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from evoprune.core.errors import ConfigError, did_you_mean
from evoprune.core.pattern import Pattern
from evoprune.core.registry import ALGORITHMS
from evoprune.searching.algorithm import Stepper
from evoprune.searching.algorithms import Random
from evoprune.searching.archive import Archive
from evoprune.searching.budget import Budget, Rung
from evoprune.searching.greedy import GreedyStepper
from evoprune.searching.loop import search
from evoprune.searching.problem import Problem
from evoprune.searching.warm import Warm, add_known

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

    @cached_property
    def _dense_tokens(self) -> float:
        return self.archive.get([self.problem.space.dense], rung=self.rung)[0].tokens

    def cost(self, X: np.ndarray) -> np.ndarray:
        """Returns the dense-equivalent tokens that candidates take (P,)."""
        return self.problem.share(X) * self._dense_tokens


@dataclass(frozen=True)
class Controlled:
    """What a control found, and what it took.

    Attributes:
        patterns: its front on the search split.
        n_eval: patterns that it evaluated, those that were known included.
        tokens: dense-equivalent tokens that these take.
        notes: what it has to say of itself.
    """

    patterns: tuple[Pattern, ...]
    n_eval: int
    tokens: float
    notes: tuple[str, ...] = ()


class Within:
    """Asks for what a stepper asks for, as far as tokens last.

    Args:
        stepper: at its start.
        cost: returns the tokens that candidates take (P,).
        tokens: that there are.
    """

    def __init__(
        self, stepper: Stepper, cost: Callable[[np.ndarray], np.ndarray], tokens: float
    ) -> None:
        self._stepper, self._cost, self._left, self._ended = stepper, cost, tokens, False

    def ask(self) -> np.ndarray | None:
        """Returns the next candidates, the first of them where there is not room for all."""
        X = None if self._ended else self._stepper.ask()
        if X is None:
            return None
        spent = np.cumsum(self._cost(X))
        count = int(np.searchsorted(spent, self._left, side="right"))
        self._ended = count < len(X)
        self._left -= float(spent[count - 1]) if count else 0.0
        return X[:count] if count else None

    def tell(self, X: np.ndarray, F: np.ndarray, G: np.ndarray) -> None:
        """Tells the stepper, which is asked no more after it was cut short."""
        if not self._ended:
            self._stepper.tell(X, F, G)


def _rule(name: str) -> Callable[[Setting], Controlled]:
    def control(setting: Setting) -> Controlled:
        none = setting.warm.X[:0]
        stepper = ALGORITHMS.load(name)().begin(setting.problem, none, setting.seed)
        return _searched(setting, Within(stepper, setting.cost, setting.tokens), Warm(none))

    return control


def _greedy(setting: Setting) -> Controlled:
    stepper = GreedyStepper(setting.problem, setting.cost, setting.tokens)
    return _searched(setting, stepper, Warm(setting.warm.X[:0]))


def _random(setting: Setting) -> Controlled:
    stepper = Random().begin(setting.problem, setting.warm.X, setting.seed)
    left = setting.tokens - setting.warm.spent.tokens
    return _searched(setting, Within(stepper, setting.cost, left), setting.warm)


def _searched(setting: Setting, stepper: Stepper, warm: Warm) -> Controlled:
    found = search(
        setting.problem,
        stepper,
        setting.archive,
        Budget(tokens=setting.tokens),
        (Rung(setting.rung),),
        spent=warm.spent,
    )
    add_known(found, setting.archive, warm, setting.rung)
    patterns = tuple(found.patterns[i] for i in found.front)
    return Controlled(patterns, found.n_eval, found.tokens, found.notes)


CONTROLS: dict[str, Callable[[Setting], Controlled]] = {
    **{name: _rule(name) for name in RULES},
    "greedy": _greedy,
    "random": _random,
}


def control(name: str) -> Callable[[Setting], Controlled]:
    """Returns a control by name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in CONTROLS:
        raise ConfigError(f"There is no control '{name}'.", did_you_mean(name, CONTROLS))
    return CONTROLS[name]
