"""Which point of a front a person means, by what rule it was chosen, and what to beware of."""

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evoprune.core.constraints import Constraint, parse_bound
from evoprune.core.errors import ConfigError, did_you_mean
from evoprune.core.pareto import Floats, knee, oriented
from evoprune.core.protocols import Goal
from evoprune.core.quality import COLUMN, SAFE, USEFUL
from evoprune.core.splits import SPLIT_OF

if TYPE_CHECKING:
    from evoprune.folder.front import Front, FrontPoint

Points = NDArray[np.intp]
# Returns, of the points that are left, the index of one, the reason, and a doubt if there is any.
Rule = Callable[[Points], tuple[int, str, str]]
NAMED = ("safe", "balanced", "small", "knee")
# What values on a split begin with; a column without is counted, and the same on every split.
MEASURED = ("val_", "search_", "report_")
# By how much of the scale the lower end of an interval must miss what is asked for to be told.
CLEARLY = 0.02
COSTS: Mapping[str, Goal] = {"params": "min", "flops": "min", "bytes": "min"}


@dataclass(frozen=True)
class Choice:
    """A point, and why it.

    Attributes:
        point: what was chosen.
        rule: by what rule, in words.
        warning: what to know before it is used; None where there is nothing.
    """

    point: "FrontPoint"
    rule: str
    warning: str | None = None


@dataclass(frozen=True)
class Asked:
    """An expression taken apart.

    Attributes:
        rule: ``safe``, ``best:kl`` … or an id; None where only bounds are given.
        bounds: each with the text that it was written as.
        rung: the export rung asked for.
    """

    rule: str | None = None
    bounds: list[tuple[str, Constraint]] = field(default_factory=list)
    rung: str | None = None


def asked(text: str) -> Asked:
    """Returns what an expression such as ``balanced,rung=homogeneous`` asks for.

    Raises:
        ConfigError: a bound cannot be read, or it names two rules.
    """
    rules: list[str] = []
    bounds, rung = [], None
    for part in (part.strip() for part in text.split(",")):
        if part.replace(" ", "").startswith("rung="):
            rung = part.partition("=")[2].strip("= ")
        elif (set(part) & set("<>=") and not part.startswith("best:")) or (text and not part):
            if len(re.findall("[<>]=?", part)) > 1:
                raise ConfigError(
                    f"'{part}' holds more than one bound.",
                    "Put a comma between them, such as params<=60%,perplexity<=40.",
                )
            bounds.append((part, parse_bound(part)))
        else:
            rules.append(part)
    if len(rules) > 1:
        raise ConfigError(
            f"'{text}' names more than one rule: {', '.join(rules)}.",
            "Pick each by itself (-p is repeatable); bounds may stand beside one rule.",
        )
    return Asked(rules[0] if rules else None, bounds, rung)


class Picker:
    """Chooses points of a front by what they score on validation, else on search.

    Args:
        front: has at least one point.
    """

    def __init__(self, front: "Front") -> None:
        self._front = front

    def choose(self, text: str) -> Choice:
        """Returns the point that an expression means (``Front.choose`` says how it is read).

        Raises:
            ConfigError: it is not understood, is ambiguous, or nothing meets it.
        """
        want = asked(text)
        among = self._on_rung(want.rung, np.arange(len(self._front)))
        for part, bound in want.bounds:
            among = self._within(part, bound, among)
        index, why, doubt = self._rule(want)(among)
        point = self._front[index]
        why += self._met(want, index)
        nothing = removes_nothing(self._front, point)
        doubt = doubt or self._little(index)
        warnings = [doubt, "It removes nothing: it is the dense model." if nothing else ""]
        return Choice(point, why, " ".join(w for w in warnings if w) or None)

    def _rule(self, want: Asked) -> Rule:
        """Returns the rule that an expression chooses by."""
        rules: dict[str, Rule] = {
            "safe": partial(self._cheapest_that_keeps, SAFE),
            "small": partial(self._cheapest_that_keeps, USEFUL),
            "balanced": self._balanced,
            "knee": self._knee,
        }
        if want.rule in rules:
            return rules[want.rule]
        if want.rule is not None and want.rule.startswith("best:"):
            name = want.rule.removeprefix("best:").strip()
            if name not in self._front.goals:
                raise ConfigError(
                    f"'{name}' is no objective.", did_you_mean(name, self._front.goals)
                )
            return partial(self._best, name)
        if want.rule is not None:
            return partial(self._named, want.rule)
        if any(self.column(bound.name).startswith(MEASURED) for _, bound in want.bounds):
            return self._cheapest
        return partial(self._best, self.first_measured()) if want.bounds else self._balanced

    # Rules: each takes the indices of the points that are left, and returns one of them.

    def _cheapest_that_keeps(self, share: float, among: Points) -> tuple[int, str, str]:
        quality = self._quality(among)
        if quality is None:
            index, why, _ = self._knee(among)
            return index, why, UNKNOWN
        good = among[quality >= share]
        if len(good):
            index, why, _ = self._cheapest(good)
            verb = "keep" if len(good) > 1 else "keeps"
            why = f"{why} that {verb} at least {share:.0%}{self._keeps(index)}"
            return index, why, self._unsure(index, share)
        index = int(among[np.nanargmax(quality)])
        most = f"the one of {_count(among)} that keeps most{self._keeps(index)}"
        return index, most, f"No point keeps {share:.0%} of what the dense model knows."

    def _balanced(self, among: Points) -> tuple[int, str, str]:
        quality = self._quality(among)
        if quality is None:
            index, why, _ = self._knee(among)
            return index, why, UNKNOWN
        good = among[quality >= USEFUL]
        if not len(good):
            index, why, _ = self._knee(among)
            return index, why, f"No point keeps {USEFUL:.0%} of what the dense model knows."
        # The dense model is no bargain where anything is.
        cut = [i for i in good if not removes_nothing(self._front, self._front[int(i)])]
        good = np.array(cut) if cut else good
        beside, safe = "", among[quality >= SAFE]
        if len(safe):
            # More than the safe one would cost more, and be no better bargain.
            name, goal = self.cost()
            costs = self._oriented([name], goal)[:, 0]
            good = good[costs[good] <= costs[safe].min()]
            less = "more" if goal == "min" else "less"
            beside = f", no {less} {name} than the cheapest that keeps {SAFE:.0%}"
        index = int(good[knee(self._oriented([*self._front.goals])[good])])
        verb = "keep" if len(good) > 1 else "keeps"
        why = f"knee of {_count(good)} that {verb} at least {USEFUL:.0%}{beside}"
        return index, f"{why}{self._keeps(index)}", self._unsure(index, USEFUL)

    def _knee(self, among: Points) -> tuple[int, str, str]:
        names = [*self._front.goals]
        F = self._oriented(names)[among]
        finite = np.isfinite(F).all(axis=1)
        if not finite.any():
            raise ConfigError(
                "No point of the front has a finite value of every objective.",
                "Pick one by its id.",
            )
        ideal, nadir = self._box(names, F[finite])
        index = int(among[knee(F, ideal, nadir)])
        return index, f"knee of {_count(among)}{self._keeps(index)}", ""

    def _cheapest(self, among: Points) -> tuple[int, str, str]:
        name, goal = self.cost()
        F = self._oriented([name, *self._front.goals], goal)
        index = min((int(i) for i in among), key=lambda i: (tuple(F[i]), i))
        word = "fewest" if goal == "min" else "most"
        return index, f"{word} {name} of {_count(among)}", ""

    def _best(self, name: str, among: Points) -> tuple[int, str, str]:
        F = self._oriented([*dict.fromkeys([name, *self._front.goals])])
        F = np.where(np.isfinite(F), F, np.inf)
        index = min((int(i) for i in among), key=lambda i: (tuple(F[i]), i))
        if np.isinf(F[index, 0]):
            raise ConfigError(f"No such point has a finite '{name}'.", "Pick one by its id.")
        return index, f"best {name} of {_count(among)}{self._keeps(index)}", ""

    def _named(self, text: str, among: Points) -> tuple[int, str, str]:
        ids = [point.id for point in self._front]
        found = [text] if text in ids else [i for i in ids if text and i.startswith(text)]
        if len(found) > 1:
            shown = ", ".join(found[:5]) + (", …" if len(found) > 5 else "")
            raise ConfigError(
                f"'{text}' begins {len(found)} ids: {shown}.", "Give more of the one you mean."
            )
        if not found:
            raise ConfigError(
                f"'{text}' is no point of the front.", did_you_mean(text, [*NAMED, *ids])
            )
        index = ids.index(found[0])
        if index not in among:
            raise ConfigError(
                f"The point '{found[0]}' does not meet what stands beside it.",
                "Give the id alone.",
            )
        return index, f"by its id{self._keeps(index)}", ""

    # What points have.

    def column(self, name: str) -> str:
        """Returns the column that a name in an expression stands for.

        Raises:
            ConfigError: there is none.
        """
        known = self._front.columns()
        for column in (f"val_{name}", f"search_{name}", name):
            if column in known:
                return column
        raise ConfigError(
            f"The front has no values named '{name}'.",
            did_you_mean(name, [*self._front.goals, *known]),
        )

    def values(self, column: str) -> Floats:
        """Returns a column (P,); nan where it was not measured."""
        return np.array([float(p.values.get(column, math.nan)) for p in self._front])

    def _oriented(self, names: list[str], first: Goal | None = None) -> Floats:
        """Returns objectives (P, M) to be minimised.

        Args:
            names: of them.
            first: the goal of the first, where it is a cost that is no objective.
        """
        goals = [self._front.goals.get(name, first or "min") for name in names]
        return oriented(np.stack([self.values(self.column(n)) for n in names], axis=1), goals)

    def _box(self, names: list[str], F: Floats) -> tuple[Floats, Floats]:
        """Returns the best and the worst corner (M,) between which a knee is looked for.

        Quality spans from the dense model to one that knows frequencies only, costs from the
        cheapest point to the dense model; what has no such ends spans the points.

        Args:
            names: of the objectives.
            F: the points' values of them, to be minimised (P, M).
        """
        ideal, nadir = F.min(axis=0), F.max(axis=0)
        for at, name in enumerate(names):
            column, sign = self.column(name), 1.0 if self._front.goals[name] == "min" else -1.0
            dense, zero = (
                sign * ends.get(column, math.nan) for ends in (self._front.dense, self._front.zero)
            )
            if math.isfinite(dense) and math.isfinite(zero):
                ideal[at], nadir[at] = dense, zero
            elif math.isfinite(dense) and self._front.zero and not column.startswith(MEASURED):
                nadir[at] = max(dense, nadir[at])
        return ideal, nadir

    def _quality(self, among: Points) -> Floats | None:
        """Returns the quality kept of points; None where the run does not know it."""
        if not {f"val_{COLUMN}", f"search_{COLUMN}"} & {*self._front.columns()}:
            return None
        found = self.values(self.column(COLUMN))[among]
        return found if np.isfinite(found).any() else None

    def _little(self, index: int) -> str:
        """Returns a doubt where a point, whatever rule chose it, keeps less than is useful."""
        quality = self._quality(np.array([index]))
        if quality is None or not quality[0] < USEFUL:
            return ""
        return f"It keeps only {quality[0]:.0%} of what the dense model knows."

    def _unsure(self, index: int, share: float) -> str:
        """Returns a doubt where a point may keep clearly less than it seems to on validation.

        It was chosen for keeping just enough, so chance is on its side there.
        """
        column = f"val_{COLUMN}_low"
        low = self._front[index].values.get(column, math.nan)
        if not low < share - CLEARLY:
            return ""
        return (
            f"On other examples it may keep as little as {low:.0%} (lower end of its 95% interval "
            "on validation): score more of them (`validation.samples`) to be surer."
        )

    def _keeps(self, index: int) -> str:
        quality = self._quality(np.array([index]))
        if quality is None:
            return ""
        return f"; it keeps {quality[0]:.1%} on {_split_of(self.column(COLUMN))}"

    def _met(self, want: Asked, index: int) -> str:
        """Returns the values of a point that bounds were held against, and those on report."""
        found = []
        for _, bound in want.bounds:
            column = self.column(bound.name)
            split = _split_of(column)
            if split and bound.name != COLUMN:
                values = self._front[index].values
                on = {split: values.get(column), "report": values.get(f"report_{bound.name}")}
                told = [f"{v:.4g} on {name}" for name, v in on.items() if v is not None]
                found.append(f"{bound.name} {', '.join(told)}")
        return f"; {'; '.join(found)}" if found else ""

    def cost(self) -> tuple[str, Goal]:
        """Returns what points are cheap by: the first objective that is counted, else params."""
        known = self._front.columns()
        for name, goal in {**self._front.goals, **COSTS}.items():
            if name in known and not self.column(name).startswith(MEASURED):
                return name, goal
        raise ConfigError(
            "Nothing says what a point of this front costs.", "Pick one by its id, or best:NAME."
        )

    def first_measured(self) -> str:
        """Returns the objective that bounds on costs leave to be optimised."""
        for name in self._front.goals:
            if self.column(name).startswith(MEASURED):
                return name
        return next(iter(self._front.goals))

    def _on_rung(self, rung: str | None, among: Points) -> Points:
        if rung is None:
            return among
        known = list(dict.fromkeys(p.rung for p in self._front if p.rung))
        if rung not in known:
            raise ConfigError(
                f"No point of the front is exported on the rung '{rung}'.",
                f"{did_you_mean(rung, known)}"
                if known
                else "This front does not say; `evoprune doctor RUN` does.",
            )
        return among[[self._front[int(i)].rung == rung for i in among]]

    def _within(self, part: str, bound: Constraint, among: Points) -> Points:
        column = self.column(bound.name)
        dense, values = self._dense_of(bound, column), self.values(column)[among]
        met = bound.met(values, dense)
        if not met.any():
            raise _out_of_reach(part, column, values, bound, dense)
        inside: Points = among[met]
        return inside

    def _dense_of(self, bound: Constraint, column: str) -> float:
        """Returns the dense value that a percentage refers to; nan where none is needed."""
        known = self._front.dense
        dense = known.get(column, known.get(bound.name, math.nan))
        if bound.percent and (not math.isfinite(dense) or dense == 0):
            what = "0" if dense == 0 else "not known"
            raise ConfigError(
                f"'{bound.bound:g}%' of the dense '{bound.name}' means nothing: that is {what}.",
                "Give the limit as a plain number.",
            )
        return float(dense)


UNKNOWN = (
    "What quality it keeps has no scale: the dense model is no better than knowing frequencies "
    "only, or the run was made before evoprune measured it."
)


def _split_of(column: str) -> str:
    """Returns the split that a column of a front is of; empty of a count."""
    prefix = column.partition("_")[0]
    return SPLIT_OF.get(prefix, "") if column.startswith(MEASURED) else ""


def removes_nothing(front: "Front", point: "FrontPoint") -> bool:
    """Returns whether a point costs what the dense model costs, by every cost that is known."""
    counted = [column for column in front.columns() if not column.startswith(MEASURED)]
    return bool(counted) and all(point.values.get(c) == front.dense.get(c) for c in counted)


def _count(among: Points) -> str:
    return f"the {len(among)} points" if len(among) != 1 else "the 1 point"


def _out_of_reach(
    part: str, column: str, values: Floats, bound: Constraint, dense: float
) -> ConfigError:
    """Returns the error for a constraint that none of the values left (K,) meets."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return ConfigError(f"No point left has a finite '{column}' for '{part}'.", "Leave it out.")
    limit = bound.limit(dense)
    nearest = float(finite[np.argmin(np.abs(finite - limit))])
    said = f"{nearest / dense:.1%}" if bound.percent else f"{nearest:,.6g}"
    return ConfigError(
        f"No point of the front meets '{part}' (with what stands before it).",
        f"The nearest {column} is {said}: loosen the limit.",
    )


def check_picks(texts: Iterable[str], objectives: Collection[str]) -> None:
    """Checks picks that are asked for before there is a front, as far as that can be.

    Args:
        texts: expressions, as ``Front.choose`` takes them.
        objectives: those of the search.

    Raises:
        ConfigError: one can be no rule, no bound and no beginning of an id.
    """
    for text in texts:
        rule = asked(text).rule
        if rule is None or rule in NAMED or re.fullmatch("[0-9a-f]{4,12}", rule):
            continue
        name = rule.removeprefix("best:").strip()
        if not rule.startswith("best:"):
            raise ConfigError(
                f"'{text}' is no pick.",
                did_you_mean(rule, [*NAMED, *(f"best:{o}" for o in objectives)]),
            )
        if name not in objectives:
            raise ConfigError(f"'{name}' is no objective.", did_you_mean(name, objectives))
