"""What it takes to evaluate candidates of a model that does not fit where it is run.

    python experiments/benchmarks/streaming/measure.py OUT --prepare
    systemd-run --scope -p MemoryMax=1200M -p MemorySwapMax=0 \
        python experiments/benchmarks/streaming/measure.py OUT

The first writes a random Llama and a run folder; the second evaluates the same candidates with the
model mapped and candidate after candidate, and streamed, in turn, each in a process of its own. On
a CPU a block is fetched by reading it from disk, unless memory is large enough to keep it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from evoprune.config.schema import load_config
from evoprune.core.files import write_atomically
from evoprune.evaluation.worker import Worker, WorkerSpec
from evoprune.progress.console import Console
from evoprune.session import open_session
from evoprune.testing import tiny_decoder

PLACES = {"mapped": None, "streamed": "streamed"}
ROUNDS = 2


def prepared(out: Path, layers: int, hidden: int) -> None:
    """Writes the model and a run folder that is ready to search, and what its workers need."""
    model = tiny_decoder(out / "model", layers=layers, heads=(16, 4), hidden=hidden)
    words = np.random.default_rng(0).choice(list("abcdefgh"), (60, 100))
    texts = out / "texts.jsonl"
    texts.write_text("".join(json.dumps({"text": "".join(row)}) + "\n" for row in words))
    session = open_session(
        load_config(
            {
                "model": {"name_or_path": str(model)},
                "data": {"type": "jsonl", "files": [str(texts)], "chunk_tokens": 64},
                "calibration": {"samples": 8, "clusters": 2, "pool": 8},
                "space": "decoder/depth",
                "objectives": ["kl", "params"],
                "search": {"n_eval": 1},
                "validation": {"samples": 2},
                "report": {"samples": 2},
                "workers": {"backend": "local"},
                "output": str(out / "run"),
            }
        ),
        Console(),
    )
    session.close()
    write_atomically(out / "spec.json", json.dumps(asdict(session.spec)) + "\n")


def measured(out: Path, place: str, candidates: int) -> dict[str, Any]:
    """Returns seconds, bytes read from disk and values of random candidates, in this process."""
    spec = json.loads((out / "spec.json").read_text())
    worker = Worker(WorkerSpec(**{**spec, "device_map": PLACES[place]}))
    space = worker.space
    X = np.random.default_rng(0).random((candidates, space.n_var)) < 0.5
    patterns = space.patterns(X.astype(np.int64))
    with (out / "run/ranks/base.safetensors").open("rb") as base:
        os.posix_fadvise(base.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before, began = _read(), time.perf_counter()
    found = worker.evaluate_batch(patterns)
    return {
        "place": place,
        "seconds": time.perf_counter() - began,
        "read": _read() - before,
        "blocks_run": worker.runner.prefixes.executed,
        "values": [one.values["kl"] for one in found],
    }


def _read() -> int:
    """Returns the bytes that this process caused to be read from disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


def main() -> None:
    """Prepares, or compares both ways."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--hidden", type=int, default=1536)
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--place", choices=list(PLACES), help="measure one way and print it")
    options = parser.parse_args()
    if options.prepare:
        prepared(options.out, options.layers, options.hidden)
        return
    if options.place:
        print(json.dumps(measured(options.out, options.place, options.candidates)))
        return
    rows = []
    for _ in range(ROUNDS):
        for place in PLACES:
            command = [sys.executable, *sys.argv, "--place", place]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            seconds, read = rows[-1]["seconds"], rows[-1]["read"] / 1e9
            print(f"{place:9s} {seconds:7.1f} s {read:7.2f} GB read", flush=True)
    assert len({tuple(row.pop("values")) for row in rows}) == 1, "values differ"
    write_atomically(options.out / "results.json", json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
