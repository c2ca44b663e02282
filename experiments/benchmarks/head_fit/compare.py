"""Compares the default fit of sparse heads with the paper's recipe over random masks.

Every mask's head is trained by the recipe and fitted by default; seconds are CPU seconds of one
thread. Trainings are kept in ``OUT/recipe``, so that a stopped comparison goes on where it was.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from subjects import Subject, cataract_subject, digits_subject

from evoprune.core.metrics import auroc, spearman
from evoprune.families.sparse_head.fit import Settings, fit, logits
from evoprune.families.sparse_head.heads import Architecture, Fitted, Masks
from evoprune.families.sparse_head.recipe import HeadRecipe, fit_recipe
from evoprune.tasks.ood import SCORES

HIDDEN = 512
TIMED_REPEATS = 3
# Another initialisation and another order of the examples: how far the recipe agrees with itself.
OTHER_SEED = 7


@dataclass(frozen=True, eq=False)
class Scored:
    """One mask's head: its logits, and CPU seconds: of the fit, of an evaluation in a search."""

    test: np.ndarray
    outside: dict[str, np.ndarray]
    seconds: float
    scoring_seconds: float


def draw_masks(count: int, uniform: int, features: int, seed: int = 0) -> np.ndarray:
    """Returns masks (P, D): ``count`` uniform in the logarithm of their density, then ``uniform``.

    From a few dozen features on heads are hardly worse than with all; in the logarithm masks are
    spread over what accuracies there are. Both draws are stratified.
    """
    rng = np.random.default_rng(seed)
    fine = np.exp(np.log(2 / features) * (1 - (np.arange(count) + rng.random(count)) / count))
    even = (np.arange(uniform) + rng.random(uniform)) / max(uniform, 1)
    densities = np.concatenate([fine, even])
    masks = np.zeros((len(densities), features), bool)
    for mask, density in zip(masks, densities, strict=True):
        mask[rng.permutation(features)[: max(1, round(density * features))]] = True
    return masks


def by_default(subject: Subject, mask: np.ndarray, architecture: Architecture) -> Scored:
    """Returns a mask's head from the default fit; the median of a few timings."""
    runs = [_scored(subject, fit, mask, architecture, None) for _ in range(TIMED_REPEATS)]
    return sorted(runs, key=lambda run: run.seconds)[TIMED_REPEATS // 2]


def by_recipe(subject: Subject, mask: np.ndarray, architecture: Architecture, kept: Path) -> Scored:
    """Returns a mask's head from the recipe, or what an earlier comparison kept of it."""
    if not kept.exists():
        recipe = HeadRecipe(seed=architecture.seed + 1)
        run = _scored(subject, fit_recipe, mask, architecture, recipe)
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_suffix(".part.npz")
        np.savez(
            partial,
            test=run.test,
            seconds=[run.seconds, run.scoring_seconds],
            **{f"outside_{kind}": values for kind, values in run.outside.items()},
        )
        partial.replace(kept)
    with np.load(kept) as arrays:
        outside = {kind: arrays[f"outside_{kind}"] for kind in subject.outside}
        return Scored(arrays["test"], outside, *map(float, arrays["seconds"]))


def _scored(subject, fitter, mask, architecture, settings) -> Scored:
    start = time.process_time()
    fitted: Fitted = fitter(*subject.training, Masks(mask[None]), architecture, settings)
    seconds = time.process_time() - start
    for part in subject.searched:
        logits(fitted, part)
    scoring = time.process_time() - start
    test = logits(fitted, subject.test[0])[0]
    outside = {kind: logits(fitted, values)[0] for kind, values in subject.outside.items()}
    return Scored(test, outside, seconds, scoring)


def measures(subject: Subject, run: Scored) -> dict[str, float]:
    """Returns what is compared of one head: accuracy, NLL in nats, and AUROCs."""
    labels = subject.test[1]
    log_sum = SCORES["energy"](run.test)
    found = {
        "accuracy": float((run.test.argmax(1) == labels).mean()),
        "nll": float((log_sum - run.test[np.arange(len(labels)), labels]).mean()),
    }
    for kind, outside in run.outside.items():
        for name, score in SCORES.items():
            found[f"auroc/{kind}/{name}"] = auroc(score(run.test), score(outside))
    return found


def agreement(ours: dict, theirs: dict, examples: int) -> dict[str, object]:
    """Returns how two fits' accuracies and AUROCs agree over masks.

    Args:
        ours: measure to values (P,).
        theirs: the same of the reference.
        examples: how many the accuracies are over; gives their binomial standard error.
    """
    a, b = np.array(ours["accuracy"]), np.array(theirs["accuracy"])
    errors = np.sqrt(b * (1 - b) / examples)
    gaps = a - b
    aurocs = {}
    for name in (name for name in ours if name.startswith("auroc/")):
        x, y = np.array(ours[name]), np.array(theirs[name])
        aurocs[name.removeprefix("auroc/")] = {
            "pearson": float(np.corrcoef(x, y)[0, 1]),
            "spearman": spearman(x, y),
            "mean_difference": float((x - y).mean()),
        }
    return {
        "masks": len(a),
        "accuracy": [float(a.mean()), float(b.mean())],
        "mean_difference": float(gaps.mean()),
        "mean_absolute_difference": float(np.abs(gaps).mean()),
        "standard_error_of_one_accuracy": float(errors.mean()),
        "share_within_one_standard_error": float((np.abs(gaps) <= errors + 1e-12).mean()),
        "share_within_two": float((np.abs(gaps) <= 2 * errors + 1e-12).mean()),
        "spearman": spearman(a, b),
        "nll": [float(np.mean(ours["nll"])), float(np.mean(theirs["nll"]))],
        "auroc": aurocs,
    }


def speed(ours: list[Scored], theirs: list[Scored]) -> dict[str, float]:
    """Returns CPU seconds per mask of both, and how many times faster the default fit is."""
    fitting, training = (np.array([run.seconds for run in runs]) for runs in (ours, theirs))
    whole = np.array([run.scoring_seconds for run in ours])
    return {
        "fit_seconds": float(fitting.mean()),
        "fit_and_score_seconds": float(whole.mean()),
        "recipe_seconds": float(training.mean()),
        "ratio": float(training.sum() / fitting.sum()),
        "ratio_with_scoring": float(training.sum() / whole.sum()),
        "median_ratio": float(np.median(training / fitting)),
        "least_ratio": float((training / fitting).min()),
    }


def compare(subject: Subject, masks: np.ndarray, uniform: int, folder: Path, ceiling: int) -> dict:
    """Returns the comparison on one data set.

    Args:
        subject: the data set.
        masks: what is compared (P, D), the last ``uniform`` of them uniform in density.
        uniform: see ``masks``.
        folder: where trainings are kept.
        ceiling: how many of each sort are also trained by the recipe from another seed.
    """
    architecture = Architecture(masks.shape[1], (HIDDEN,), subject.classes)
    other = Architecture(masks.shape[1], (HIDDEN,), subject.classes, OTHER_SEED)
    ours, theirs = [], []
    for number, mask in enumerate(masks):
        kept = folder / "recipe" / subject.name / f"{number}.npz"
        theirs.append(by_recipe(subject, mask, architecture, kept))
        ours.append(by_default(subject, mask, architecture))
        print(f"{subject.name} mask {number}: {mask.sum()} features", flush=True)

    def table(runs: list[Scored]) -> dict[str, list[float]]:
        rows = [measures(subject, run) for run in runs]
        return {name: [row[name] for row in rows] for name in rows[0]}

    examples, count = len(subject.test[1]), len(masks) - uniform
    result = {
        "examples": examples,
        "features": masks.sum(1).tolist(),
        "speed": speed(ours, theirs),
        "fit": table(ours),
        "recipe": table(theirs),
        "agreement": {},
    }
    sorts = {"logarithmic": np.arange(count), "uniform": count + np.arange(uniform)}
    for sort, rows in sorts.items():
        some = rows[np.linspace(0, len(rows) - 1, min(ceiling, len(rows))).astype(int)]
        again = [
            by_recipe(
                subject,
                masks[i],
                other,
                folder / "recipe" / subject.name / f"{i}_seed{OTHER_SEED}.npz",
            )
            for i in some
        ]
        pairs = {
            f"{sort}, fit": ([ours[i] for i in rows], [theirs[i] for i in rows]),
            f"{sort}, recipe from another seed": (again, [theirs[i] for i in some]),
            f"{sort}, fit on those": ([ours[i] for i in some], [theirs[i] for i in some]),
        }
        for name, (left, right) in pairs.items():
            if left:
                found = agreement(table(left), table(right), examples)
                result["agreement"][name] = found
    return result


def lines(name: str, result: dict) -> list[str]:
    """Returns the rows of the printed table."""
    fast, found = [], []
    for key, value in result["speed"].items():
        fast.append(f"{key} {value:.4g}")
    for part, row in result["agreement"].items():
        found.append(
            f"{name} {part}: {row['masks']} masks, accuracy difference "
            f"{row['mean_difference']:+.4f} (mean |.| {row['mean_absolute_difference']:.4f}, "
            f"SE {row['standard_error_of_one_accuracy']:.4f}, "
            f"within 1 SE {row['share_within_one_standard_error']:.0%}, "
            f"2 SE {row['share_within_two']:.0%}), "
            f"Spearman {row['spearman']:.3f}, NLL {row['nll'][0]:.3f} / {row['nll'][1]:.3f}"
        )
        for kind, gap in row["auroc"].items():
            found.append(
                f"  AUROC {kind}: r {gap['pearson']:.3f}, Spearman {gap['spearman']:.3f}, "
                f"difference {gap['mean_difference']:+.3f}"
            )
    return [f"{name} CPU: {', '.join(fast)}", *found]


def main() -> None:
    """Runs the comparison and writes ``OUT/<data>.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument("--assets", type=Path, help="folder of assets: cataract, not digits")
    parser.add_argument("--masks", type=int, default=60, help="uniform in the log of density")
    parser.add_argument("--uniform", type=int, default=24, help="uniform in density")
    parser.add_argument("--ceiling", type=int, default=0, help="of each trained from another seed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    subject = cataract_subject(arguments.assets) if arguments.assets else digits_subject()
    masks = draw_masks(arguments.masks, arguments.uniform, subject.training[0].shape[1])
    result = compare(subject, masks, arguments.uniform, arguments.out, arguments.ceiling)
    result["settings"] = {"hidden": HIDDEN, **vars(Settings())}
    print("\n".join(lines(subject.name, result)))
    (arguments.out / f"{subject.name}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
