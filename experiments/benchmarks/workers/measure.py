"""What Ray workers cost and bring on one machine: throughput, idle time, dispatch, memory.

    python experiments/benchmarks/workers/measure.py --out OUT

Models are random Llamas written by this file; only seconds and bytes are read off them. Every
comparison is repeated, its sides in turn, and the median counts. Run it on a machine that does
nothing else. What is measured lies in OUT; the same command goes on from there.
"""

import argparse
import gc
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evoprune.config.schema import load_config
from evoprune.core.files import write_atomically
from evoprune.core.pattern import Pattern
from evoprune.core.protocols import Request
from evoprune.evaluation.ray_pool import Demand, RayEvaluator
from evoprune.evaluation.worker import Worker, WorkerSpec
from evoprune.families.load import quiet_transformers
from evoprune.folder.journal import Journal
from evoprune.progress.console import Console
from evoprune.searching.problem import Problem
from evoprune.session import open_session
from evoprune.testing import byte_tokenizer

WORDS = ("one", "two", "three", "four", "plus", "minus", "times", "rain", "cat", "oak", "grey")


@dataclass(frozen=True)
class Size:
    """How large a measurement is.

    Attributes:
        hidden, layers: of the model whose candidates are timed.
        seconds: that a dense evaluation shall take; as many examples are used as that needs.
        candidates: of a comparison.
        repeats: of it.
        large_hidden, large_layers: of the model whose memory is measured.
        large_workers: that hold it.
    """

    hidden: int
    layers: int
    seconds: float
    candidates: int
    repeats: int
    large_hidden: int
    large_layers: int
    large_workers: int = 4


FULL = Size(256, 8, 0.4, 32, 5, 1536, 4)
SMALL = Size(64, 6, 0.05, 8, 1, 128, 2)
FEW = 8  # examples that the first timed pass takes
MOST = 300  # that there are


def llama(folder: Path, hidden: int, layers: int) -> Path:
    """Returns the folder of a random Llama with a tokenizer of bytes."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    if (folder / "tokenizer.json").is_file():
        return folder
    quiet_transformers()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=8,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def prepared(out: Path, model: Path, samples: int) -> tuple[WorkerSpec, Problem]:
    """Returns a prepared run on a model."""
    texts, rng = out / "texts.jsonl", np.random.default_rng(0)
    rows = ({"key": f"k{i}", "text": " ".join(rng.choice(WORDS, 60))} for i in range(600))
    texts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "model": {"name_or_path": str(model)},
        "data": {
            "type": "jsonl",
            "files": [str(texts)],
            "key_field": "key",
            "chunk_tokens": 128,
            "fractions": {"search": 0.6, "validation": 0.2, "report": 0.2},
        },
        "calibration": {"sampler": "random", "samples": samples, "clusters": 1, "pool": samples},
        "space": "decoder/subblocks",
        "objectives": ["kl", "sparsity"],
        "columns": ["nll", "flops"],
        "search": {"n_eval": 1},
        # Each candidate takes what it costs, whoever runs it and whatever was run before.
        "workers": {"boundary_mb": 0},
        "validation": {"samples": 4},
        "report": {"samples": 4},
        "output": str(out / f"run-{model.name}-{samples}"),
    }
    session = open_session(load_config(settings), Console(stream=None))
    session.close()
    return session.spec, session.problem


def timed_run(out: Path, size: Size) -> tuple[WorkerSpec, Problem, float]:
    """Returns a run of so many examples that a dense evaluation takes as long as it shall.

    Returns:
        What a worker needs, the problem, and the seconds of a dense evaluation in this process.
    """
    model, chosen = llama(out / "timed", size.hidden, size.layers), out / "samples.json"
    if not chosen.is_file():
        spec, problem = prepared(out, model, FEW)
        each = dense_seconds(spec, problem) / FEW
        count = min(MOST, max(FEW, math.ceil(size.seconds / each)))
        write_atomically(chosen, f"{count}\n")
    spec, problem = prepared(out, model, json.loads(chosen.read_text()))
    return spec, problem, dense_seconds(spec, problem)


def dense_seconds(spec: WorkerSpec, problem: Problem) -> float:
    """Returns what a dense evaluation takes here, the second of two."""
    worker = Worker(spec)
    worker.evaluate(problem.space.dense)
    return worker.evaluate(problem.space.dense).seconds


def spread(problem: Problem, count: int, most: float) -> list[Pattern]:
    """Returns distinct candidates whose FLOPs are spread evenly, up to so many times the least."""
    space, rng = problem.space, np.random.default_rng(0)
    X = space.canonical(rng.random((4000, 1)) > rng.random((4000, space.n_var)))
    X = np.unique(X, axis=0)
    share = problem.share(X)
    chosen: list[int] = []
    for wanted in np.linspace(1.0, 1.0 / most, count):
        order = [i for i in np.argsort(abs(share - wanted), kind="stable") if i not in chosen]
        chosen.append(int(order[0]))
    return space.patterns(X[chosen])


@dataclass
class Timed:
    """One evaluation of a list of candidates by a pool.

    Attributes:
        wall: seconds.
        driver: CPU seconds of the driver meanwhile.
        idle: share of the workers' seconds in which they had nothing to do.
        worker: worker seconds.
    """

    wall: float
    driver: float
    idle: float
    worker: float


def timed(pool: RayEvaluator, patterns: Sequence[Pattern], journal: Journal | None = None) -> Timed:
    """Returns what it takes a pool whose workers are all there to evaluate candidates."""
    before = [(slot.work.seconds, slot.work.available) for slot in pool.slots]
    wall, driver = time.perf_counter(), time.process_time()
    for evaluation in pool.evaluate(Request(patterns)):
        if journal is not None:
            journal.append([evaluation.to_json()])
    wall, driver = time.perf_counter() - wall, time.process_time() - driver
    spent = sum(s.work.seconds - a for s, (a, _) in zip(pool.slots, before, strict=True))
    return Timed(wall, driver, 1 - spent / (wall * len(pool.slots)), spent)


def ready(spec: WorkerSpec, problem: Problem, count: int) -> RayEvaluator:
    """Returns a pool whose workers have all evaluated something."""
    space = problem.space
    # Two pools stand side by side: what Ray sets aside for them must not be all there is.
    demand = Demand(count, num_cpus=0.2)
    pool = RayEvaluator(spec, demand, lambda some: problem.share(space.encode(some)))
    while len(pool.pids) < count or not all(slot.work.candidates for slot in pool.slots):
        list(pool.evaluate(Request([space.dense] * (2 * count))))
    return pool


Pools = Callable[[int], RayEvaluator]


def medians(runs: Sequence[Timed]) -> dict[str, float]:
    """Returns the median of each number."""
    names = ("wall", "driver", "idle", "worker")
    return {name: statistics.median(getattr(run, name) for run in runs) for name in names}


def throughput(pools: Pools, problem: Problem, size: Size) -> dict[str, Any]:
    """Returns how much faster two workers are than one, and what the driver takes of it."""
    patterns = spread(problem, size.candidates, 1.5)
    runs: dict[int, list[Timed]] = {1: [], 2: []}
    for _ in range(size.repeats):
        for count in runs:
            runs[count].append(timed(pools(count), patterns))
    one, two = medians(runs[1]), medians(runs[2])
    return {
        "candidates": len(patterns),
        "ms_a_candidate_of_one_worker": 1000 * one["worker"] / len(patterns),
        "candidates_per_s": {1: len(patterns) / one["wall"], 2: len(patterns) / two["wall"]},
        "speedup_of_two": one["wall"] / two["wall"],
        "driver_cpu_share_of_wall": {
            1: one["driver"] / one["wall"],
            2: two["driver"] / two["wall"],
        },
    }


def idle(pools: Pools, problem: Problem, size: Size) -> dict[str, Any]:
    """Returns the share of two workers' seconds that is idle where costs are spread tenfold."""
    patterns = spread(problem, size.candidates, 10.0)
    share = problem.share(problem.space.encode(patterns))
    runs = [timed(pools(2), patterns) for _ in range(size.repeats)]
    return {
        "candidates": len(patterns),
        "spread_of_flops": float(share.max() / share.min()),
        "idle_share": statistics.median(run.idle for run in runs),
    }


def dispatch(pools: Pools, problem: Problem, size: Size, out: Path) -> dict[str, Any]:
    """Returns what a candidate takes beside its evaluation, with one worker, in milliseconds."""
    patterns = spread(problem, size.candidates, 50.0)[-1:] * (4 * size.candidates)
    found: dict[str, list[float]] = {"without_journal": [], "with_journal": []}
    with Journal.open(out / f"journal-{time.time_ns()}.jsonl", {}) as journal:
        for _ in range(size.repeats):
            for name, file in (("without_journal", None), ("with_journal", journal)):
                run = timed(pools(1), patterns, file)
                found[name].append(1000 * (run.wall - run.worker) / len(patterns))
    return {f"ms_{name}": statistics.median(times) for name, times in found.items()}


def proportional(pids: Sequence[int]) -> int:
    """Returns Σ PSS of processes in bytes: what they share is counted once among them."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += 1024 * int(line.split()[1])
    return total


def memory(out: Path, size: Size) -> dict[str, Any]:
    """Returns how Σ PSS grows with the model's file, over workers that have run all of it."""
    found, files = {}, {}
    for name, hidden in (("tiny", 64), ("large", size.large_hidden)):
        spec, problem = prepared(out, llama(out / name, hidden, size.large_layers), 4)
        files[name] = (Path(spec.folder) / "ranks" / "base.safetensors").stat().st_size
        gc.collect()  # what this process still maps would be counted as shared
        pool = ready(spec, problem, size.large_workers)
        try:
            found[name] = proportional(pool.pids)
        finally:
            pool.close()
    growth = found["large"] - found["tiny"]
    return {
        "workers": size.large_workers,
        "file_bytes": files["large"],
        "growth_of_pss_bytes": growth,
        "growth_over_file": growth / (files["large"] - files["tiny"]),
    }


def kept(out: Path, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Returns a part that was measured before, or measures and keeps it."""
    path = out / f"{name}.json"
    if not path.is_file():
        began = time.perf_counter()
        found = measure()
        write_atomically(path, json.dumps(found, indent=1) + "\n")
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return dict(json.loads(path.read_text()))


def of_speed(out: Path, size: Size, wanted: Sequence[str]) -> dict[str, Any]:
    """Returns the parts that time candidates; they share their pools."""
    spec, problem, seconds = timed_run(out, size)
    made: dict[int, RayEvaluator] = {}

    def pools(count: int) -> RayEvaluator:
        if count not in made:
            made[count] = ready(spec, problem, count)
        return made[count]

    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "throughput": lambda: throughput(pools, problem, size),
        "idle": lambda: idle(pools, problem, size),
        "dispatch": lambda: dispatch(pools, problem, size, out),
    }
    try:
        found = {name: kept(out, name, measures[name]) for name in wanted}
    finally:
        for pool in reversed(made.values()):  # the first one started Ray
            pool.close()
    return {"dense_seconds_here": seconds, **found}


PARTS = ("throughput", "idle", "dispatch", "memory")


def main() -> None:
    """Measures, prints and writes OUT/results.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder for models and runs")
    parser.add_argument("--small", action="store_true", help="only show that it works")
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    options = parser.parse_args()
    size = SMALL if options.small else FULL
    name = "small" if options.small else "full"
    out = options.out / name
    out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"size": name}
    speed = [part for part in options.only if part != "memory"]
    if speed:
        result |= of_speed(out, size, speed)
    if "memory" in options.only:
        result["memory"] = kept(out, "memory", lambda: memory(out, size))
    print(json.dumps(result, indent=1))
    write_atomically(options.out / f"results-{name}.json", json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
