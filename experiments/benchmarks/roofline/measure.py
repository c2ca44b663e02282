"""How near evaluation is to what the processor could do: real candidates, replayed.

Takes the first candidates that a search evaluated (a run folder with its journal) and measures
them again in three ways, in one process, one after another:

    evoprune search experiments/quickstart/config.yaml output=runs/quickstart
    python experiments/benchmarks/roofline/measure.py runs/quickstart

*loop* runs every candidate from the start; *generations* shares beginnings as a search does, a
generation at a time; *at once* shares them among all. T* is the least time in which the work could
be done: the FLOPs of the distinct beginnings and of all heads, over the speed of one large matrix
product measured in the same run. Their values must be equal to the last bit, or it stops.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from evoprune.core.costs import CostTable
from evoprune.core.files import write_atomically
from evoprune.core.pattern import Pattern
from evoprune.evaluation.prefix import path_of, together
from evoprune.evaluation.worker import Worker
from evoprune.folder.layout import RunFolder
from evoprune.progress.console import Console
from evoprune.session import open_session

HERE = Path(__file__).parent


def peak(dtype: str, threads: int, size: int = 1536, repeats: int = 12) -> float:
    """Returns the FLOPs a second of the fastest of several large matrix products."""
    import torch

    torch.set_num_threads(threads)
    a, best = torch.randn(size, size).to(getattr(torch, dtype)), 0.0
    for _ in range(repeats):
        began = time.perf_counter()
        a @ a
        best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


class Work:
    """The FLOPs of each block and of the head, counted from the cost table.

    Args:
        worker: whose table and space are read.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker, self._stages = worker, worker.runner.stages
        rows: dict[int, list[object]] = {}
        for row in worker.table.rows:
            block = self._stages.block_of(row.gates[0]) if row.gates else -1
            rows.setdefault(block, []).append(row)
        self._tables = {block: CostTable(tuple(found)) for block, found in rows.items()}

    def of(self, patterns: Sequence[Pattern]) -> tuple[np.ndarray, float]:
        """Returns FLOPs per token of each pattern's blocks (P, n_blocks), and of the head."""
        space = self._worker.space
        X = space.encode(patterns)
        blocks = [self._tables[i].cost("flops", space, X) for i in range(self._stages.n_blocks)]
        return np.stack(blocks, axis=1), float(self._tables[-1].cost("flops", space, X[:1])[0])

    def counts(self, patterns: Sequence[Pattern]) -> dict[str, float]:
        """Returns FLOPs per token of all patterns: of a plain loop, of distinct beginnings."""
        flops, head = self.of(patterns)
        paths = [path_of(self._stages, self._worker.space.options(p)) for p in patterns]
        distinct = {
            path[: i + 1]: cost[i]
            for path, cost in zip(paths, flops, strict=True)
            for i in range(len(path))
        }
        return {
            "blocks in a loop": float(flops.sum()),
            "blocks once": float(sum(distinct.values())),
            "heads": head * len(patterns),
        }


def replay(
    worker: Worker, patterns: Sequence[Pattern], batch: int, bound: int
) -> tuple[dict[str, float], dict[str, object]]:
    """Returns the seconds of an evaluation in batches, and the values."""
    runner = worker.runner
    runner.prefixes.__init__(runner.stages, bound)
    found = []
    began = time.perf_counter()
    for start in range(0, len(patterns), batch):
        some = patterns[start : start + batch]
        found += worker.evaluate_batch([some[i] for i in together(worker.space, some)])
    seconds = time.perf_counter() - began
    times = {
        "seconds": seconds,
        "network": sum(e.model_seconds for e in found),
        "head and metrics": sum(e.metric_seconds for e in found),
    }
    times["rest"] = seconds - times["network"] - times["head and metrics"]
    times["blocks run"] = runner.prefixes.executed / runner.prefixes.asked
    return times, {e.pattern.id: e.values for e in found}


def measure(folder: Path, count: int, generation: int, repeats: int) -> dict[str, object]:
    """Returns the figures of one run folder."""
    config = RunFolder.existing(folder).load().model_copy(update={"output": str(folder)})
    session = open_session(config, Console(stream=None))
    known = [e for e in session.archive.evaluations("search") if e.rung == -1 and not e.error]
    session.close()
    patterns = [e.pattern for e in known[:count]]
    worker = Worker(session.spec)
    worker.evaluate(worker.space.dense)  # maps the weights
    tokens, bound = worker.examples("search").work, session.spec.boundary_mb << 20
    work = {k: v * tokens for k, v in Work(worker).counts(patterns).items()}
    rounds: dict[str, list[dict[str, float]]] = {}
    speed, reference = 0.0, None
    for _ in range(repeats):  # in turn, so that a busy moment of the machine hits all alike
        speed = max(speed, peak(session.spec.dtype, session.spec.threads))
        for name, batch, room in (
            ("loop", 1, 0),
            ("generations", generation, bound),
            ("at once", len(patterns), bound),
        ):
            times, values = replay(worker, patterns, batch, room)
            reference = reference or values
            if values != reference:
                raise SystemExit(f"'{name}' gives other values than a plain loop.")
            rounds.setdefault(name, []).append(times)
    best = {name: min(found, key=lambda t: t["seconds"]) for name, found in rounds.items()}
    least = (work["blocks once"] + work["heads"]) / speed
    return {
        "run": folder.name,
        "candidates": len(patterns),
        "tokens each": tokens,
        "dtype": session.spec.dtype,
        "GEMM GFLOP/s": speed / 1e9,
        "GFLOP": {name: value / 1e9 for name, value in work.items()},
        "T* seconds": least,
        "measured": best,
        "T/T*": {name: found["seconds"] / least for name, found in best.items()},
        "speed-up on the loop": {
            name: best["loop"]["seconds"] / found["seconds"] for name, found in best.items()
        },
    }


def main() -> None:
    """Measures every run folder and writes the figures beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--generation", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    given = parser.parse_args()
    results = [measure(run, given.count, given.generation, given.repeats) for run in given.runs]
    write_atomically(given.out, json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
