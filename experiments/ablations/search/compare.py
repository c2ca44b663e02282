r"""What each part of a search is worth: one is changed at a time, at equal dense-equivalent tokens.

Searches are replayed from the journal of an exhaustive run, which answers everything; with rungs
in that run, they can be compared as well:

    evoprune search experiments/quickstart/config.yaml search.algorithm=exhaustive \
        search.n_eval=4096 controls=[] export.picks=[] output=runs/exhaustive \
        rungs='[{samples: 8, keep: 0.9999}, {samples: 48}]'
    python experiments/ablations/search/compare.py runs/exhaustive

What a warm start evaluates counts. A share is hypervolume over that of the true front, in the
fixed box; the difference is paired by seed, with a 95 % bootstrap interval.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from evoprune.config.parts import build
from evoprune.config.sections import Part
from evoprune.core.files import write_atomically
from evoprune.core.pareto import hypervolume
from evoprune.core.registry import ALGORITHMS
from evoprune.folder.layout import RunFolder
from evoprune.progress.console import Console
from evoprune.searching.archive import Archive
from evoprune.searching.budget import Budget, Rung
from evoprune.searching.loop import box, search
from evoprune.searching.values import objectives
from evoprune.searching.warm import Allowance, add_known, warmed
from evoprune.session import Session, open_session

HERE = Path(__file__).parent
USUAL = ("dense", "uniform", "last_k")


@dataclass(frozen=True)
class Variant:
    """One way to search.

    Attributes:
        algorithm: its type and options.
        starts: the warm starts.
        keep: shares that go on from each rung but the last; none for the top rung only.
    """

    algorithm: Mapping[str, Any] = field(default_factory=lambda: {"type": "surrogate_nsga2"})
    starts: tuple[str, ...] = USUAL
    keep: tuple[float, ...] = ()


NSGA2 = {"type": "nsga2", "pop_size": 16}
VARIANTS: Mapping[str, Variant] = {
    "surrogate_nsga2": Variant(),
    "nsga2": Variant(NSGA2),
    "random": Variant({"type": "random"}),
    "surrogate, no warm starts": Variant(starts=()),
    "surrogate, + block_influence": Variant(starts=(*USUAL, "block_influence")),
    "surrogate, + cka": Variant(starts=(*USUAL, "cka")),
    "surrogate, + additive": Variant(starts=(*USUAL, "additive")),
    "surrogate, + greedy": Variant(starts=(*USUAL, "greedy")),
    "surrogate, rung keeps 1/4": Variant(keep=(0.25,)),
    "surrogate, rung keeps 1/2": Variant(keep=(0.5,)),
    "nsga2, no warm starts": Variant(NSGA2, starts=()),
    "nsga2, + block_influence": Variant(NSGA2, (*USUAL, "block_influence")),
    "nsga2, + additive": Variant(NSGA2, (*USUAL, "additive")),
    "nsga2, two-point crossover": Variant({**NSGA2, "crossover": "two_point"}),
    "nsga2, rung keeps 1/4": Variant(NSGA2, keep=(0.25,)),
    "nsga2, rung keeps 1/2": Variant(NSGA2, keep=(0.5,)),
}
# Each is compared with the variant that it changes.
BASES = {name: ("nsga2" if name.startswith("nsga2") else "surrogate_nsga2") for name in VARIANTS}


def opened(path: Path) -> Session:
    """Returns the session of an exhaustive run, its blocks compared for the warm starts."""
    config = RunFolder.existing(path).load()
    changes = {"output": str(path), "controls": ("block_influence",)}
    return open_session(config.model_copy(update=changes), Console(stream=None))


class Replay:
    """An exhaustive run whose journal answers searches.

    Args:
        session: of the run.
        names: the objectives to search by.
    """

    def __init__(self, session: Session, names: Sequence[str]) -> None:
        def refuse() -> Any:
            raise SystemExit(f"{session.folder.path} does not hold what a search asks for.")

        self._session = session
        self.archive = Archive(session.journal, refuse)
        self.archive.event = lambda name, **details: None  # nothing is written
        measures = session.problem.measures
        self.problem = replace(session.problem, objectives={n: measures[n] for n in names})
        known = [e for e in self.archive.evaluations("search") if e.rung == -1 and not e.error]
        X = self.problem.space.encode([e.pattern for e in known])
        self._box = box(self.problem, self.archive, -1)
        self._whole = self._volume(objectives(self.problem, X, known))
        self.dense = self.archive.get([self.problem.space.dense])[0].tokens

    def _volume(self, F: np.ndarray) -> float:
        return hypervolume(F, self._box.reference, self._box.ideal)

    def share(self, variant: Variant, passes: float, seed: int) -> float:
        """Returns the share of the true hypervolume that a search finds.

        Args:
            variant: how it searches.
            passes: dense passes that it may take.
            seed: of the search.
        """
        algorithm = build(ALGORITHMS, Part.model_validate(dict(variant.algorithm)))
        rungs = self._rungs(variant.keep)
        budget = Budget(tokens=passes * self.dense)
        pop_size = getattr(algorithm, "pop_size", 24)
        rules = max(1, len([name for name in variant.starts if name != "dense"]))
        warm = warmed(
            self.problem,
            self.archive,
            variant.starts,
            max(1, pop_size // 3 // rules),
            Allowance.of(budget, pop_size),
            [rung.index for rung in rungs],
        )
        stepper = algorithm.begin(self.problem, warm.X, seed)
        found = search(self.problem, stepper, self.archive, budget, rungs, spent=warm.spent)
        add_known(found, self.archive, warm, rungs[-1].index)
        return self._volume(found.F) / self._whole

    def _rungs(self, keep: Sequence[float]) -> tuple[Rung, ...]:
        ladder = self._session.rungs
        if not keep:
            return (ladder[-1],)
        if len(keep) != len(ladder) - 1:
            raise SystemExit("The run has other rungs; leave those variants out by --variants.")
        return (
            *(replace(rung, keep=share) for rung, share in zip(ladder[:-1], keep, strict=True)),
            ladder[-1],
        )


def compared(
    replay: Replay, names: Sequence[str], budgets: Sequence[float], seeds: int
) -> list[dict[str, Any]]:
    """Returns a row for each budget and variant."""
    rows = []
    for passes in budgets:
        shares = {
            name: np.array([replay.share(VARIANTS[name], passes, s) for s in range(seeds)])
            for name in names
        }
        for name, found in shares.items():
            row = {"dense passes": passes, "variant": name, "share": found.tolist()}
            if BASES[name] != name and BASES[name] in shares:
                difference = found - shares[BASES[name]]
                row |= {"difference": float(difference.mean()), "interval": interval(difference)}
            rows.append(row)
    return rows


def interval(values: np.ndarray) -> list[float]:
    """Returns the 95 % bootstrap interval of a mean."""
    draws = np.random.default_rng(0).integers(0, len(values), (10_000, len(values)))
    return [float(v) for v in np.quantile(values[draws].mean(axis=1), [0.025, 0.975])]


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the rows as a Markdown table, and an alarm where two variants did the same."""
    lines = ["| dense passes | variant | share of HV* | difference [95 %] |", "|---|---|---|---|"]
    seen: dict[tuple[Any, ...], str] = {}
    alarms = []
    for row in rows:
        change = ""
        if "interval" in row:
            low, high = row["interval"]
            change = f"{row['difference']:+.4f} [{low:+.4f}, {high:+.4f}]"
        share = float(np.mean(row["share"]))
        lines.append(f"| {row['dense passes']:g} | {row['variant']} | {share:.4f} | {change} |")
        key = (row["dense passes"], *row["share"])
        # All may have found the whole front.
        if key in seen and share < 1:
            alarms.append(f"ALARM: identical: {seen[key]}, {row['variant']}")
        seen[key] = row["variant"]
    return [*lines, *alarms]


def main() -> None:
    """Prints a table for each run and set of objectives, and writes all rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="+", help="folders of exhaustive runs")
    parser.add_argument("--objectives", nargs="*", default=[], help="such as kl,params")
    parser.add_argument("--passes", type=float, nargs="+", default=[60, 120])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    given = parser.parse_args()
    results = []
    with threadpool_limits(1):
        for path in given.runs:
            session = opened(path)
            try:
                for names in given.objectives or [",".join(session.problem.objectives)]:
                    replay = Replay(session, names.split(","))
                    rows = compared(replay, given.variants, given.passes, given.seeds)
                    print(f"\n### {path.name}: {names}\n", *table(rows), sep="\n", flush=True)
                    results.append({"run": path.name, "objectives": names, "rows": rows})
            finally:
                session.close()
    write_atomically(given.out, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
