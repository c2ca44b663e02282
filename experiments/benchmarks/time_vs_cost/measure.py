"""Whether time follows what is kept: seconds against FLOPs over random patterns, one thread.

    python experiments/benchmarks/time_vs_cost/measure.py runs/quickstart

Every pattern is timed in turn, round after round, and its fastest round counts, so that a noisy
machine shifts all alike. The line is fitted through the dense model's and the patterns' seconds;
its slope is compared with the one that the FLOPs predict from the dense model alone.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from evoprune.core.files import write_atomically
from evoprune.evaluation.realise import Realised
from evoprune.evaluation.worker import Worker
from evoprune.families.flops import executed_flops
from evoprune.families.stages import batch_of, forward, micro_batches
from evoprune.progress.console import Console
from evoprune.run import Run
from evoprune.searching.starts import stratified
from evoprune.session import open_session


def overhead(worker: Worker, pattern: object, rounds: int) -> float:
    """Returns the share of an evaluation that is not the model's own forward pass and head."""
    examples = worker.examples("search")

    stages = worker.runner.stages

    def model_only() -> None:
        with torch.inference_mode():
            for _, batch in micro_batches(stages, examples.clean.arrays, "cpu"):
                features = forward(stages, batch)
                stages.logits(features[:, :-1].reshape(-1, features.shape[-1]))

    whole, inner = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        worker.evaluate(pattern)
        whole.append(time.perf_counter() - began)
        began = time.perf_counter()
        model_only()
        inner.append(time.perf_counter() - began)
    return 1.0 - min(inner) / min(whole)


def main() -> None:
    """Prints the fit and writes it beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--patterns", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.json"))
    options = parser.parse_args()
    # The run's own `output` may be relative to the folder in which it was made.
    config = Run.load(options.run).config.model_copy(update={"output": str(options.run.resolve())})
    session = open_session(config, Console(stream=None))
    space, problem, spec = session.problem.space, session.problem, session.spec
    session.close()
    worker = Worker(spec)
    X = stratified(space, options.patterns, np.random.default_rng(0))
    X = np.concatenate([np.zeros((1, space.n_var), np.int64), space.canonical(X)])
    patterns = space.patterns(X)
    seconds = np.full((options.rounds, len(patterns)), np.inf)
    for round_ in range(options.rounds):
        for i, pattern in enumerate(patterns):
            began = time.perf_counter()
            worker.evaluate(pattern)
            seconds[round_, i] = time.perf_counter() - began
    best, share = seconds.min(axis=0), problem.share(X)
    slope, start = np.polyfit(share, best, 1)
    fitted = slope * share + start
    r2 = 1 - ((best - fitted) ** 2).sum() / ((best - best.mean()) ** 2).sum()
    executed = []
    stages, arrays = worker.runner.stages, worker.examples("search").clean.arrays
    batch = batch_of(arrays, slice(4), "cpu")
    table = problem.table.cost("flops", space, X)
    for i, pattern in enumerate(patterns[:5]):
        dropped = Realised.of(space.options(pattern)).dropped
        flops = executed_flops(lambda d=dropped: stages.logits(forward(stages, batch, d)))
        executed.append(flops / (table[i] * batch["tokens"].numel()))
    result = {
        "dense_seconds": float(best[0]),
        "r2": float(r2),
        "slope_seconds": float(slope),
        "predicted_slope_seconds": float(best[0]),
        "slope_ratio": float(slope / best[0]),
        "overhead": overhead(worker, patterns[0], options.rounds),
        "executed_over_analytic_flops": executed,
        "patterns": [[float(a), float(b)] for a, b in zip(share, best, strict=True)],
    }
    for name in ("dense_seconds", "r2", "slope_ratio", "overhead", "executed_over_analytic_flops"):
        print(f"{name:<30} {result[name]}")
    write_atomically(options.out, json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
