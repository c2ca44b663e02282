"""What an ensemble comes to, in one sentence: does it beat single models, and what does it cost?"""

from collections.abc import Mapping, Sequence
from typing import Any

RIVALS = {"best_single": "the best single point", "equal_cost": "the single model of equal cost"}
WEIGHED = ("flops", "params")
# What is looked at on validation, and the columns that say it on report.
COLUMNS = {"nll": ("nll",), "accuracy": ("accuracy", "token_accuracy")}


def verdict(
    rows: Sequence[Mapping[str, Any]],
    measure: str,
    rivals: Mapping[str, Any],
    costs: Mapping[str, Mapping[str, float]],
) -> str:
    """Returns whether the intervals of an ensemble's differences to single models leave no doubt.

    Args:
        rows: the comparison (``compare.rows``).
        measure: what members were chosen by; without a column of it, the first metric counts.
        rivals: contender → id of the pattern.
        costs: metric → ``total`` and ``dense``.
    """
    found = {row["name"]: row for row in rows if row["metric"] == _metric(rows, measure)}
    clauses = [
        _against(found[f"ensemble - {name}"], words)
        for name, words in RIVALS.items()
        if f"ensemble - {name}" in found
    ]
    if not clauses:
        return f"It was not compared with single models; it has {cost_words(costs)}."
    if rivals.get("equal_cost") == rivals.get("best_single"):
        clauses = [f"{clauses[0]}, which is also {RIVALS['equal_cost']},"]
    return f"It {' and '.join(clauses)} on the report split, with {cost_words(costs)}."


def cost_words(costs: Mapping[str, Mapping[str, float]]) -> str:
    """Returns what an ensemble costs beside the dense model."""
    flops, params = (costs[metric]["total"] / costs[metric]["dense"] for metric in WEIGHED)
    return f"{flops:.0%} of the dense model's FLOPs and {params:.0%} of its parameters"


def _metric(rows: Sequence[Mapping[str, Any]], measure: str) -> str | None:
    """Returns the metric that the ensemble is judged by."""
    known = list(dict.fromkeys(row["metric"] for row in rows))
    return next((name for name in COLUMNS[measure] if name in known), known[0] if known else None)


def _against(row: Mapping[str, Any], rival: str) -> str:
    """Returns what a row of differences says of a rival."""
    sign = 1.0 if row["goal"] == "max" else -1.0
    low, high = sorted((sign * row["low"], sign * row["high"]))
    said = f"cannot be told from {rival}"
    if low > 0:
        said = f"beats {rival} beyond doubt"
    elif high < 0:
        said = f"is worse than {rival} beyond doubt"
    interval = f"{row['value']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
    return f"{said} ({row['metric']} {interval})"
