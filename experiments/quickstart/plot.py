"""Draws the front of a quickstart run beside its controls, on the report split.

python experiments/quickstart/plot.py runs/quickstart experiments/quickstart/front.svg
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from evoprune.folder.front import Front
from evoprune.folder.layout import RunFolder

ENDS = ("low", "high")
STYLES = {"random": ("#999999", "x"), "last_k": ("#d55e00", "v"), "uniform": ("#009e73", "s")}


def main() -> None:
    """Writes the picture."""
    folder, out = RunFolder.existing(sys.argv[1]), Path(sys.argv[2])
    front = Front.from_json(folder.front_json)
    plt.rcParams.update({"font.size": 10, "svg.hashsalt": "evoprune", "font.family": "sans-serif"})
    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    for name, (colour, marker) in STYLES.items():
        control = Front.from_json(folder.controls / f"{name}.json")
        x = [point.values["sparsity"] for point in control]
        y = [point.values["report_token_accuracy"] for point in control]
        axes.scatter(x, y, color=colour, marker=marker, s=28, label=name.replace("_", "-"))
    points = sorted(front, key=lambda point: point.values["sparsity"])
    x = [point.values["sparsity"] for point in points]
    y = [point.values["report_token_accuracy"] for point in points]
    ends = [[point.values[f"report_token_accuracy_{end}"] for point in points] for end in ENDS]
    bars = [[abs(a - b) for a, b in zip(y, end, strict=True)] for end in ends]
    axes.errorbar(
        x,
        y,
        yerr=bars,
        color="#0072b2",
        marker="o",
        markersize=5,
        linestyle="none",
        elinewidth=1,
        label="evoprune search",
    )
    for pick in ("safe", "balanced", "small"):
        values = front.pick(pick).values
        axes.annotate(
            pick,
            (values["sparsity"], values["report_token_accuracy"]),
            xytext=(12, 14),
            textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": "#444444"},
        )
    axes.set_xlabel("block parameters removed")
    axes.set_ylabel("token accuracy (report split)")
    axes.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    main()
