"""nsga2 and random search beside MO-EvoPruneDeepTL's own algorithm, at equal evaluations.

    python experiments/reproductions/moevoprune/compare.py OUT
    python experiments/reproductions/moevoprune/compare.py OUT --assets ASSETS

The first searches the vision quickstart's space, the second cataract's. All start from the same
kind of stratified sample and share one journal, so that nothing is fitted twice; each front is
re-scored on validation and read on report, as that of any run.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from evoprune.config.schema import load_config
from evoprune.folder.front import Front, super_front
from evoprune.progress.console import Console
from evoprune.searching.algorithms import MoEvoPrune, Nsga2, Random
from evoprune.searching.budget import Budget
from evoprune.searching.loop import box, search
from evoprune.session import Session, open_session
from evoprune.summary import volume

HERE = Path(__file__).resolve().parent
ALGORITHMS = {"nsga2": Nsga2(pop_size=30), "moevoprune": MoEvoPrune(), "random": Random()}
OURS = "nsga2"
SPLITS = ("search", "report")


def settings(out: Path, assets: Path | None) -> tuple[Path, list[str]]:
    """Returns the configuration of a data set, and what a command line would add."""
    if assets is None:
        found = HERE.parents[1] / "quickstart_vision" / "config.yaml"
        return found, [f"output={json.dumps(str(out / 'digits'))}", "controls=[]"]
    cataract = assets / "cataract"
    weights = assets / "squeezenet_imagenet" / "squeezenet1_0_dc_fp16.pt"
    values: dict[str, Any] = {
        "output": out / "cataract",
        "plugins": [str(HERE / "squeezenet.py")],
        "model.options": {"factory": {"weights": str(weights)}},
        "data.file": cataract / "cataract_train_96px_jpeg.npz",
        "data.report": cataract / "cataract_test_96px_jpeg.npz",
        "data.far": assets / "cifar10" / "cifar10_test.npz",
    }
    overrides = [f"{key}={json.dumps(value, default=str)}" for key, value in values.items()]
    return HERE / "cataract.yaml", overrides


def compare(session: Session, seeds: int, n_eval: int) -> dict[str, Any]:
    """Returns hypervolumes of every algorithm and seed, and the super-fronts' sizes."""
    problem = session.problem
    dense = session.scorer.points([problem.space.dense], "dense")[0].values
    boxes = {split: box(problem, session.archive, -1, split) for split in SPLITS}
    volumes: dict[str, dict[str, list[float]]] = {}
    fronts: dict[str, list[Front]] = {}
    for name, algorithm in ALGORITHMS.items():
        for seed in range(seeds):
            stepper = algorithm.begin(problem, session.starts(), seed)
            found = search(problem, stepper, session.archive, Budget(n_eval=n_eval))
            points = session.scorer.front([found.patterns[i] for i in found.front], name)
            front = Front(tuple(points), problem.goals, dense)
            fronts.setdefault(name, []).append(front)
            both = volumes.setdefault(name, {split: [] for split in SPLITS})
            both["search"].append(found.hypervolume)
            both["report"].append(volume(front, "report", boxes["report"]))
            print(
                f"{name} seed {seed}: {both['search'][-1]:.4f} {both['report'][-1]:.4f}", flush=True
            )
    merged = {name: super_front(found) for name, found in fronts.items()}
    return {
        "seeds": seeds,
        "n_eval": n_eval,
        "hypervolumes": volumes,
        "super_front": {
            name: {"points": len(front), "report": volume(front, "report", boxes["report"])}
            for name, front in merged.items()
        },
        "points_of": {name: contributed(merged_all(fronts), name) for name in fronts},
        "dense": {key: value for key, value in dense.items() if key.startswith("report_")},
        "best": best(merged[OURS]),
    }


def merged_all(fronts: dict[str, list[Front]]) -> Front:
    """Returns the super-front of all algorithms' runs."""
    return super_front([front for found in fronts.values() for front in found])


def contributed(front: Front, name: str) -> int:
    """Returns how many points of a front one algorithm brought."""
    return sum(point.origin == name for point in front)


def best(front: Front) -> dict[str, float]:
    """Returns the values of the point that is most accurate on validation, fewest units first."""
    found = max(front, key=lambda p: (p.values["val_accuracy"], -p.values["units"]))
    return {k: v for k, v in found.values.items() if k == "units" or k.startswith("report_")}


def interval(differences: np.ndarray) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval of a mean."""
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(differences), (10_000, len(differences)))
    low, high = np.quantile(differences[draws].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Prints the table and writes ``OUT/<data>.json``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--assets", type=Path, help="folder of assets: cataract, not digits")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--n-eval", type=int, default=300)
    options = parser.parse_args()
    file, overrides = settings(options.out, options.assets)
    session = open_session(load_config(file, overrides), Console())
    try:
        result = compare(session, options.seeds, options.n_eval)
    finally:
        session.close()
    name = "cataract" if options.assets else "digits"
    for split in SPLITS:
        ours = np.array(result["hypervolumes"][OURS][split])
        for other, values in result["hypervolumes"].items():
            theirs = np.array(values[split])
            low, high = interval(ours - theirs)
            print(
                f"{name} {split:<7} {other:<10} {theirs.mean():.4f} ± {theirs.std(ddof=1):.4f}"
                f"   {OURS} leads by {(ours - theirs).mean():+.4f} [{low:+.4f}, {high:+.4f}]"
            )
    print(
        json.dumps({k: result[k] for k in ("super_front", "points_of", "best", "dense")}, indent=1)
    )
    (options.out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
