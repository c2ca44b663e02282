"""What is in ``results`` by sort of mask and pooled, and the fit with other numbers of steps.

    python experiments/benchmarks/head_fit/steps.py 16 40
    python experiments/benchmarks/head_fit/steps.py 16 40 --assets ASSETS

Nothing is trained: the recipe's accuracies are read, and heads are fitted to the same masks.
Without numbers of steps only what is in ``results`` is told.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compare import HIDDEN, draw_masks
from subjects import Subject, cataract_subject, digits_subject

from evoprune.core.metrics import spearman
from evoprune.families.sparse_head.fit import Settings, fit, logits
from evoprune.families.sparse_head.heads import Architecture, Masks

RESULTS = Path(__file__).with_name("results")


def fitted(subject: Subject, masks: np.ndarray, settings: Settings) -> tuple[np.ndarray, float]:
    """Returns the accuracies of heads over masks (P,), and the CPU seconds of a fit."""
    architecture = Architecture(masks.shape[1], (HIDDEN,), subject.classes)
    features, labels = subject.test
    found, spent = [], 0.0
    for mask in masks:
        start = time.process_time()
        heads = fit(*subject.training, Masks(mask[None]), architecture, settings)
        spent += time.process_time() - start
        found.append((logits(heads, features)[0].argmax(1) == labels).mean())
    return np.array(found), spent / len(masks)


def lines(ours: np.ndarray, theirs: np.ndarray, uniform: int) -> list[str]:
    """Returns how accuracies agree with the recipe's (P,), the last ``uniform`` masks apart."""
    count = len(ours) - uniform
    sorts = {"logarithmic": slice(0, count), "uniform": slice(count, None), "pooled": slice(None)}
    found = []
    for sort, rows in sorts.items():
        gaps = ours[rows] - theirs[rows]
        found.append(
            f"  {sort}: {len(gaps)} masks, mean difference {gaps.mean():+.4f}, "
            f"mean |.| {np.abs(gaps).mean():.4f}, Spearman {spearman(ours[rows], theirs[rows]):.3f}"
        )
    return found


def stored(name: str) -> dict[str, Any]:
    """Returns what is in ``results`` of a data set."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Prints the agreement that is stored, and that for every number of steps."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("steps", type=int, nargs="*")
    parser.add_argument(
        "--time", type=float, help="of the fit's settings; the recipe's if left out"
    )
    parser.add_argument("--assets", type=Path, help="folder of assets: cataract, not digits")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    name = "cataract" if arguments.assets else "digits"
    kept = stored(name)
    uniform = kept["agreement"]["uniform, fit"]["masks"]
    theirs = np.array(kept["recipe"]["accuracy"])
    print(f"{name}, as stored")
    print("\n".join(lines(np.array(kept["fit"]["accuracy"]), theirs, uniform)), flush=True)
    if not arguments.steps:
        return
    subject = cataract_subject(arguments.assets) if arguments.assets else digits_subject()
    masks = draw_masks(len(theirs) - uniform, uniform, subject.training[0].shape[1])
    assert masks.sum(1).tolist() == kept["features"], "these are not the masks of the results"
    for steps in arguments.steps:
        ours, seconds = fitted(subject, masks, Settings(arguments.time, steps))
        print(f"{name}, {steps} steps, {seconds:.3f} CPU s a fit")
        print("\n".join(lines(ours, theirs, uniform)), flush=True)


if __name__ == "__main__":
    main()
