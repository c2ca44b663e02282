"""Criteria at equal sparsity: the same widths in every block, the units chosen by each criterion.

    python experiments/ablations/criteria/compare.py experiments/quickstart/config.yaml OUT

Every criterion ranks the units of a run of its own in ``OUT/<criterion>``; calibration, splits and
report examples are those of the configuration. ``random`` is drawn from three seeds. Intervals
resample the report examples within clusters, the same ones for both of a difference.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from evoprune.config.schema import load_config
from evoprune.core.metrics import Table, bootstrap, ratio
from evoprune.core.pattern import Pattern
from evoprune.core.space import Space
from evoprune.progress.console import Console
from evoprune.session import open_session

SPACE = {
    "family": "decoder",
    "genes": [
        {"kind": "heads", "keep": [0.75, 0.5, 0.25]},
        {"kind": "channels", "keep": [0.75, 0.5, 0.25], "round_to": 8},
    ],
}
CUTS = {
    "channels 75 %": {"channels": 0.75},
    "channels 50 %": {"channels": 0.5},
    "channels 25 %": {"channels": 0.25},
    "heads 50 %": {"heads": 0.5},
    "both 50 %": {"channels": 0.5, "heads": 0.5},
}
BASE = "activation"
PLAIN = ("magnitude", "activation", "flap", "taylor")
COMPENSATED = ("activation", "flap")
RANDOM_SEEDS = range(3)
# Nothing is searched; the patterns are those of CUTS.
FIXED = ("objectives=[nll, params]", "controls=[]", "search.n_eval=1")


def variants() -> dict[str, list[str]]:
    """Returns the overrides of every run by its name."""
    runs = {name: [f"criterion={name}"] for name in PLAIN}
    for name in COMPENSATED:
        runs[f"{name} + bias"] = [f"criterion={name}", "adapt=bias_compensation"]
    for seed in RANDOM_SEEDS:
        runs[f"random {seed}"] = [f"criterion={{type: random, seed: {seed}}}"]
    return runs


def cut(space: Space, shares: dict[str, float]) -> Pattern:
    """Returns the pattern that keeps, of each kind, the nearest level to its share."""
    x = np.zeros((1, space.n_var), np.int64)
    for number, gene in enumerate(space.genes):
        site = space.sites[gene.sites[0]]
        if site.kind in shares:
            kept = np.array([getattr(option, "units", site.units) for option in gene.options])
            nearest = np.abs(kept - shares[site.kind] * site.units).argmin()
            x[0, space.columns(number)] = nearest
    return space.patterns(x)[0]


def measured(config: str, overrides: list[str], folder: Path) -> dict[str, dict[str, object]]:
    """Returns, for each cut and the dense model, its report table and share of parameters."""
    settings = load_config(config, [*overrides, *FIXED, f"output={folder}"])
    space = type(settings.space).model_validate(SPACE)
    session = open_session(settings.model_copy(update={"space": space}), Console(stream=None))
    try:
        space, problem = session.problem.space, session.problem
        patterns = [space.dense, *(cut(space, shares) for shares in CUTS.values())]
        found = session.archive.get(patterns, "report", tables=True)
        params = problem.cost("params", space.encode(patterns))
    finally:
        session.close()
    return {
        name: {"table": evaluation.tables["clean"], "params": float(count / params[0])}
        for name, evaluation, count in zip(["dense", *CUTS], found, params, strict=True)
    }


def nll(table: Table) -> float:
    """Returns nats per token."""
    return ratio(table, "nll")


def change(base: Table, table: Table) -> float:
    """Returns by how many nats per token a table is above another."""
    return nll(table) - nll(base)


def rows(tables: dict[str, dict[str, dict]]) -> list[dict[str, object]]:
    """Returns a row for each cut and criterion."""
    found = []
    for name in CUTS:
        base = tables[BASE][name]["table"]
        for criterion, cuts in tables.items():
            here = cuts[name]
            found.append(
                {"cut": name, "criterion": criterion, "params": here["params"]}
                | {"nll": nll(here["table"]), "dense": nll(cuts["dense"]["table"])}
                | {"nll_interval": bootstrap(nll, [here["table"]])}
                | {"above_base": change(base, here["table"])}
                | {"above_base_interval": bootstrap(change, [base, here["table"]])}
            )
    return found


def lines(table: list[dict[str, object]]) -> list[str]:
    """Returns the table in Markdown: a row for each criterion, a column for each cut."""
    cells = {(row["criterion"], row["cut"]): row for row in table}
    dense = table[0]["dense"]
    found = [
        f"| criterion (dense: {dense:.3f}) | "
        + " | ".join(f"{cut}, {cells[BASE, cut]['params']:.1%} of parameters" for cut in CUTS)
        + " |",
        "|---|" + "---|" * len(CUTS),
    ]
    for criterion in dict.fromkeys(row["criterion"] for row in table):
        row = []
        for cut in CUTS:
            here = cells[criterion, cut]
            low, high = here["above_base_interval"]
            if criterion == BASE:
                low, high = here["nll_interval"]
                row.append(f"{here['nll']:.3f} [{low:.3f}, {high:.3f}]")
            else:
                row.append(f"{here['above_base']:+.3f} [{low:+.3f}, {high:+.3f}]")
        found.append(f"| {criterion} | " + " | ".join(row) + " |")
    return found


def main() -> None:
    """Prints the table and writes ``OUT/criteria.json``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("config")
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    tables = {}
    for name, overrides in variants().items():
        folder = arguments.out / name.replace(" + ", "_").replace(" ", "_")
        tables[name] = measured(arguments.config, overrides, folder)
    table = rows(tables)
    print("\n".join(lines(table)))
    (arguments.out / "criteria.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
