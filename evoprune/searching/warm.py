"""Evaluates what warm starts ask for, and says what that cost."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evoprune.core.errors import ConfigError
from evoprune.core.pattern import Pattern
from evoprune.core.protocols import Evaluation
from evoprune.core.registry import STARTS
from evoprune.searching.archive import Archive
from evoprune.searching.budget import NOTHING_SPENT, Budget, Spent
from evoprune.searching.loop import Progress
from evoprune.searching.problem import Problem
from evoprune.searching.rules import Start
from evoprune.searching.values import objectives, violations

# Of the search's budget, for each warm start that evaluates something.
SHARE = 0.25
# Where no bound is a number of evaluations or tokens.
OTHERWISE = 256


def start(name: str) -> Start:
    """Returns a warm start by name.

    Raises:
        ConfigError: there is none of that name.
    """
    made: Start = STARTS.load(name)()
    return made


@dataclass(frozen=True)
class Allowance:
    """What one warm start may spend; infinite where nothing bounds it."""

    n_eval: float
    tokens: float = math.inf

    @classmethod
    def of(cls, budget: Budget, pop_size: int) -> "Allowance":
        """Returns a quarter of a search's budget; its seconds begin after the warm starts."""
        counts = [budget.n_eval, budget.n_gen and budget.n_gen * pop_size]
        n_eval = min((SHARE * n for n in counts if n is not None), default=math.inf)
        tokens = math.inf if budget.tokens is None else SHARE * budget.tokens
        if math.isinf(min(n_eval, tokens)):
            n_eval = OTHERWISE
        return cls(n_eval if math.isinf(n_eval) else math.floor(n_eval), tokens)


@dataclass(frozen=True)
class Warm:
    """Where a search starts.

    Attributes:
        X: the candidates that the algorithm is given (W, n_var).
        spent: on finding them.
        known: what was evaluated for them at the top rung, with lower rungs nothing.
    """

    X: np.ndarray
    spent: Spent = NOTHING_SPENT
    known: tuple[Pattern, ...] = ()


@dataclass
class Ledger:
    """Evaluates candidates at the lowest rung, and keeps account: a pattern counts once.

    Attributes:
        problem: what is searched.
        archive: what is known, and the evaluator.
        rung: the lowest.
        paid: what was evaluated.
    """

    problem: Problem
    archive: Archive
    rung: int
    paid: dict[Pattern, Evaluation] = field(default_factory=dict)
    _end: Allowance = Allowance(0)

    @property
    def spent(self) -> Spent:
        """Evaluations and dense-equivalent tokens so far."""
        return Spent(len(self.paid), sum(one.tokens for one in self.paid.values()))

    def allow(self, allowance: Allowance) -> None:
        """Sets aside so much for what comes."""
        now = self.spent
        self._end = Allowance(now.n_eval + allowance.n_eval, now.tokens + allowance.tokens)

    def affords(self, X: np.ndarray) -> bool:
        """Returns whether candidates may be evaluated, a dense pass reckoned for each."""
        new = len(set(self.problem.space.patterns(X)) - set(self.paid))
        return self.fits(new)

    def fits(self, count: int) -> bool:
        """Returns whether so many evaluations may be made."""
        each, now = self._dense().tokens, self.spent
        fits = now.n_eval + count <= self._end.n_eval
        return fits and now.tokens + count * each <= self._end.tokens

    def _dense(self) -> Evaluation:
        return self.archive.get([self.problem.space.dense], rung=self.rung)[0]

    def __call__(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns objectives (P, M) and violations (P, C) of candidates."""
        patterns = self.problem.space.patterns(X)
        found = self.archive.get(patterns, rung=self.rung)
        self.paid |= dict(zip(patterns, found, strict=True))
        F = objectives(self.problem, X, found)
        return F, violations(self.problem, X, found, self._dense())


def warmed(
    problem: Problem,
    archive: Archive,
    names: Sequence[str],
    count: int,
    allowance: Allowance,
    rungs: Sequence[int] = (-1,),
    say: Callable[[str], None] = lambda line: None,
) -> Warm:
    """Returns where a search starts.

    What a warm start may spend is journalled when it first begins, so that a search whose budget
    grows goes on from where it began.

    Args:
        problem: what is searched.
        archive: what is known, and the evaluator.
        names: of the warm starts.
        count: candidates wanted of each.
        allowance: what each may spend.
        rungs: of the search split, low to top.
        say: told what was spent.

    Raises:
        ConfigError: a start needs more evaluations than it may make.
    """
    ledger = Ledger(problem, archive, rungs[0])
    made = {name: start(name) for name in names}
    costly = {name: one for name, one in made.items() if one.least(problem)}
    allowed = {name: _allowed(archive, name, allowance) for name in costly}
    for name, one in costly.items():
        _check(ledger, name, one.least(problem), allowed[name])
    for name, limit in allowed.items():
        if not _begun(archive, name):
            archive.event("warm_start", start=name, **_plain(limit))
    X = [np.zeros((0, problem.space.n_var), dtype=np.int64)]
    for name, one in made.items():
        before = ledger.spent
        if name in allowed:
            ledger.allow(allowed[name])
            say(f"start     {name}: may spend {_words(allowed[name])}")
        X.append(one.first(problem, count, ledger))
        if name in allowed:
            now = ledger.spent
            say(
                f"start     {name}: {now.n_eval - before.n_eval} evaluations, "
                f"{now.tokens - before.tokens:,.0f} dense-equivalent tokens, "
                f"{len(X[-1])} candidates"
            )
    known = tuple(ledger.paid) if len(rungs) == 1 else ()
    return Warm(np.concatenate(X), ledger.spent, known)


def _begun(archive: Archive, name: str) -> list[dict[str, Any]]:
    return [e for e in archive.events("warm_start") if e["start"] == name]


def _allowed(archive: Archive, name: str, allowance: Allowance) -> Allowance:
    """Returns what a start was allowed when it first began, else what it is allowed now."""
    begun = _begun(archive, name)
    if not begun:
        return allowance
    n_eval, tokens = (begun[0][key] for key in ("n_eval", "tokens"))
    return Allowance(math.inf if n_eval is None else n_eval, tokens or math.inf)


def _plain(allowance: Allowance) -> dict[str, float | None]:
    values = {"n_eval": allowance.n_eval, "tokens": allowance.tokens}
    return {name: None if math.isinf(value) else value for name, value in values.items()}


def _words(allowance: Allowance) -> str:
    words = {"evaluations": allowance.n_eval, "tokens": allowance.tokens}
    return " and ".join(f"{v:,.0f} {name}" for name, v in words.items() if math.isfinite(v))


def _check(ledger: Ledger, name: str, least: int, allowance: Allowance) -> None:
    ledger.allow(allowance)
    if not ledger.fits(least):
        raise ConfigError(
            f"The warm start '{name}' needs {least:,} evaluations, and a quarter of the search's "
            f"budget is {_words(allowance)}.",
            f"Give the search more, or leave '{name}' out of search.warm_starts.",
        )


def add_known(progress: Progress, archive: Archive, warm: Warm, rung: int) -> None:
    """Adds what was evaluated for the warm starts, and never asked for, to what a search found."""
    problem, asked = progress.problem, set(progress.patterns)
    patterns = [pattern for pattern in warm.known if pattern not in asked]
    if not patterns:
        return
    X = problem.space.encode(patterns)
    found = archive.get(patterns, rung=rung)
    dense = archive.get([problem.space.dense], rung=rung)[0]
    F, G = objectives(problem, X, found), violations(problem, X, found, dense)
    progress.add(patterns, F, G)
