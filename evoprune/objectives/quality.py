"""How well a pruned language model still does its task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from evoprune.core.metrics import Table, perplexity, ratio
from evoprune.core.protocols import Goal


@dataclass(frozen=True)
class _OfCleanPass:
    """What the objectives of one clean pass share."""

    deterministic: ClassVar[bool] = True
    passes: ClassVar[tuple[str, ...]] = ("clean",)


@dataclass(frozen=True)
class TokenAccuracy(_OfCleanPass):
    """``token_accuracy``: the share of positions whose most likely token is the next one."""

    goal: ClassVar[Goal] = "max"
    unit: ClassVar[str] = "share of positions"

    def value(self, tables: Mapping[str, Table], dense: Mapping[str, Table]) -> float:
        """Returns it, pooled over all positions."""
        return ratio(tables["clean"], "correct")


@dataclass(frozen=True)
class Nll(_OfCleanPass):
    """``nll``: the mean negative log-likelihood of the next token."""

    goal: ClassVar[Goal] = "min"
    unit: ClassVar[str] = "nats per token"

    def value(self, tables: Mapping[str, Table], dense: Mapping[str, Table]) -> float:
        """Returns it, pooled over all positions."""
        return ratio(tables["clean"], "nll")


@dataclass(frozen=True)
class Perplexity(_OfCleanPass):
    """``perplexity``: exp of ``nll``; per token, at the context length of the chunks."""

    goal: ClassVar[Goal] = "min"
    unit: ClassVar[str] = "per token"

    def value(self, tables: Mapping[str, Table], dense: Mapping[str, Table]) -> float:
        """Returns it; infinite where it exceeds what a float holds."""
        return perplexity(tables["clean"])


@dataclass(frozen=True)
class Kl(_OfCleanPass):
    """``kl``: the divergence of the pruned from the dense model's next-token distribution."""

    goal: ClassVar[Goal] = "min"
    unit: ClassVar[str] = "nats per token"

    def value(self, tables: Mapping[str, Table], dense: Mapping[str, Table]) -> float:
        """Returns it, pooled over all positions."""
        return ratio(tables["clean"], "kl")
