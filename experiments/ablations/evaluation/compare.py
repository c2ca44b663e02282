"""What sharing beginnings and bfloat16 are each worth when candidates are evaluated.

Takes the first candidates that a search evaluated (a run folder with its journal), a generation at
a time, and measures each generation three times in turn, in one process with one thread: every
candidate from the start, with shared beginnings, and with shared beginnings in bfloat16.

    evoprune search experiments/quickstart/config.yaml output=runs/quickstart
    python experiments/ablations/evaluation/compare.py runs/quickstart

A ratio is of seconds, of each generation; its interval is a 95 % bootstrap interval of the mean
over generations. So is that of a rank correlation, over candidates.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evoprune.core.files import write_atomically
from evoprune.core.metrics import spearman
from evoprune.core.pattern import Pattern
from evoprune.evaluation.prefix import together
from evoprune.evaluation.worker import Worker
from evoprune.folder.layout import RunFolder
from evoprune.progress.console import Console
from evoprune.session import open_session

HERE = Path(__file__).parent
DRAWS = 2000


def prepared(config: Any, scratch: str, dtype: str) -> tuple[Worker, int]:
    """Returns a worker whose network runs in a format, and the bytes that it may keep."""
    model = config.model.model_copy(update={"dtype": dtype})
    output = str(Path(scratch) / dtype)
    session = open_session(
        config.model_copy(update={"model": model, "output": output}), Console(stream=None)
    )
    session.close()
    worker = Worker(session.spec)
    worker.evaluate(worker.space.dense)  # maps the weights
    return worker, session.spec.boundary_mb << 20


def timed(worker: Worker, patterns: Sequence[Pattern], shared: bool) -> tuple[float, list[Any]]:
    """Returns the seconds of a generation, and its values in the order of the patterns."""
    order = together(worker.space, patterns)
    began = time.perf_counter()
    if shared:
        found = worker.evaluate_batch([patterns[i] for i in order])
    else:
        found = [worker.evaluate(patterns[i]) for i in order]
    seconds = time.perf_counter() - began
    values = {one.pattern.id: one.values for one in found}
    return seconds, [values[pattern.id] for pattern in patterns]


def interval(statistic: Callable[[np.ndarray], float], count: int) -> list[float]:
    """Returns a statistic of all rows and its 95 % bootstrap interval over rows."""
    rng = np.random.default_rng(0)
    drawn = [statistic(rng.integers(0, count, count)) for _ in range(DRAWS)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return [statistic(np.arange(count)), float(low), float(high)]


def measure(folder: Path, count: int, generation: int) -> dict[str, Any]:
    """Returns the figures of one run folder."""
    config = RunFolder.existing(folder).load().model_copy(update={"output": str(folder)})
    session = open_session(config, Console(stream=None))
    known = [e for e in session.archive.evaluations("search") if e.rung == -1 and not e.error]
    session.close()
    patterns = [e.pattern for e in known[:count]]
    with tempfile.TemporaryDirectory(prefix="evoprune-evaluation-") as scratch:
        plain, _ = prepared(config, scratch, "float32")
        sharing, bound = prepared(config, scratch, "float32")
        half, _ = prepared(config, scratch, "bfloat16")
        plain.runner.prefixes.bound = 0
        sharing.runner.prefixes.bound = half.runner.prefixes.bound = bound
        seconds: dict[str, list[float]] = {"loop": [], "shared": [], "bfloat16": []}
        values: dict[str, list[Mapping[str, float]]] = {name: [] for name in seconds}
        for start in range(0, len(patterns), generation):
            some = patterns[start : start + generation]
            for name, worker in (("loop", plain), ("shared", sharing), ("bfloat16", half)):
                took, found = timed(worker, some, shared=name != "loop")
                seconds[name].append(took)
                values[name] += found
    if values["loop"] != values["shared"]:
        raise SystemExit("With shared beginnings the values differ.")
    took = {name: np.array(rows) for name, rows in seconds.items()}

    def faster(before: str, after: str) -> list[float]:
        ratios = took[before] / took[after]
        return interval(lambda rows: float(ratios[rows].mean()), len(ratios))

    columns = {
        name: np.array([[one[name] for one in values[kind]] for kind in ("shared", "bfloat16")])
        for name in session.problem.measured
    }
    return {
        "run": folder.name,
        "candidates": len(patterns),
        "generation": generation,
        "sharing is faster by": faster("loop", "shared"),
        "bfloat16 is faster by": faster("shared", "bfloat16"),
        "rank correlation in bfloat16": {
            name: interval(lambda rows, pair=pair: spearman(*pair[:, rows]), len(patterns))
            for name, pair in columns.items()
        },
        "farthest": {name: float(np.abs(a - b).max()) for name, (a, b) in columns.items()},
        "seconds": seconds,
    }


def main() -> None:
    """Measures every run folder and writes the figures beside this file."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--count", type=int, default=128)
    parser.add_argument("--generation", type=int, default=16)
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    given = parser.parse_args()
    results = [measure(run, given.count, given.generation) for run in given.runs]
    write_atomically(given.out, json.dumps(results, indent=1) + "\n")
    for one in results:
        print(json.dumps({k: v for k, v in one.items() if k != "seconds"}, indent=1))


if __name__ == "__main__":
    main()
