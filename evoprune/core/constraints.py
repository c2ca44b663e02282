"""Bounds on objectives and costs, as people write them: ``params<=70%``, ``kl<0.3``.

Beside them stands ``rung: homogeneous``: which rung of the export ladder every pattern must reach.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evoprune.core.errors import ConfigError, did_you_mean
from evoprune.core.export_rungs import LADDER

Op = Literal["<=", ">=", "<", ">"]

_FORM = re.compile(r"\s*([^<>=%\s]+)\s*(<=|>=|<|>)\s*([0-9.eE+-]+)\s*(%?)\s*")
# What says which rung is asked for, and the rungs that leave out patterns.
RUNG, RUNGS = "rung", LADDER[:1]
# Relative: forgives rounding in a percentage of an exact count.
SLACK = 1e-9


@dataclass(frozen=True)
class Constraint:
    """A bound on one quantity.

    Attributes:
        name: the objective or cost it bounds.
        op: ``<=``, ``>=``, ``<`` or ``>``.
        bound: the number; in hundredths of the dense model's value if ``percent``.
        percent: whether the bound is relative to the dense model.
    """

    name: str
    op: Op
    bound: float
    percent: bool = False

    def limit(self, dense: float) -> float:
        """Returns the bound as a number, given the dense model's value."""
        return self.bound / 100.0 * dense if self.percent else self.bound

    def violation(self, values: np.ndarray, dense: float) -> np.ndarray:
        """Returns by how much values (P,) break the bound, 0 where they keep it.

        A value that differs from the bound by rounding is the bound: it keeps ``<=`` and breaks
        ``<``, by the rounding that is forgiven.
        """
        limit = self.limit(dense)
        excess = values - limit if self.op in ("<=", "<") else limit - values
        slack = SLACK * max(abs(limit), 1.0)
        if self.op in ("<", ">"):
            return np.where(excess >= -slack, np.maximum(excess, slack), 0.0)
        return np.where(excess > slack, excess, 0.0)

    def met(self, values: np.ndarray, dense: float) -> np.ndarray:
        """Returns which values (P,) keep the bound, boolean (P,); what is nan does not."""
        kept: np.ndarray = ~np.isnan(values) & (self.violation(values, dense) == 0)
        return kept

    def __str__(self) -> str:
        return f"{self.name}{self.op}{self.bound:g}{'%' if self.percent else ''}"


def parse_bound(text: str) -> Constraint:
    """Returns the constraint that a text such as ``params<=60%`` or ``kl<0.3`` says.

    Raises:
        ConfigError: the text is no name, sign and number with an optional %.
    """
    found = _parsed(text)
    if found is None:
        raise ConfigError(
            f"The constraint '{text}' cannot be read.",
            "Write it like params<=60% (of the dense model) or token_accuracy>=0.3.",
        )
    return found


def parse_constraint(name: str, text: str | float | int) -> Constraint:
    """Returns the constraint that ``text`` says about ``name``.

    Raises:
        ConfigError: the text is no sign and number with an optional %.
    """
    found = _parsed(f"{name}{text}")
    if found is None or found.name != name:
        bound = 'Write it like "<=70%" (of the dense model) or ">=0.3".'
        raise ConfigError(
            f"The constraint '{name}: {text}' cannot be read.",
            f"Did you mean '{RUNG}: {text}'?" if text in RUNGS else bound,
        )
    return found


def parse_constraints(texts: Mapping[str, str | float]) -> tuple[Constraint, ...]:
    """Returns the bounds of a mapping from names to texts; that on the rung is none of them."""
    return tuple(parse_constraint(name, text) for name, text in texts.items() if name != RUNG)


def asked_rung(texts: Mapping[str, str | float]) -> str | None:
    """Returns the rung that a mapping asks of every pattern, None if it asks for none.

    Raises:
        ConfigError: a search cannot be held to that rung.
    """
    asked = texts.get(RUNG)
    if asked is None or asked in RUNGS:
        return None if asked is None else str(asked)
    everyone = f"Every pattern reaches that one: write '{RUNG}: {RUNGS[0]}', or leave it out."
    raise ConfigError(
        f"The constraint '{RUNG}: {asked}' names no rung that a search can be held to.",
        everyone if asked in LADDER else did_you_mean(str(asked), RUNGS),
    )


def _parsed(text: str) -> Constraint | None:
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    name, op, number, percent = match.groups()
    try:
        bound = float(number)
    except ValueError:
        return None
    return Constraint(name, op, bound, percent == "%") if math.isfinite(bound) else None  # type: ignore[arg-type]
