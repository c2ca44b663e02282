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

from evoprune.families.sparse_head.fit import Settings, fit, logits
from evoprune.families.sparse_head.heads import Architecture, Fitted, Masks
from evoprune.families.sparse_head.recipe import Recipe, fit_recipe
from evoprune.metrics import auroc, spearman
from evoprune.tasks.ood import SCORES

HIDDEN = 512
TIMED_REPEATS = 3
# Another initialisation and another order of the examples: how far the recipe agrees with itself.
OTHER_SEED = 7


@dataclass(frozen=True, eq=False)
class Scored:
    """One mask's head: its logits, and the CPU seconds of fitting and of fitting and scoring."""

    test: np.ndarray
    outside: dict[str, np.ndarray]
    seconds: float
    scoring_seconds: float


def draw_masks(count: int, features: int, seed: int = 0) -> np.ndarray:
    """Returns masks (P, D), half uniform in density and half in its logarithm, both stratified."""
    rng = np.random.default_rng(seed)
    shares = (np.arange(count) + rng.random(count)) / count
    fine = np.exp(np.log(2 / features) * (1 - shares))
    densities = np.where(np.arange(count) % 2 == 0, shares, fine)
    masks = np.zeros((count, features), bool)
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
        recipe = Recipe(seed=architecture.seed + 1)
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
    test = logits(fitted, subject.test[0])[0]
    outside = {kind: logits(fitted, values)[0] for kind, values in subject.outside.items()}
    return Scored(test, outside, seconds, time.process_time() - start)


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


def compare(subject: Subject, masks: np.ndarray, folder: Path, ceiling: int) -> dict:
    """Returns the comparison on one data set; ``ceiling`` masks are also trained from a seed."""
    architecture = Architecture(masks.shape[1], (HIDDEN,), subject.classes)
    other = Architecture(masks.shape[1], (HIDDEN,), subject.classes, OTHER_SEED)
    ours, theirs, again = [], [], []
    for number, mask in enumerate(masks):
        kept = folder / "recipe" / subject.name / f"{number}.npz"
        theirs.append(by_recipe(subject, mask, architecture, kept))
        ours.append(by_default(subject, mask, architecture))
        print(f"{subject.name} mask {number}: {mask.sum()} features", flush=True)
    chosen = np.linspace(0, len(masks) - 1, ceiling).astype(int)
    for number in chosen:
        kept = folder / "recipe" / subject.name / f"{number}_seed{OTHER_SEED}.npz"
        again.append(by_recipe(subject, masks[number], other, kept))

    def table(runs: list[Scored]) -> dict[str, list[float]]:
        rows = [measures(subject, run) for run in runs]
        return {name: [row[name] for row in rows] for name in rows[0]}

    examples, features = len(subject.test[1]), masks.sum(1).tolist()
    result = {
        "examples": examples,
        "speed": speed(ours, theirs),
        "agreement": agreement(table(ours), table(theirs), examples),
        "uniform_half": agreement(table(ours[::2]), table(theirs[::2]), examples),
        "logarithmic_half": agreement(table(ours[1::2]), table(theirs[1::2]), examples),
        "per_mask": {"features": features, "fit": table(ours), "recipe": table(theirs)},
    }
    if ceiling:
        same, pairs = table([theirs[i] for i in chosen]), table([ours[i] for i in chosen])
        result["recipe_again"] = agreement(table(again), same, examples)
        result["fit_on_those"] = agreement(pairs, same, examples)
    return result


def lines(name: str, result: dict) -> list[str]:
    """Returns the rows of the printed table."""
    fast, found = [], []
    for key, value in result["speed"].items():
        fast.append(f"{key} {value:.4g}")
    for part in ("agreement", "uniform_half", "logarithmic_half", "recipe_again", "fit_on_those"):
        if part not in result:
            continue
        row = result[part]
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
    parser.add_argument("--masks", type=int, default=60)
    parser.add_argument("--ceiling", type=int, default=0, help="masks trained from another seed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    subject = cataract_subject(arguments.assets) if arguments.assets else digits_subject()
    masks = draw_masks(arguments.masks, subject.training[0].shape[1])
    result = compare(subject, masks, arguments.out, arguments.ceiling)
    result["settings"] = {"hidden": HIDDEN, **vars(Settings())}
    print("\n".join(lines(subject.name, result)))
    (arguments.out / f"{subject.name}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
