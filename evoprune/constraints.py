"""Bounds on objectives and costs, as people write them: ``"<=70%"``, ``">=0.3"``."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evoprune.errors import ConfigError

_FORM = re.compile(r"^\s*(<=|>=)\s*([0-9.eE+-]+)\s*(%?)\s*$")


@dataclass(frozen=True)
class Constraint:
    """A bound on one quantity.

    Attributes:
        name: the objective or cost it bounds.
        op: ``<=`` or ``>=``.
        bound: the number; in hundredths of the dense model's value if ``percent``.
        percent: whether the bound is relative to the dense model.
    """

    name: str
    op: Literal["<=", ">="]
    bound: float
    percent: bool = False

    def limit(self, dense: float) -> float:
        """Returns the bound as a number, given the dense model's value."""
        return self.bound / 100.0 * dense if self.percent else self.bound

    def violation(self, values: np.ndarray, dense: float) -> np.ndarray:
        """Returns by how much values (P,) break the bound, 0 where they keep it.

        A relative slack of 1e-9 forgives rounding in a percentage of an exact count.
        """
        limit = self.limit(dense)
        excess = values - limit if self.op == "<=" else limit - values
        slack = 1e-9 * max(abs(limit), 1.0)
        return np.where(excess > slack, excess, 0.0)

    def __str__(self) -> str:
        return f"{self.name}{self.op}{self.bound:g}{'%' if self.percent else ''}"


def parse_constraint(name: str, text: str | float | int) -> Constraint:
    """Returns the constraint that ``text`` says about ``name``.

    Raises:
        ConfigError: the text is not of the form ``<=NUMBER``, ``>=NUMBER``, with an optional %.
    """
    match = _FORM.match(str(text))
    try:
        bound = float(match.group(2)) if match else math.nan
    except ValueError:
        bound = math.nan
    if match is None or not math.isfinite(bound):
        raise ConfigError(
            f"The constraint '{name}: {text}' cannot be read.",
            'Write it like "<=70%" (of the dense model) or ">=0.3".',
        )
    op: Literal["<=", ">="] = "<=" if match.group(1) == "<=" else ">="
    return Constraint(name, op, bound, match.group(3) == "%")


def parse_constraints(texts: Mapping[str, str | float]) -> tuple[Constraint, ...]:
    """Returns the constraints of a mapping from names to bounds."""
    return tuple(parse_constraint(name, text) for name, text in texts.items())
