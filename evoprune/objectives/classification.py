"""How well a classifier tells classes apart, and what belongs to none."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from evoprune.core.metrics import Table, auroc, ratio
from evoprune.core.protocols import Goal


@dataclass(frozen=True)
class Accuracy:
    """``accuracy``: the share of examples whose most likely class is the right one."""

    goal: ClassVar[Goal] = "max"
    unit: ClassVar[str] = "share of examples"
    deterministic: ClassVar[bool] = True
    passes: ClassVar[tuple[str, ...]] = ("clean",)

    def value(self, tables: Mapping[str, Table], dense: Mapping[str, Table]) -> float:
        """Returns it."""
        return ratio(tables["clean"], "correct")


@dataclass(frozen=True)
class OodAuroc:
    """``ood_auroc``: how well a score tells inside from out of distribution (exact rank AUROC).

    Attributes:
        score: ``msp``, ``max_logit``, ``max_logit_centred`` (MO-EvoPruneDeepTL's "ODIN, T=1000")
            or ``energy``.
        outside: which sets: ``near``, ``far``, or ``both`` pooled.
    """

    score: Literal["msp", "max_logit", "max_logit_centred", "energy"] = "max_logit_centred"
    outside: Literal["near", "far", "both"] = "both"

    goal: ClassVar[Goal] = "max"
    unit: ClassVar[str] = "area under the ROC curve"
    deterministic: ClassVar[bool] = True

    @property
    def passes(self) -> tuple[str, ...]:
        """The passes it reads."""
        return ("clean", "near", "far") if self.outside == "both" else ("clean", self.outside)

    def value(self, tables: Mapping[str, Table], dense: Mapping[str, Table]) -> float:
        """Returns it; not a number where a set is missing."""
        sets = [tables[name].columns[self.score] for name in self.passes[1:] if name in tables]
        if len(sets) < len(self.passes) - 1:
            return float("nan")
        return auroc(tables["clean"].columns[self.score], np.concatenate(sets))
