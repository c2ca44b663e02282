"""Run in a process of its own: the memory that evaluating candidates takes beyond being ready."""

import json
import sys
from pathlib import Path

from evoprune.evaluation.worker import Worker, WorkerSpec


def held(line: str) -> int:
    """Returns bytes that this process holds now (VmRSS), or held at most (VmHWM)."""
    status = Path("/proc/self/status").read_text()
    return next(int(x.split()[1]) << 10 for x in status.splitlines() if x.startswith(line))


worker = Worker(WorkerSpec(**json.loads(sys.argv[1])))
space = worker.space
worker.evaluate(space.dense)
Path("/proc/self/clear_refs").write_text("5")  # the most that is held counts from now on
before = held("VmRSS")
rows = [[(i >> j) & 1 for j in range(space.n_var)] for i in range(2**space.n_var)]
worker.evaluate_batch(space.patterns(rows))
print(json.dumps({"grown": held("VmHWM") - before, "kept": worker.runner.prefixes.bytes}))
