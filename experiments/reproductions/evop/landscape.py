"""What is known of EvoP's search, on made-up landscapes whose best mask is known; no model.

    python experiments/reproductions/evop/landscape.py

goes on where `landscape.json` ends; `--out` writes another. A mask removes k of n layers. Its loss
is Σ wᵢ over what it removes and Σ pᵢⱼ over removed pairs, with w from a gamma distribution of shape
2 and p from a normal one of standard deviation 0.5; 20 instances of each size. Every mask of the
right size is looked at once, so that the best is known. `evop` runs its 50 × 100; the others after
greedy get as many distinct evaluations as it used.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from evoprune.core.constraints import parse_constraints
from evoprune.core.costs import CostTable, Row, fixed
from evoprune.core.files import write_atomically
from evoprune.core.genes import GeneSpec, build_space
from evoprune.core.pattern import Pattern
from evoprune.core.protocols import Evaluation
from evoprune.core.space import Site, Space
from evoprune.objectives.cost import Flops, Params
from evoprune.searching.algorithms import Random
from evoprune.searching.budget import Budget
from evoprune.searching.evop import Evop, EvopCorrected
from evoprune.searching.evopress import OnePlusLambda
from evoprune.searching.greedy import Greedy
from evoprune.searching.loop import Progress, search
from evoprune.searching.problem import Problem
from evoprune.searching.surrogate import SurrogateNsga2
from evoprune.testing.synthetic import Harm

SIZES = ((22, 3), (22, 5), (32, 4), (32, 7))
SHAPE, PAIRS = 2.0, 0.5
PROPOSED = 5000
OTHERS = ("random", "evop_corrected", "one_plus_lambda", "surrogate_nsga2")
NAMES = ("evop", "random draws", "greedy", *OTHERS)
# Masks whose loss is computed at once.
BLOCK = 1 << 18


class Landscape:
    """The loss of masks, and all there is to know of it.

    Args:
        layers: how many there are, n.
        instance: of the draws.
    """

    def __init__(self, layers: int, instance: int) -> None:
        rng = np.random.default_rng([layers, instance])
        self.layers = layers
        self._weights = rng.gamma(SHAPE, 1.0, layers)
        self._pairs = np.triu(rng.normal(0.0, PAIRS, (layers, layers)), 1)

    def loss(self, X: np.ndarray) -> np.ndarray:
        """Returns the loss of masks (P, n), 1 where a layer is removed."""
        return np.asarray(X @ self._weights + np.einsum("pi,ij,pj->p", X, self._pairs, X))

    def best(self, masks: np.ndarray) -> float:
        """Returns the least loss among masks given as removed layers (M, k)."""
        table = self._pairs + np.diag(self._weights)
        found = np.inf
        for at in range(0, len(masks), BLOCK):
            rows = masks[at : at + BLOCK]
            total = np.zeros(len(rows))
            for a in range(rows.shape[1]):
                for b in range(a, rows.shape[1]):
                    total += table[rows[:, a], rows[:, b]]
            found = min(found, float(total.min()))
        return found


class Known:
    """Answers the loop from a landscape, as an archive would from a journal and workers."""

    def __init__(self, space: Space, landscape: Landscape) -> None:
        self._space, self._landscape = space, landscape

    def get(
        self, patterns: Sequence[Pattern], split: str = "search", rung: int = -1, **asked: Any
    ) -> list[Evaluation]:
        """Returns an evaluation for each pattern; whatever else is asked for changes nothing."""
        losses = self._landscape.loss(self._space.encode(patterns))
        return [
            Evaluation(pattern, split, rung, {"harm": float(loss)}, tokens=1.0)
            for pattern, loss in zip(patterns, losses, strict=True)
        ]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Nothing happened before."""
        return []


def problem(layers: int, **bounds: str) -> Problem:
    """Returns the search for the least harm among masks; parameters and FLOPs count layers."""
    sites = [Site(f"layers.{i}", "block") for i in range(layers)]
    weights = {"params": 1.0, "flops": 1.0}
    rows = tuple(Row(site.name, (fixed(1),), (site.name,), weights) for site in sites)
    measures: dict[str, Any] = {"harm": Harm(), "params": Params(), "flops": Flops()}
    return Problem(
        build_space("landscape", sites, [GeneSpec("block", drop=True)]),
        CostTable(rows),
        {"harm": measures["harm"]},
        parse_constraints(bounds),
        measures,
    )


class Trail:
    """Watches a search: the generation in which its best mask came."""

    def __init__(self, stepper: Any) -> None:
        self._stepper, self._best = stepper, np.inf
        self.generation = 0

    def __call__(self, progress: Progress, evaluation: Evaluation | None) -> None:
        """Looks at the best so far, after each generation."""
        best = min((float(row[0]) for row in progress.rows), default=np.inf)
        if best < self._best:
            self._best = best
            self.generation = getattr(self._stepper, "generation", progress.n_gen - 1)


def searched(
    made: Problem, algorithm: Any, landscape: Landscape, seed: int, n_eval: int | None = None
) -> tuple[Progress, Trail, Any]:
    """Returns what an algorithm found with at most so many distinct masks."""
    stepper = algorithm.begin(made, made.space.corners[:0], seed)
    trail = Trail(stepper)
    archive: Any = Known(made.space, landscape)
    found = search(made, stepper, archive, Budget(n_eval=n_eval), observe=trail)
    return found, trail, stepper


def least(found: Progress, removed: int) -> float:
    """Returns the least loss among the masks of one size that a search came across."""
    X = found.problem.space.encode(found.patterns)
    return float(found.F[X.sum(axis=1) == removed, 0].min())


def drawn(landscape: Landscape, removed: int, seed: int) -> float:
    """Returns the least loss of as many random masks as EvoP proposes, repetitions included."""
    rng = np.random.default_rng([seed, 99])
    order = rng.random((PROPOSED, landscape.layers)).argsort(axis=1)
    return float(landscape.loss((order < removed).astype(float)).min())


def own(layers: int, removed: int, number: int, masks: np.ndarray) -> dict[str, Any]:
    """Returns what EvoP did on one landscape, and what is compared whatever it used."""
    landscape, free = Landscape(layers, number), problem(layers)
    found, trail, stepper = searched(free, Evop(share=removed / layers), landscape, number)
    greedy, _, _ = searched(free, Greedy(), landscape, number)
    return {
        "best": landscape.best(masks),
        "distinct": found.n_eval,
        "generation": trail.generation,
        "left": len(np.unique(stepper.population, axis=0)),
        "loss": {
            "evop": least(found, removed),
            "random draws": drawn(landscape, removed, number),
            "greedy": least(greedy, removed),
        },
        "seconds": {},
    }


def other(name: str, layers: int, removed: int, number: int, n_eval: int) -> tuple[float, float]:
    """Returns the least loss of an algorithm with so many masks, and its processor seconds."""
    landscape, share = Landscape(layers, number), removed / layers
    # EvoP's kin take a share; the others meet an exact count as two budgets.
    made = problem(layers, params=f"<={layers - removed}", flops=f">={layers - removed}")
    algorithms: Mapping[str, Any] = {
        "random": Random(),
        "evop_corrected": EvopCorrected(share=share),
        "one_plus_lambda": OnePlusLambda(share=share),
        "surrogate_nsga2": SurrogateNsga2(),
    }
    if name in ("evop_corrected", "one_plus_lambda"):
        made = problem(layers)
    began = time.process_time()
    found, _, _ = searched(made, algorithms[name], landscape, number, n_eval)
    assert found.n_eval <= n_eval
    return least(found, removed), time.process_time() - began


def hits(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """Returns how often an algorithm found the best mask, and of how many if not of all."""
    of = [row for row in rows if name in row["loss"]]
    found = sum(row["loss"][name] <= row["best"] + 1e-9 for row in of)
    return f"{found}" if len(of) == len(rows) else f"{found} of {len(of)}"


def line(size: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns a row of the table in Markdown."""
    distinct = [row["distinct"] for row in rows]
    cells = [
        f"({size.replace(',', ', ')})",
        f"{np.mean(distinct):.0f} ({min(distinct)}–{max(distinct)})",
        f"{np.mean([row['generation'] for row in rows]):.0f}",
        f"{np.mean([row['left'] for row in rows]):.1f}",
        *(hits(rows, name) for name in NAMES),
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Goes on with the JSON file beside this one, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--instances", type=int, default=20)
    parser.add_argument("--sizes", nargs="+", default=[f"{n},{k}" for n, k in SIZES])
    parser.add_argument("--algorithms", nargs="*", default=list(OTHERS))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("landscape.json"))
    options = parser.parse_args()
    known: dict[str, list[dict[str, Any]]] = {}
    if options.out.is_file():
        known = json.loads(options.out.read_text())
    for size in options.sizes:
        layers, removed = (int(part) for part in size.split(","))
        masks = np.array(list(combinations(range(layers), removed)), dtype=np.int8)
        rows = known.setdefault(size, [])
        for number in range(options.instances):
            if number == len(rows):
                rows.append(own(layers, removed, number, masks))
            row = rows[number]
            for name in options.algorithms:
                if name not in row["loss"]:
                    found = other(name, layers, removed, number, row["distinct"])
                    row["loss"][name], row["seconds"][name] = found
            write_atomically(options.out, json.dumps(known, indent=1) + "\n")
    print(
        f"| (n, k) | distinct of {PROPOSED:,} | generation of the best | last population | "
        f"{' | '.join(NAMES)} |"
    )
    print("|---|" + "---|" * (3 + len(NAMES)))
    for size, rows in known.items():
        print(line(size, rows))


if __name__ == "__main__":
    main()
