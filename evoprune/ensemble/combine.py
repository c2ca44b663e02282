"""How the answers of members become one.

Members have whole weights: a member that was chosen twice counts as two.

- ``probability``: the mean of the members' probabilities.
- ``logit``: the mean of their logits, which is the normalised geometric mean of probabilities.
- ``vote``: every member votes for its most likely class, and a tie goes to the class with the
  larger mean probability. A vote has no probabilities of its own: it says which class comes first.
  Those of the ensemble are the mean ones, in which the class that won the vote and the most likely
  one change places where they differ; so likelihood and calibration are those of averaging, and
  the most likely class is that of the vote.
- ``vote_smallest``: as ``vote``, but a tie goes to the smallest label, as in MO-EvoPruneDeepTL.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from evoprune.core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    import torch

RULES = ("probability", "logit", "vote", "vote_smallest")


def check_rule(rule: str) -> None:
    """Checks that there is such a rule.

    Raises:
        ConfigError: there is none.
    """
    if rule not in RULES:
        raise ConfigError(f"'{rule}' is no way to combine members.", did_you_mean(rule, RULES))


def combine(logits: ArrayLike, rule: str, weights: Sequence[int] = ()) -> np.ndarray:
    """Returns the log-probabilities of an ensemble, float64 (N, C).

    Args:
        logits: of its members (K, N, C).
        rule: one of ``RULES``.
        weights: whole numbers (K,); all 1 by default.

    Raises:
        ConfigError: there is no such rule.
    """
    import torch

    check_rule(rule)
    values = torch.from_numpy(np.array(logits, dtype=np.float64))
    found: np.ndarray = combined(values, rule, weights).log_softmax(dim=-1).numpy()
    return found


def combined(logits: "torch.Tensor", rule: str, weights: Sequence[int] = ()) -> "torch.Tensor":
    """Returns logits of an ensemble (…, C), whose softmax is its answer.

    They are log-probabilities, but for the rule ``logit``, whose mean keeps its scale: some scores
    of out-of-distribution detection read it.

    Args:
        logits: of its members (K, …, C).
        rule: one of ``RULES``.
        weights: whole numbers (K,); all 1 by default.
    """
    import torch

    counts = torch.tensor(list(weights) or [1] * len(logits), dtype=logits.dtype)
    share = (counts / counts.sum()).to(logits.device).reshape(-1, *[1] * (logits.ndim - 1))
    if rule == "logit":
        return (share * logits).sum(dim=0)
    mean = (logits.log_softmax(dim=-1) + share.log()).logsumexp(dim=0)
    if rule == "probability":
        return mean
    votes = torch.zeros_like(mean)
    for member, count in zip(logits, counts.tolist(), strict=True):
        first = member.argmax(dim=-1, keepdim=True)
        votes.scatter_add_(-1, first, torch.full_like(first, count, dtype=votes.dtype))
    tied = votes == votes.amax(dim=-1, keepdim=True)
    # The arg-max of equal numbers is the first.
    by = torch.zeros_like(mean) if rule == "vote_smallest" else mean
    return _first(mean, by.masked_fill(~tied, -torch.inf).argmax(dim=-1, keepdim=True))


def _first(mean: "torch.Tensor", winner: "torch.Tensor") -> "torch.Tensor":
    """Returns log-probabilities (…, C) in which the winner (…, 1) has the largest."""
    largest = mean.argmax(dim=-1, keepdim=True)
    small, large = mean.gather(-1, winner), mean.gather(-1, largest)
    return mean.scatter(-1, largest, small).scatter(-1, winner, large)
