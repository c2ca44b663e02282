"""Is the searched model better than those of the controls at half the blocks' parameters?

    python experiments/text_classifier/compare.py RUN

Of the search and of each control it takes the point with the lowest loss on validation among those
that remove at least half of the parameters of the blocks, and compares them on the report split,
pairwise: 95 % bootstrap intervals of the difference, examples drawn together.
"""

import argparse
from pathlib import Path

import numpy as np

from evoprune.core.metrics import Table
from evoprune.folder.front import Front, FrontPoint
from evoprune.folder.journal import read_journal
from evoprune.run import Run

HALF, DRAWS = 0.5, 10_000


def chosen(front: Front) -> FrontPoint | None:
    """Returns the point with the lowest loss on validation among the small ones."""
    small = [point for point in front if point.values["sparsity"] >= HALF - 1e-9]
    return min(small, key=lambda point: point.values["val_nll"], default=None)


def tables(run: Run) -> dict[str, Table]:
    """Returns the report split's table of every pattern that was scored there, by id."""
    records = read_journal(run.folder.journal)[1]
    return {
        record["id"]: Table.from_json(record["tables"]["clean"])
        for record in records
        if record.get("split") == "report" and "tables" in record
    }


def difference(ours: np.ndarray, theirs: np.ndarray, rng: np.random.Generator) -> str:
    """Returns the mean difference of two columns (N,) with its interval."""
    gap = ours - theirs
    rows = rng.integers(0, len(gap), (DRAWS, len(gap)))
    low, high = np.quantile(gap[rows].mean(axis=1), [0.025, 0.975])
    return f"{gap.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    run = Run.load(parser.parse_args().run)
    rng, known = np.random.default_rng(0), tables(run)
    fronts = {"search": run.front}
    fronts |= {
        path.stem: Front.from_json(path) for path in sorted(run.folder.controls.glob("*.json"))
    }
    found = {name: chosen(front) for name, front in fronts.items()}
    best = found["search"]
    if best is None:
        raise SystemExit("the search found no point that removes half of the blocks' parameters")
    ours = known[best.id].columns
    print("| | blocks' parameters removed | accuracy | nll | search − it: accuracy | nll |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, point in found.items():
        if point is None:
            print(f"| {name} | none removes so many | | | | |")
            continue
        theirs = known[point.id].columns
        gaps = (difference(ours[c], theirs[c], rng) for c in ("correct", "nll"))
        told = " | | " if name == "search" else f" | {' | '.join(gaps)} "
        print(
            f"| {name} | {point.values['sparsity']:.1%} | {theirs['correct'].mean():.3f} | "
            f"{theirs['nll'].mean():.3f}{told}|"
        )


if __name__ == "__main__":
    main()
