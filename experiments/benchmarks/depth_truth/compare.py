"""How much of the true front a search finds, where the truth is known.

First every pattern of the quickstart's depth space is evaluated, once:

    evoprune search experiments/quickstart/config.yaml search.algorithm=exhaustive \
        search.n_eval=4096 controls=[] export.picks=[] output=runs/exhaustive

then searches are replayed from that journal, which answers everything:

    python experiments/benchmarks/depth_truth/compare.py runs/exhaustive --seeds 5 --n-eval 240
"""

import argparse
import json
from pathlib import Path

import numpy as np

from evoprune.core.files import write_atomically
from evoprune.core.pareto import hypervolume, nondominated
from evoprune.progress.console import Console
from evoprune.run import Run
from evoprune.searching.algorithms import Nsga2, Random
from evoprune.searching.budget import Budget
from evoprune.searching.loop import search
from evoprune.searching.values import objectives
from evoprune.session import Session, open_session

ALGORITHMS = {"nsga2": Nsga2(pop_size=16), "random": Random()}


def truth(session: Session) -> tuple[np.ndarray, float]:
    """Returns the objectives of all patterns (P, M) and the tokens that they took."""
    records = [e for e in session.archive.evaluations("search") if e.error is None]
    X = session.problem.space.encode([e.pattern for e in records])
    return objectives(session.problem, X, records), sum(e.tokens for e in records)


def interval(differences: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval of a mean."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(differences), (10_000, len(differences)))
    low, high = np.quantile(differences[draws].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def compare(session: Session, seeds: int, budgets: list[int]) -> list[dict[str, object]]:
    """Returns a row per budget: shares of the true hypervolume, and their paired difference."""
    problem, rows = session.problem, []
    everything, _ = truth(session)
    for n_eval in budgets:
        shares: dict[str, list[float]] = {}
        found_points = []
        for name, algorithm in ALGORITHMS.items():
            for seed in range(seeds):
                stepper = algorithm.begin(problem, session.starts(), seed)
                found = search(problem, stepper, session.archive, Budget(n_eval=n_eval))
                whole = hypervolume(everything, found.box.reference, found.box.ideal)
                shares.setdefault(name, []).append(found.hypervolume / whole)
                if name == "nsga2":
                    front = everything[nondominated(everything)]
                    mine = found.F[found.front]
                    found_points.append(np.mean([(row == mine).all(1).any() for row in front]))
        difference = np.array(shares["nsga2"]) - np.array(shares["random"])
        rows.append(
            {
                "n_eval": n_eval,
                "share of space": n_eval / len(everything),
                **{name: [min(v), float(np.mean(v)), max(v)] for name, v in shares.items()},
                "difference": float(difference.mean()),
                "interval": interval(difference),
                "true front points found": float(np.mean(found_points)),
            }
        )
    return rows


def main() -> None:
    """Prints the table and writes it beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--n-eval", type=int, nargs="+", default=[120, 240, 480])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.json"))
    options = parser.parse_args()
    # The run's own `output` may be relative to the folder in which it was made.
    config = Run.load(options.run).config.model_copy(update={"output": str(options.run.resolve())})
    session = open_session(config, Console(stream=None))
    try:
        rows = compare(session, options.seeds, options.n_eval)
        everything, tokens = truth(session)
    finally:
        session.close()
    print(f"{len(everything)} patterns, {nondominated(everything).sum()} on the true front")
    print("n_eval  nsga2 (min mean max)    random (min mean max)   difference [95 %]         front")
    for row in rows:
        low, high = row["interval"]
        print(
            f"{row['n_eval']:>6}  "
            + "   ".join(" ".join(f"{v:.4f}" for v in row[name]) for name in ALGORITHMS)
            + f"    {row['difference']:+.4f} [{low:+.4f}, {high:+.4f}]  "
            f"{row['true front points found']:.0%}"
        )
    result = {"patterns": len(everything), "tokens": tokens, "seeds": options.seeds, "rows": rows}
    write_atomically(options.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
