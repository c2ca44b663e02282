"""Who becomes a member: chosen by answers on the validation split, within a budget.

- ``greedy``: forward selection (Caruana et al., 2004). It begins with the best pattern that fits,
  and adds whichever lowers the ensemble's loss most, also one that is in already (it then counts
  twice and costs nothing more), until nothing helps. It may end with a single member, unless
  ``least`` members are asked for; those are then added even if the loss rises.
- ``disagreement``, ``double_fault``: of the better half of the patterns the best one, then
  whichever is most unlike those chosen: the largest share of positions at which two answer
  differently, or the smallest at which both are wrong (Kuncheva and Whitaker, 2003).
- ``percentile``: MO-EvoPruneDeepTL's windows of the front's accuracy, (50, 60), (55, 65) … (85, 95)
  percentiles; all patterns inside are members. The window is chosen on validation.
- ``random``: a set drawn by the seed; the control of the others.
- ``routed``: the best pattern for each calibration cluster; see ``routed``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from evoprune.core.constraints import Constraint, parse_bound
from evoprune.core.errors import ConfigError, did_you_mean
from evoprune.ensemble.combine import check_rule
from evoprune.ensemble.costs import Limit
from evoprune.ensemble.mixture import Mixture
from evoprune.ensemble.predictions import Measure, Predictions
from evoprune.ensemble.routed import best_by_cluster

# Members of a set whose method does not say how many there are.
SIZE = 5
ROUNDS = 32
WINDOWS = tuple((low, low + 10) for low in range(50, 90, 5))
DRAWS = 200


@dataclass(frozen=True)
class Recipe:
    """How an ensemble is made.

    Attributes:
        method: one of ``METHODS``; ``diversity`` means ``disagreement``.
        combine: how answers become one (``combine.RULES``); routed members answer alone.
        budget: a bound on the total cost, such as ``flops<=100%`` of the dense model; None for
            none. The FLOPs of an ensemble are those of all its members together, of a routed one
            those of routing and of any member.
        measure: what is looked at on validation, ``nll`` or ``accuracy``.
        size: the most members; by default 5 where a method does not say it. Not of ``percentile``
            and ``routed``, which have as many as there are.
        least: the fewest members of ``greedy``.
        seed: of what is drawn.
    """

    method: str = "greedy"
    combine: str = "probability"
    budget: str | None = "flops<=100%"
    measure: Measure = "nll"
    size: int | None = None
    least: int = 1
    seed: int = 0

    def check(self) -> None:
        """Checks what can be checked without a front.

        Raises:
            ConfigError: something makes no sense.
        """
        check_rule(self.combine)
        if self.method not in METHODS:
            raise ConfigError(
                f"'{self.method}' is no way to choose members.", did_you_mean(self.method, METHODS)
            )
        if self.measure not in ("nll", "accuracy"):
            raise ConfigError(
                f"'{self.measure}' is no measure to choose members by.", "Use nll or accuracy."
            )
        if self.least < 1 or (self.least > 1 and self.method != "greedy"):
            raise ConfigError(
                f"At least {self.least} members cannot be asked of '{self.method}'.",
                "Leave `least` out, or use it from 1 on with greedy.",
            )
        if self.size is not None and self.method in ("percentile", "routed"):
            raise ConfigError(
                f"The method '{self.method}' has as many members as there are, so `size` has no "
                "effect.",
                "Leave `size` out.",
            )
        if self.size is not None and self.size < max(1, self.least):
            raise ConfigError(
                f"At most {self.size} members cannot be {max(1, self.least)} or more.",
                "Raise `size` or lower `least`.",
            )


def recipe_of(recipe: Recipe | str | None, options: Mapping[str, object]) -> Recipe:
    """Returns the recipe that a person means.

    Args:
        recipe: itself, or the name of its method; greedy by default.
        options: fields that are otherwise.

    Raises:
        ConfigError: it is something else, or there is no such field or method.
    """
    if recipe is not None and not isinstance(recipe, Recipe | str):
        raise ConfigError(
            f"The recipe is {type(recipe).__name__}.",
            "Give a method, such as 'greedy', or an evoprune.ensemble.members.Recipe.",
        )
    base = recipe if isinstance(recipe, Recipe) else Recipe(recipe or Recipe.method)
    for name, value in options.items():
        if name not in vars(base):
            raise ConfigError(f"A recipe has no '{name}'.", did_you_mean(name, vars(base)))
        if name in ("size", "least", "seed") and type(value) is not int:
            raise ConfigError(f"'{name}' of a recipe is {value!r}.", "Give a whole number.")
    made = replace(base, **options)  # type: ignore[arg-type]
    made.check()
    return made


@dataclass(frozen=True)
class Chosen:
    """What a method chose.

    Attributes:
        mixture: the members and how they answer.
        steps: what was done, for the record.
    """

    mixture: Mixture
    steps: tuple[dict[str, object], ...] = ()


@dataclass(frozen=True)
class Choice:
    """What a method has to choose from.

    Attributes:
        recipe: how to.
        predictions: of all patterns.
        limit: the budget.
        candidates: positions of the patterns that may be members and fit the budget alone.
        n_clusters: how many calibration clusters there are.
    """

    recipe: Recipe
    predictions: Predictions
    limit: Limit
    candidates: tuple[int, ...]
    n_clusters: int = 1

    @cached_property
    def ranked(self) -> list[int]:
        """The candidates from the best."""
        order = self.predictions.order(self.recipe.measure)
        return [i for i in order if i in self.candidates]

    @cached_property
    def cheapest(self) -> list[int]:
        """The candidates from the cheapest, in the words of the budget."""
        if self.limit.constraint is None:
            return sorted(self.candidates)
        each = self.limit.bill.each(self.limit.constraint.name)
        return sorted(self.candidates, key=lambda i: (each[i], i))

    def loss(self, mixture: Mixture) -> tuple[float, float]:
        """Returns what a mixture loses on validation; infinitely much if it is not a number."""
        first, nll = self.predictions.loss(mixture, self.recipe.measure)
        return (np.inf, np.inf) if np.isnan(nll) else (first, nll)


def parse_budget(text: str | None, metrics: Sequence[str]) -> Constraint | None:
    """Returns the bound that a text such as ``flops<=100%`` means.

    Raises:
        ConfigError: it cannot be read, is no upper bound, or bounds what is not counted.
    """
    if text is None:
        return None
    bound = parse_bound(text)
    if bound.op not in ("<=", "<"):
        raise ConfigError(f"The budget '{text}' is no upper bound.", "Write it like 'flops<=100%'.")
    if bound.name not in metrics:
        raise ConfigError(
            f"The budget '{text}' bounds '{bound.name}', which is not counted.",
            did_you_mean(bound.name, metrics),
        )
    return bound


def choose(recipe: Recipe, predictions: Predictions, limit: Limit, n_clusters: int = 1) -> Chosen:
    """Returns the members among the patterns.

    Raises:
        ConfigError: no pattern, or no set of them, fits the budget.
    """
    recipe.check()
    fitting = tuple(i for i in range(len(predictions)) if limit.fits([i]))
    if not fitting:
        raise ConfigError(
            f"No point of the front fits the budget '{recipe.budget}'"
            + (", to which the dense embedding counts." if limit.routed else "."),
            "Raise the budget, or leave it out (none).",
        )
    choice = Choice(recipe, predictions, limit, fitting, n_clusters)
    return METHODS[recipe.method](choice)


def greedy(choice: Choice) -> Chosen:
    """Returns the members of forward selection; the loss falls with every step beyond ``least``.

    Raises:
        ConfigError: so many members do not fit the budget together.
    """
    recipe = choice.recipe
    counts: dict[int, int] = {}
    best = (np.inf, np.inf)
    steps: list[dict[str, object]] = []
    for _ in range(max(ROUNDS, recipe.least)):
        tried = [
            (choice.loss(Mixture(more, recipe.combine)), i, more)
            for i, more in _next(choice, counts)
        ]
        if not tried:
            raise ConfigError(
                f"No {recipe.least} points of the front fit the budget '{recipe.budget}' together.",
                "Raise the budget or lower `least`.",
            )
        found, added, more = min(tried, key=lambda one: one[0])
        # Rounding, so that a second copy of the same member is no gain.
        helps = np.round(found, 9).tolist() < np.round(best, 9).tolist()
        if not helps and len(counts) >= recipe.least:
            break
        counts, best = more, found
        steps.append({"added": added, recipe.measure: found[0]})
    return Chosen(Mixture(counts, recipe.combine), tuple(steps))


def _next(choice: Choice, counts: Mapping[int, int]) -> Iterator[tuple[int, dict[int, int]]]:
    """Yields what may be added, from the best, with the members' weights then."""
    size, least = choice.recipe.size or ROUNDS, choice.recipe.least
    for i in choice.ranked:
        if i in counts and len(counts) < least:
            continue
        more = {**counts, i: counts.get(i, 0) + 1}
        others = [j for j in choice.cheapest if j not in more][: max(0, least - len(more))]
        enough = len(more) + len(others) >= least
        if enough and len(more) <= size and choice.limit.fits(sorted([*more, *others])):
            yield i, more


def _diverse(choice: Choice, unlike: Callable[[int, int], float]) -> Chosen:
    """Returns the best pattern and those of the better half that are most unlike it."""
    half = choice.ranked[: max(1, (len(choice.ranked) + 1) // 2)]
    chosen, size = [half[0]], choice.recipe.size or SIZE
    while len(chosen) < size:
        left = [i for i in half if i not in chosen and choice.limit.fits(sorted([*chosen, i]))]
        if not left:
            break
        chosen.append(max(left, key=lambda i: float(np.mean([unlike(i, j) for j in chosen]))))
    return Chosen(Mixture.of(chosen, choice.recipe.combine))


def disagreement(choice: Choice) -> Chosen:
    """Returns members that answer differently."""
    answers = choice.predictions.choices
    return _diverse(choice, lambda i, j: float((answers[i] != answers[j]).mean()))


def double_fault(choice: Choice) -> Chosen:
    """Returns members that are seldom wrong together."""
    wrong = choice.predictions.wrong
    return _diverse(choice, lambda i, j: -float((wrong[i] & wrong[j]).mean()))


def percentile(choice: Choice) -> Chosen:
    """Returns the window of accuracy whose members together do best.

    Raises:
        ConfigError: no window with members fits the budget.
    """
    accuracy = 1 - choice.predictions.wrong.mean(axis=1)
    tried, steps = [], []
    for low, high in WINDOWS:
        ends = np.percentile(accuracy, [low, high])
        inside = np.flatnonzero((ends[0] <= accuracy) & (accuracy <= ends[1])).tolist()
        if not inside or not choice.limit.fits(inside):
            continue
        mixture = Mixture.of(inside, choice.recipe.combine)
        loss = choice.loss(mixture)
        tried.append((loss, low, mixture))
        steps.append({"window": [low, high], "members": len(inside)} | _named(choice, loss))
    if not tried:
        raise ConfigError(
            f"No window of the front's accuracy fits the budget '{choice.recipe.budget}'.",
            "Raise the budget, or leave it out (none).",
        )
    return Chosen(min(tried, key=lambda one: one[:2])[2], tuple(steps))


def _named(choice: Choice, loss: tuple[float, float]) -> dict[str, object]:
    measure = choice.recipe.measure
    return {measure: loss[0] if measure == "nll" else 1 - loss[0]}


def random(choice: Choice) -> Chosen:
    """Returns a set drawn by the seed."""
    rng = np.random.default_rng([choice.recipe.seed, 7])
    sets = draw_sets(choice, choice.recipe.size or SIZE, 1, rng)
    return Chosen(Mixture.of(sets[0], choice.recipe.combine))


def draw_sets(
    choice: Choice, size: int, count: int, rng: np.random.Generator
) -> list[tuple[int, ...]]:
    """Returns different sets of candidates that fit the budget, as many as were found.

    Where no set of the size fits, the sets are smaller by one, and so on.
    """
    found: dict[tuple[int, ...], None] = {}
    for n in range(min(size, len(choice.candidates)), 0, -1):
        for _ in range(DRAWS):
            drawn = tuple(sorted(rng.choice(choice.candidates, n, replace=False).tolist()))
            if len(found) < count and drawn not in found and choice.limit.fits(drawn):
                found[drawn] = None
        if found:
            break
    return list(found)


def routed(choice: Choice) -> Chosen:
    """Returns for each cluster the member that loses least there.

    Raises:
        ConfigError: what they take together exceeds the budget.
    """
    positions = list(choice.candidates)
    losses = choice.predictions.losses(choice.recipe.measure)[positions]
    found = best_by_cluster(losses, choice.predictions.clusters, choice.n_clusters)
    routes = {cluster: positions[i] for cluster, i in found.items()}
    mixture = Mixture(dict.fromkeys(sorted(routes.values()), 1), "logit", routes)
    if not choice.limit.holds(mixture):
        raise ConfigError(
            f"The best points for the clusters exceed '{choice.recipe.budget}' together.",
            "Raise the budget, or leave it out (none).",
        )
    return Chosen(mixture)


METHODS: dict[str, Callable[[Choice], Chosen]] = {
    "greedy": greedy,
    "diversity": disagreement,
    "disagreement": disagreement,
    "double_fault": double_fault,
    "percentile": percentile,
    "random": random,
    "routed": routed,
}
