"""Whether ``plan`` tells the truth: its total beside the wall time of the run it foretells.

    python experiments/benchmarks/plan_vs_run/measure.py OUT.json CONFIG... [-- key=value ...]

Each configuration is planned, searched from an empty folder, and planned again, one after another,
so that a machine that others use as well is alike for all three; its load is written down beside
each. The figure is the mean of both plans over the run.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def timed(*arguments: str) -> tuple[str, float]:
    """Returns what an evoprune command printed, and its seconds."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "evoprune.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout, time.perf_counter() - began


def seconds(words: str) -> float:
    """Returns the seconds of a duration as ``plan`` prints it: ``about 3 min``."""
    found = re.search(r"about (?:\d+ times )?([\d.]+) (s|min|h)\b", words)
    assert found, words
    return float(found[1]) * UNITS[found[2]]


def plan(config: str, changes: list[str]) -> dict[str, float]:
    """Returns the seconds of every phase of a plan, its total and the load before it."""
    load = os.getloadavg()[0]
    said, _ = timed("plan", config, *changes)
    rows = [line.split("  ", 1) for line in said.splitlines()[1:]]
    found = {row[0]: seconds(row[1]) for row in rows if "about" in row[-1] and row[0] != "disk"}
    return {**found, "load": load}


def compare(config: str, changes: list[str]) -> dict[str, object]:
    """Returns both plans of a configuration, and what its run took by phase."""
    before = plan(config, changes)
    with tempfile.TemporaryDirectory() as scratch:
        load = os.getloadavg()[0]
        said, wall = timed("search", config, *changes, f"output={Path(scratch) / 'run'}")
    phases: dict[str, float] = {}
    for name, took in re.findall(r"^time +(\S+) ([\d.]+) s", said, re.M):
        phases[name] = phases.get(name, 0.0) + float(took)
    after = plan(config, changes)
    mean = (before["TOTAL"] + after["TOTAL"]) / 2
    run = {**phases, "wall": wall, "load": load}
    return {"config": config, "ratio": mean / wall, "run": run, "plans": [before, after]}


def main() -> None:
    """Compares every configuration and writes what came of it."""
    arguments, changes = sys.argv[1:], []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, changes = arguments[:at], arguments[at + 1 :]
    target, *configs = arguments
    found = []
    for config in configs:
        found.append(compare(config, changes))
        wall = found[-1]["run"]["wall"]  # type: ignore[index]
        print(f"{config}: run {wall:.0f} s, plan / run {found[-1]['ratio']:.2f}", flush=True)
        Path(target).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
