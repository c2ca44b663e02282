"""How much of what random search misses every algorithm still misses, at equal evaluations.

Where every pattern of a space was evaluated once, searches are replayed from that journal; of
larger spaces landscapes are made up. No model runs in either:

    python experiments/benchmarks/search_gap/compare.py runs/exhaustive runs/another --budgets 0.1
    python experiments/benchmarks/search_gap/compare.py --landscapes widths48 bits512

The normalised gap is (HV* − HV) / (HV* − HV of stratified random search at the same budget): 0 is
the true front, 1 is no better than random.
"""

import argparse
import csv
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from drawing import figure
from spaces import SPACES, Subject, journal, landscape, opened, sets
from threadpoolctl import threadpool_limits

from evoprune.config.parts import build
from evoprune.config.sections import Part
from evoprune.core.registry import ALGORITHMS

# The population of 16 was chosen for nsga2 on the quickstart's depth space (see ../depth_truth).
OPTIONS: Mapping[str, dict[str, Any]] = {name: {"pop_size": 16} for name in ("nsga2", "smsemoa")}
YARDSTICK = "random"
# `exhaustive` is no search, and rules that go by block states need a network.
EVERY = [
    YARDSTICK,
    *sorted(
        name
        for name in set(ALGORITHMS.names()) - {YARDSTICK, "exhaustive"}
        if not getattr(ALGORITHMS.load(name), "needs_blocks", False)
    ),
]
POINTS = 12


@dataclass(frozen=True)
class Trace:
    """One search of one subject.

    Attributes:
        F: objectives of what it evaluated, in order (P, M).
        tokens: dense-equivalent tokens spent until then (P,).
        overhead: the algorithm's processor seconds over the seconds that the evaluations took.
        seconds: the algorithm's processor seconds.
        notes: what the algorithm says of itself.
    """

    F: np.ndarray
    tokens: np.ndarray
    overhead: float
    seconds: float
    notes: str


def searched(subject: Subject, name: str, seed: int, n_eval: int) -> Trace:
    """Returns the trace of an algorithm with its default options."""
    algorithm = build(ALGORITHMS, Part(type=name, options=OPTIONS.get(name, {})))
    began = time.process_time()
    stepper = algorithm.begin(subject.problem, subject.starts, seed)
    own, told, count = time.process_time() - began, [], 0
    while count < n_eval:
        began = time.process_time()
        X = stepper.ask()
        own += time.process_time() - began
        if X is None:
            break
        told.append(subject.score(X[: n_eval - count]))
        count += len(told[-1].F)
        if count < n_eval:
            began = time.process_time()
            stepper.tell(X, told[-1].F, told[-1].G)
            own += time.process_time() - began
    spent = sum(part.seconds.sum() for part in told)
    return Trace(
        np.concatenate([part.kept for part in told]),
        np.cumsum(np.concatenate([part.tokens for part in told])),
        own / spent if spent else float("nan"),
        own,
        "; ".join(getattr(stepper, "notes", ())),
    )


def rows_of(
    subject: Subject, traces: Mapping[str, Trace], budgets: Sequence[int], seed: int
) -> Iterator[dict[str, Any]]:
    """Yields a row per algorithm and point of its curve, of one seed.

    Where the truth is not known, the best of all these searches counts towards it.
    """
    everything = [subject.truth]
    if not subject.exact:
        everything += [trace.F for trace in traces.values()]
    whole = subject.hypervolume(np.concatenate(everything))
    for name, trace in traces.items():
        for n_eval in points(budgets):
            at = min(n_eval, len(trace.F))
            yield {
                "space": subject.name,
                "variables": subject.problem.space.n_var,
                "objectives": " ".join(subject.problem.objectives),
                "algorithm": name,
                "seed": seed,
                "n_eval": n_eval,
                "tokens": float(trace.tokens[at - 1]),
                "share": subject.hypervolume(trace.F[:at]) / whole,
                "overhead": trace.overhead,
                "own_seconds": trace.seconds,
                "notes": trace.notes,
            }


def points(budgets: Sequence[int]) -> list[int]:
    """Returns where curves are read: at the budgets, and evenly spread by ratio before them."""
    spread = np.geomspace(min(16, min(budgets)), max(budgets), POINTS).round().astype(int)
    return sorted({*spread.tolist(), *budgets})


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Returns the 95 % bootstrap interval of a mean."""
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, len(values), (10_000, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def table(rows: Sequence[Mapping[str, Any]], budgets: Sequence[int]) -> list[str]:
    """Returns the table of one subject: gaps, and the paired gain over random search."""
    lines = [
        "| evaluations | algorithm | share of HV* | gap, median (worst) | over random [95 %] "
        "| tokens | overhead |",
        "|---|---|---|---|---|---|---|",
    ]
    for n_eval in budgets:
        shares = curve(rows, "share", n_eval)
        missed = max(1.0 - shares[YARDSTICK].mean(), 1e-12)
        for name, here in shares.items():
            gaps = (1.0 - here) / missed
            gain = here - shares[YARDSTICK]
            low, high = interval(gain)
            overhead = curve(rows, "overhead", n_eval)[name].mean()
            seconds = curve(rows, "own_seconds", n_eval)[name].mean()
            spent = f"{seconds:.1f} s" if np.isnan(overhead) else f"{overhead:.1%}"
            lines.append(
                f"| {n_eval} | {name} | {here.mean():.4f} | {np.median(gaps):.3f} "
                f"({gaps.max():.3f}) | {gain.mean():+.4f} [{low:+.4f}, {high:+.4f}] "
                f"| {curve(rows, 'tokens', n_eval)[name].mean():.4g} | {spent} |"
            )
    return lines


def curve(rows: Sequence[Mapping[str, Any]], column: str, n_eval: int) -> dict[str, np.ndarray]:
    """Returns a column at a number of evaluations, by algorithm, a value for each seed."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["n_eval"] == n_eval:
            found.setdefault(row["algorithm"], []).append(row[column])
    return {name: np.array(values) for name, values in found.items()}


def alarms(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns what must not be: two algorithms that did the same in every seed all along."""
    runs: dict[tuple[float, ...], list[str]] = {}
    for name in dict.fromkeys(row["algorithm"] for row in rows):
        mine = tuple(r[c] for r in rows if r["algorithm"] == name for c in ("share", "tokens"))
        runs.setdefault(mine, []).append(name)
    return [f"ALARM: identical: {', '.join(names)}" for names in runs.values() if len(names) > 1]


def report(rows: list[dict[str, Any]], budgets: Sequence[int], out: Path) -> list[str]:
    """Prints and returns what one subject showed, and draws its figure."""
    first = rows[0]
    title = f"{first['space']}: {first['variables']} variables, {first['objectives']}"
    lines = [f"### {title}", "", *table(rows, budgets), *alarms(rows), ""]
    print("\n".join(lines), flush=True)
    name = f"{first['space']}-{len(first['objectives'].split())}.svg"
    (out / name).write_text(figure(title, rows, interval), encoding="utf-8")
    return lines


def compared(
    subjects: Mapping[int, Subject], algorithms: Sequence[str], budgets: Sequence[int]
) -> list[dict[str, Any]]:
    """Returns all rows of a space, a subject for each seed."""
    rows: list[dict[str, Any]] = []
    for seed, subject in subjects.items():
        names = dict.fromkeys([YARDSTICK, *algorithms])
        traces = {name: searched(subject, name, seed, max(budgets)) for name in names}
        rows += rows_of(subject, traces, budgets, seed)
    return rows


def main() -> None:
    """Prints the tables; writes them, every row and a figure for each space."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="*", help="folders of exhaustive runs")
    parser.add_argument("--landscapes", nargs="*", default=[], choices=list(SPACES))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--budgets", "--budget", type=float, nargs="+", default=[120, 240], help="below 1: a share"
    )
    parser.add_argument(
        "--objectives", nargs="*", default=[], help="such as kl,params kl,accuracy,params"
    )
    parser.add_argument("--counts", type=int, nargs="*", default=[2], choices=[2, 3])
    parser.add_argument("--algorithms", nargs="+", default=EVERY, choices=EVERY)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    everything: list[dict[str, Any]] = []
    lines: list[str] = []
    with threadpool_limits(1):
        for subjects, budgets in asked(options):
            rows = compared(subjects, options.algorithms, budgets)
            lines += report(rows, budgets, options.out)
            everything += rows
    with (options.out / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(everything[0]))
        writer.writeheader()
        writer.writerows(everything)
    (options.out / "tables.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if any(line.startswith("ALARM") for line in lines):
        raise SystemExit("Two algorithms did exactly the same.")


def asked(options: argparse.Namespace) -> Iterator[tuple[dict[int, Subject], list[int]]]:
    """Yields what is to be compared: a subject for each seed, and the budgets.

    A journal is the same for every seed; a landscape is drawn anew.
    """
    for path in options.runs:
        session = opened(path)
        try:
            for names in sets(session, options.objectives):
                subject = journal(session, names)
                size = len(subject.truth)
                found = {round(b * size) if b < 1 else int(b) for b in options.budgets}
                yield dict.fromkeys(range(options.seeds), subject), sorted(found)
        finally:
            session.close()
    whole = sorted(int(b) for b in options.budgets if b >= 1)
    for name in options.landscapes:
        for count in options.counts:
            yield {seed: landscape(name, seed, count) for seed in range(options.seeds)}, whole


if __name__ == "__main__":
    main()
