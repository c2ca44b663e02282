"""Run folders made up from nothing but numpy, for tests of the report."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evoprune.core.metrics import Table
from evoprune.core.pareto import hypervolume, nondominated, oriented
from evoprune.core.pattern import Drop, Keep, Pattern
from evoprune.core.quality import COLUMN, kept
from evoprune.core.space import Gene, Site, Space
from evoprune.data.examples import Examples, Pass
from evoprune.folder.front import Front, FrontPoint
from evoprune.folder.journal import Journal

DENSE, ZERO = 2.0, 6.0  # nats per token
GROUPS = (0, 0, 1, 1)
GOALS = {"nll": "min", "sparsity": "max", "worst_cluster_kl": "min"}
CONFIG = """\
identity:
  model: {{name_or_path: tiny}}
  space: {{name: {name}}}
  objectives: [{{type: nll}}, {{type: sparsity}}, {{type: worst_cluster_kl}}]
  search: {{algorithm: {{type: nsga2}}, seed: 0}}
execution: {{}}
"""


@dataclass(frozen=True)
class Made:
    """What a made-up run is like."""

    n_eval: int = 30
    genes: int = 6
    seed: int = 0
    bits: int = 0
    name: str = "depth"
    old: bool = False  # as from before quality kept and rungs were written
    loss: float = 3.0  # of the empty model, beside the dense one's


def space_of(made: Made) -> Space:
    sites = {f"layers.{i}": Site(f"layers.{i}", "block", 4) for i in range(made.genes)}
    options = (Keep(4), Keep(2), Drop())
    genes = [Gene(name, (name,), options) for name in sites]
    if made.bits:
        sites["head"] = Site("head", "features", made.bits)
        genes.append(Gene("head", ("head",), (), made.bits))
    return Space(sites, tuple(genes), made.name)


def values_of(pattern: Pattern, rng: np.random.Generator, loss: float) -> tuple[dict, dict]:
    """Returns what a pattern is said to measure and to cost."""
    levels = [choice for choice in pattern.choices if isinstance(choice, int)]
    sparsity = sum(levels) / (2 * len(levels))
    nll = DENSE + loss * sparsity**2 * (1 + 0.2 * rng.random())
    measured = {"nll": nll, "worst_cluster_kl": (nll - 2) * (1.2 + 0.3 * rng.random())}
    # What a language model's run has beside its objectives, for pages of a real size.
    measured |= {
        "perplexity": float(np.exp(nll)),
        "kl": nll - DENSE,
        "cvar_kl": 1.3 * (nll - DENSE),
    }
    measured["token_accuracy"] = float(np.exp(-nll / 2))
    left = 1 - sparsity / 2
    costs = {"sparsity": sparsity, "params": 1e6 * left, "flops": 2e6 * left, "bytes": 4e6 * left}
    return measured, costs


def table_of(nll: float) -> Table:
    """Returns the table of a pattern: what it loses, it loses in the second cluster."""
    rows = np.array([DENSE, DENSE, 2 * nll - DENSE, 2 * nll - DENSE])
    columns = {"n": np.ones(4), "nll": rows, "correct": np.exp(-rows), "kl": rows - DENSE}
    return Table(columns, np.array(GROUPS))


def make_run(folder: Path, made: Made | None = None, finished: bool = True) -> Path:
    """Writes the folder of a run, whole or as one that was stopped, and returns it."""
    made, folder = made or Made(), Path(folder)
    space, rng = space_of(made), np.random.default_rng(made.seed)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG.format(name=made.name))
    X = rng.integers(0, space.upper + 1, size=(made.n_eval, space.n_var))
    X[0], X[1] = 0, space.upper
    patterns = list(dict.fromkeys(space.patterns(X)))
    told = {pattern: values_of(pattern, rng, made.loss) for pattern in patterns}
    records = [_record(p, told[p][0], "search") for p in patterns]
    write_journal(folder, [{"type": "event", "event": "begin", "n_eval": made.n_eval}, *records])
    if finished:
        _finish(folder, space, told, made)
    return folder


def _record(pattern: Pattern, values: dict[str, float], split: str) -> dict[str, Any]:
    named = {"id": pattern.id, "pattern": pattern.to_json()}
    where: dict[str, Any] = {"split": split, "rung": -1}
    if split != "search":
        where["tables"] = {"clean": table_of(values["nll"]).to_json()}
    return {"type": "evaluation", **named, **where, "values": values, "seconds": 0.5, "tokens": 9.0}


def write_journal(folder: Path, records: list[dict[str, Any]]) -> None:
    with Journal.open(folder / "journal.jsonl", {"identity": "abc"}) as journal:
        journal.append(records)


def _finish(folder: Path, space: Space, told: dict[Pattern, tuple[dict, dict]], made: Made) -> None:
    """Writes what a search writes at its end."""
    F = np.array([[m["nll"], -c["sparsity"], m["worst_cluster_kl"]] for m, c in told.values()])
    best = [p for p, kept in zip(told, nondominated(F), strict=True) if kept]
    ends = {"nll": ZERO, "perplexity": float(np.exp(ZERO))}
    zero = {f"{s}_{name}": v for s in ("search", "val", "report") for name, v in ends.items()}
    front = Front(
        tuple(_point(p, *told[p], made) for p in best),
        GOALS,
        _point(space.dense, *told[space.dense], made).values,
        {} if made.old else zero,
    )
    front.to_json(folder / "front.json")
    (folder / "controls").mkdir()
    for name, few in (("random", best[::3]), ("uniform", best[1::3])):
        points = tuple(_point(p, *told[p], made, name) for p in few)
        Front(points, GOALS, front.dense, front.zero).to_json(folder / "controls" / f"{name}.json")
    write_journal(
        folder, [_record(p, told[p][0], s) for s in ("validation", "report") for p in best]
    )
    with open(folder / "costs.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, ["id", "sparsity", "params", "flops", "bytes"])
        writer.writeheader()
        writer.writerows({"id": p.id, **costs} for p, (_, costs) in told.items())
    (folder / "space.json").write_text(json.dumps(space.to_json()))
    box = [F.min(axis=0), F.max(axis=0)]
    rows = oriented(front.array("search"), list(GOALS.values()))
    volume = hypervolume(rows, box[1], box[0])
    volumes = dict.fromkeys(("search", "val", "report"), volume)
    write_json(
        folder / "summary.json",
        {
            "n_eval": len(told),
            "tokens": 9.0 * len(told),
            "search_hypervolume": volume,
            "boxes": {key: [side.tolist() for side in box] for key in volumes},
            "hypervolumes": {"search": volumes, "random": volumes},
        },
    )
    write_json(
        folder / "manifest.json",
        {
            "identity": "abc",
            "seed": 0,
            "family": "decoder",
            "base_sha256": "def",
            "pools": {"search": "123"},
            "versions": {"numpy": "2"},
        },
    )
    (folder / "calibration").mkdir()
    (folder / "calibration" / "clusters.csv").write_text(
        "cluster,size,selected,kind,purity\n0,22,4,prose,0.45\n1,9,3,code,1.0\n"
    )
    ones = Pass({"tokens": np.ones((4, 1))}, np.array(GROUPS), np.ones(4, np.int64))
    zeros = {} if made.old else {"clean": table_of(ZERO)}
    examples = Examples({"clean": ones}, {"clean": table_of(DENSE)}, zeros)
    examples.save(folder / "calibration" / "report.safetensors")


def write_json(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def _point(
    pattern: Pattern, measured: dict, costs: dict, made: Made, origin: str = "search"
) -> FrontPoint:
    values = dict(costs)
    for split in ("search", "val", "report"):
        values |= {f"{split}_{name}": value for name, value in measured.items()}
    for name, value in measured.items():
        values |= {f"report_{name}_low": value * 0.95, f"report_{name}_high": value * 1.05}
    if not made.old:
        for split in ("search", "val", "report"):
            values[f"{split}_{COLUMN}"] = kept(measured["nll"], ZERO, DENSE)
        for end, factor in (("low", 1.05), ("high", 0.95)):
            values[f"report_{COLUMN}_{end}"] = kept(measured["nll"] * factor, ZERO, DENSE)
    rung = None if made.old else "homogeneous"
    return FrontPoint(pattern.id, pattern.to_json(), values, origin, rung)
