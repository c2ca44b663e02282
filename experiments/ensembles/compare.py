"""Ensembles of a run's front beside single models, on the report split.

    python experiments/ensembles/compare.py RUN…

Members are chosen on validation. Rivals, named there too: the best single point of the front, and
the largest single model that costs no more FLOPs than the ensemble. A difference above 0 is in the
ensemble's favour; intervals (95 %) resample the report examples, the same ones for both sides.
FLOPs of a routed ensemble are those of the embedding that tells the cluster, and of one member.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

from evoprune.core.errors import EvopruneError
from evoprune.ensemble.ensemble import Ensemble, ensemble
from evoprune.ensemble.members import Recipe
from evoprune.run import Run
from evoprune.session import worker_of

RECIPES = {
    "greedy, probabilities": Recipe(least=2),
    "greedy, logits": Recipe(combine="logit", least=2),
    "disagreement, probabilities": Recipe(method="disagreement", size=3, budget=None),
    "double fault, probabilities": Recipe(method="double_fault", size=3, budget=None),
    "percentile windows, vote": Recipe(method="percentile", combine="vote", budget=None),
    "routed by cluster": Recipe(method="routed", budget=None),
}
METRICS = ("nll", "token_accuracy", "accuracy", "ece", "ood_auroc")
RIVALS = ("best_single", "equal_cost")


def described(found: Ensemble) -> dict[str, Any]:
    """Returns an ensemble's size, cost, and lead over each rival by metric, positive if better."""
    flops = found.costs["flops"]
    leads: dict[str, dict[str, Any]] = {}
    for row in found.rows:
        name, metric = row["name"], row["metric"]
        rival = name.removeprefix("ensemble - ")
        if metric in METRICS and name.startswith("ensemble - ") and rival in RIVALS:
            sign = 1.0 if row["goal"] == "max" else -1.0
            ends = sorted((sign * row["low"], sign * row["high"]))
            leads.setdefault(metric, {})[rival] = [sign * row["value"], *ends]
    return {
        "members": len(found.members),
        "flops": flops["total"] / flops["dense"],
        "leads": leads,
    }


def cell(lead: list[float] | None) -> str:
    """Returns a difference with its interval."""
    if lead is None or not all(map(math.isfinite, lead)):
        return "–"
    value, low, high = lead
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"


def lines(name: str, rows: dict[str, dict[str, Any]]) -> list[str]:
    """Returns a run's table in Markdown."""
    metrics = [m for m in METRICS if any(m in row["leads"] for row in rows.values())]
    pairs = [(metric, rival) for metric in metrics for rival in RIVALS]
    head = [f"{metric} over {rival.replace('_', ' ')}" for metric, rival in pairs]
    found = [f"| {name} | members | FLOPs | {' | '.join(head)} |", "|---" * (len(head) + 3) + "|"]
    for recipe, row in rows.items():
        cells = [cell(row["leads"].get(metric, {}).get(rival)) for metric, rival in pairs]
        found.append(f"| {recipe} | {row['members']} | {row['flops']:.0%} | {' | '.join(cells)} |")
    return found


def main() -> None:
    """Prints a table for each run, and writes ``ensembles.json`` into its folder."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+")
    for path in parser.parse_args().runs:
        run = Run.load(path)
        worker, rows = worker_of(run.config, run.folder), {}
        for name, recipe in RECIPES.items():
            try:
                made = ensemble(
                    worker, run.front, recipe, name.replace(", ", "-").replace(" ", "_")
                )
            except EvopruneError as error:
                print(f"{name}: {error}")
                continue
            rows[name] = described(made)
        print("\n".join(lines(path.name, rows)), end="\n\n", flush=True)
        text = json.dumps({"points": len(run.front), "ensembles": rows}, indent=1)
        (path / "ensembles.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
