"""What it costs that every block keeps the same widths, so that the stock class loads the result.

    python experiments/ablations/uniform/compare.py CONFIG --out OUT [--seeds 3] [key=value …]

CONFIG names model, data and objectives; it is searched in ``decoder/uniform`` and in
``decoder/depth_width``, with the same evaluations and seeds. At each share of the dense model's
parameters the point of either front with the best quality on validation inside the bound is
taken; the difference of the quality that they keep is read on the report split, paired over its
examples, which are resampled within clusters for the interval (all seeds together).
"""

import argparse
from pathlib import Path

import numpy as np

import evoprune
from evoprune.core.metrics import Table, bootstrap, ratio
from evoprune.core.quality import kept
from evoprune.data.examples import Scale
from evoprune.folder.journal import read_journal

SPACES = ("decoder/uniform", "decoder/depth_width")
SHARES = (0.9, 0.8, 0.7, 0.6, 0.5)


def report_tables(run: "evoprune.Run") -> dict[str, Table]:
    """Returns the report tables of all patterns that were scored there, by id."""
    _, records = read_journal(run.folder.journal)
    return {
        record["id"]: Table.from_json(record["tables"]["clean"])
        for record in records
        if record["type"] == "evaluation" and record["split"] == "report" and "tables" in record
    }


def quality(table: Table, dense: Table, zero: Table) -> float:
    """Returns the share of the dense model's gain over unigram frequencies that is kept."""
    return kept(ratio(table, "nll"), ratio(zero, "nll"), ratio(dense, "nll"))


def rows_at(share: float, runs: dict[str, list["evoprune.Run"]]) -> list[str]:
    """Returns a row of the table: quality kept by both, and the price of uniformity."""
    scale = Scale.load(runs[SPACES[0]][0].folder.calibration / "report.safetensors")
    dense, zero = scale.dense["clean"], scale.zero["clean"]
    chosen = {
        space: [
            report_tables(run)[run.front.pick(f"best:kl,params<={100 * share}%").id] for run in each
        ]
        for space, each in runs.items()
    }
    ours, free = (chosen[space] for space in SPACES)

    def price(*tables: Table) -> float:
        *rows, whole, nothing = tables
        half = len(rows) // 2
        pairs = zip(rows[:half], rows[half:], strict=True)
        return float(
            np.mean([quality(b, whole, nothing) - quality(a, whole, nothing) for a, b in pairs])
        )

    low, high = bootstrap(price, [*ours, *free, dense, zero])
    means = [np.mean([quality(t, dense, zero) for t in tables]) for tables in (ours, free)]
    value = price(*ours, *free, dense, zero)
    return [f"{share:.0%}", *(f"{m:.3f}" for m in means), f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"]


def main() -> None:
    """Searches both spaces and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("config")
    parser.add_argument("overrides", nargs="*", default=[])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_intermixed_args()
    runs: dict[str, list[evoprune.Run]] = {space: [] for space in SPACES}
    for space in SPACES:
        for seed in range(asked.seeds):
            output = asked.out / space.replace("/", "_") / f"seed-{seed}"
            changes = [f"space={space}", f"search.seed={seed}", f"output={output}"]
            changes += ["controls=[]", "export.picks=[]", *asked.overrides]
            runs[space].append(evoprune.search(asked.config, changes))
    for run in runs["decoder/uniform"]:
        odd = [point.id for point in run.front if point.rung != "homogeneous"]
        if odd:
            raise SystemExit(f"points of the uniform space that no stock class loads: {odd}")
    header = ["params at most", "uniform keeps", "free widths keep", "price of uniformity [95 %]"]
    rows = [header, ["---"] * 4, *(rows_at(share, runs) for share in SHARES)]
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    (asked.out / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
