"""How bad the bad examples are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from evoprune.core.metrics import Table


@dataclass(frozen=True)
class NllQuantile:
    """``nll_quantile``: a quantile over the examples of their negative log-likelihood.

    Attributes:
        quantile: which, from 0 to 1.
    """

    quantile: float = 0.9

    goal: ClassVar = "min"
    unit: ClassVar[str] = "nats"
    deterministic: ClassVar[bool] = True
    passes: ClassVar[tuple[str, ...]] = ("clean",)

    def __post_init__(self) -> None:
        if not 0 <= self.quantile <= 1:
            raise ValueError(f"quantile is {self.quantile}; it must lie in [0, 1]")

    def value(self, tables: Mapping[str, Table], dense: Mapping[str, Table]) -> float:
        """Returns it."""
        columns = tables["clean"].columns
        return float(np.quantile(columns["nll"] / columns["n"], self.quantile))
