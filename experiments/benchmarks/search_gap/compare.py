"""How much of what random search misses an algorithm still misses, where the truth is known.

Every pattern of a space is evaluated once (as in ../depth_truth), then searches are replayed from
such journals, which answer everything:

    python experiments/benchmarks/search_gap/compare.py runs/exhaustive runs/another --seeds 5

The normalised gap is (HV* − HV) / (HV* − HV of stratified random search at the same budget): 0 is
the true front, 1 is no better than random. A budget below 1 is a share of the space.
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evoprune.config import Part, build
from evoprune.console import Console
from evoprune.front import hypervolume
from evoprune.journal import write_atomically
from evoprune.registry import ALGORITHMS
from evoprune.run import Run
from evoprune.search.archive import Archive
from evoprune.search.loop import Budget, Progress, objectives, search
from evoprune.search.problem import Problem
from evoprune.session import Session, open_session

# The population of 16 was chosen for nsga2 on the quickstart's depth space (see ../depth_truth).
DEFAULTS: Mapping[str, dict[str, Any]] = {
    "random": {},
    "nsga2": {"pop_size": 16},
    "surrogate_nsga2": {},
}


class Timed:
    """A stepper, and the processor seconds that it took."""

    def __init__(self, stepper: Any) -> None:
        self._stepper, self.seconds = stepper, 0.0

    def ask(self) -> np.ndarray | None:
        """Returns what the stepper asks for."""
        began = time.process_time()
        X: np.ndarray | None = self._stepper.ask()
        self.seconds += time.process_time() - began
        return X

    def tell(self, X: np.ndarray, F: np.ndarray, G: np.ndarray) -> None:
        """Tells the stepper."""
        began = time.process_time()
        self._stepper.tell(X, F, G)
        self.seconds += time.process_time() - began


@dataclass(frozen=True)
class Truth:
    """A space with everything in it known.

    Attributes:
        problem: with the objectives that are compared.
        archive: answers everything, evaluates nothing.
        starts: the warm starts, equal for all algorithms.
        F: objectives of all patterns (P, M).
        seconds: worker seconds of each pattern by id.
    """

    problem: Problem
    archive: Archive
    starts: np.ndarray
    F: np.ndarray
    seconds: Mapping[str, float]


def truth(session: Session, names: tuple[str, ...]) -> Truth:
    """Returns the known space of a run for some of its measures."""

    def refuse() -> Any:
        raise SystemExit(f"{session.folder.path} does not hold every pattern of its space.")

    archive = Archive(session.journal, refuse)
    problem = replace(session.problem, objectives={n: session.problem.measures[n] for n in names})
    known = [e for e in archive.evaluations("search") if e.error is None and e.rung == -1]
    F = objectives(problem, problem.space.encode([e.pattern for e in known]), known)
    seconds = {e.pattern.id: e.seconds for e in known}
    return Truth(problem, archive, session.starts(), F, seconds)


def reached(
    known: Truth, algorithm: Any, budgets: list[int], seed: int
) -> tuple[list[float], float]:
    """Returns the shares of the true hypervolume at each budget, and the overhead.

    The overhead is the algorithm's own processor time over the time that the evaluations took.
    """
    shares: list[float] = []
    stepper = Timed(algorithm.begin(known.problem, known.starts, seed))
    found = search(known.problem, stepper, known.archive, Budget(n_eval=max(budgets)))
    whole = hypervolume(known.F, found.box.reference, found.box.ideal)
    for n_eval in budgets:
        shares.append(_volume(found, n_eval) / whole)
    spent = sum(known.seconds[pattern.id] for pattern in found.patterns)
    return shares, stepper.seconds / spent


def _volume(found: Progress, n_eval: int) -> float:
    return hypervolume(found.F[:n_eval], found.box.reference, found.box.ideal)


def interval(differences: np.ndarray, seed: int = 0) -> list[float]:
    """Returns the 95 % bootstrap interval of a mean."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(differences), (10_000, len(differences)))
    return [float(v) for v in np.quantile(differences[draws].mean(axis=1), [0.025, 0.975])]


def compare(known: Truth, names: list[str], budgets: list[int], seeds: int) -> list[dict[str, Any]]:
    """Returns a row per budget and algorithm; random search comes first and is the yardstick."""
    found: dict[str, np.ndarray] = {}
    overhead: dict[str, float] = {}
    for name in ["random", *(n for n in names if n != "random")]:
        algorithm = build(ALGORITHMS, Part(type=name, options=DEFAULTS.get(name, {})))
        runs = [reached(known, algorithm, budgets, seed) for seed in range(seeds)]
        found[name] = np.array([shares for shares, _ in runs])
        overhead[name] = float(np.mean([ratio for _, ratio in runs]))
    rows = []
    for column, n_eval in enumerate(budgets):
        missed = 1.0 - found["random"][:, column].mean()
        for name, shares in found.items():
            here, gaps = shares[:, column], (1.0 - shares[:, column]) / max(missed, 1e-12)
            gain = here - found["random"][:, column]
            rows.append(
                {
                    "n_eval": n_eval,
                    "algorithm": name,
                    "share": [float(here.min()), float(here.mean()), float(here.max())],
                    "gap": [float(gaps.min()), float(np.median(gaps)), float(gaps.max())],
                    "over random": [float(gain.mean()), *interval(gain)],
                    "overhead": overhead[name],
                }
            )
    return rows


def sets(session: Session, asked: list[str]) -> list[tuple[str, ...]]:
    """Returns the sets of objectives to compare on: those asked for, or the first two and all."""
    if asked:
        return [tuple(names.split(",")) for names in asked]
    own = tuple(session.problem.objectives)
    return [own[:2], own] if len(own) > 2 else [own]


def show(row: Mapping[str, Any]) -> str:
    """Returns a row of the table."""
    share, gap, over = row["share"], row["gap"], row["over random"]
    return (
        f"{row['n_eval']:>6}  {row['algorithm']:<16}"
        f"{share[0]:.4f} {share[1]:.4f} {share[2]:.4f}   {gap[0]:.3f} {gap[1]:.3f} {gap[2]:.3f}   "
        f"{over[0]:+.4f} [{over[1]:+.4f}, {over[2]:+.4f}]   {row['overhead']:.1%}"
    )


def main() -> None:
    """Prints the tables and writes them beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--budgets", type=float, nargs="+", default=[120, 240, 0.1])
    parser.add_argument("--objectives", nargs="*", default=[], help="such as kl,params")
    parser.add_argument("--algorithms", nargs="+", default=list(DEFAULTS))
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.json"))
    options = parser.parse_args()
    tables = []
    for path in options.runs:
        config = Run.load(path).config.model_copy(update={"output": str(path)})
        session = open_session(config, Console(stream=None))
        try:
            for names in sets(session, options.objectives):
                known = truth(session, names)
                size = len(known.F)
                budgets = sorted({round(b * size) if b < 1 else int(b) for b in options.budgets})
                rows = compare(known, options.algorithms, budgets, options.seeds)
                print(f"{path}: {size} patterns, {', '.join(names)}")
                print("n_eval  algorithm       share (min mean max)   gap (min median max)")
                print("\n".join(show(row) for row in rows), flush=True)
                tables.append(
                    {"run": path.name, "patterns": size, "objectives": names, "rows": rows}
                )
        finally:
            session.close()
    result = {"seeds": options.seeds, "tables": tables}
    write_atomically(options.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
