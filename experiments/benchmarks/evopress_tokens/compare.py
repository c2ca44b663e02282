"""How many tokens it takes to prune sub-blocks as well as EvoPress' and EvoP's searches do.

    python experiments/benchmarks/evopress_tokens/compare.py runs/tokens
    python experiments/benchmarks/evopress_tokens/compare.py runs/tokens_other \
        --model MODEL --documents MODEL/documents.jsonl

At each sparsity, exactly so many attentions and so many MLPs are removed. `one_plus_lambda` and
`evop` search as their codes do; `surrogate_nsga2` gets a third of the tokens of the former, and
learns from a quarter of the examples before it pays for all. Then
one search for the whole front (KL against parameters) gets the tokens of two runs of it. All of a
model share one run folder, whose journal answers what any of them asked before: that saves time,
and no search is credited with it. Killed at any moment, the same command goes on.
"""

import argparse
import csv
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

from evoprune.config.schema import load_config
from evoprune.core.constraints import parse_constraints
from evoprune.core.costs import CostTable
from evoprune.core.files import write_atomically
from evoprune.core.protocols import Evaluation
from evoprune.core.space import Space
from evoprune.progress.console import Console
from evoprune.searching.budget import Budget, Rung, per_candidate
from evoprune.searching.evop import Evop
from evoprune.searching.evopress import OnePlusLambda
from evoprune.searching.loop import Progress, search
from evoprune.searching.problem import Problem
from evoprune.searching.surrogate import SurrogateNsga2
from evoprune.session import Session, open_session

HERE = Path(__file__).resolve().parent
KINDS = ("attn", "mlp")
SHARES = (1 / 4, 1 / 3, 5 / 12, 1 / 2)
STAGED, FULL = (Rung(0, 1 / 16), Rung(-1)), (Rung(-1),)
# The surrogate looks at a quarter of the examples first; what goes on has only the rest measured.
LOOKS = (Rung(0, 1 / 4), Rung(-1, grows=True))
# EvoPress' tokens over those of a search at one sparsity, and how many runs the front may cost.
FEWER, RUNS = 3, 2
EXACT = ("one_plus_lambda", "evop", "surrogate_nsga2")
FRONT = "surrogate_nsga2, front"
FRONT_EXACT = "surrogate_nsga2, front, same counts"
COLUMNS = (
    "model",
    "seed",
    "algorithm",
    "share",
    "attn",
    "mlp",
    "n_eval",
    "tokens",
    "search_kl",
    "val_kl",
    "params",
    "tokens_to_match",
    "pattern",
)


@dataclass(frozen=True)
class Removed:
    """How many sites of one kind are dropped."""

    kind: str
    goal: ClassVar[str] = "max"
    unit: ClassVar[str] = "sites"
    deterministic: ClassVar[bool] = True

    def costs(self, table: CostTable, space: Space, X: np.ndarray) -> np.ndarray:
        """Returns it for each candidate of ``X`` (P, n_var), float64 (P,)."""
        of_kind = [space.sites[gene.sites[0]].kind == self.kind for gene in space.genes]
        return np.asarray(X[:, of_kind].sum(axis=1), dtype=np.float64)


@dataclass(frozen=True)
class Counts:
    """A sparsity: how many of each kind are removed; an odd total takes one attention more."""

    share: float
    attn: int
    mlp: int
    blocks: int

    @classmethod
    def of(cls, share: float, blocks: int) -> "Counts":
        """Returns the counts of a share of all sub-blocks."""
        total = round(share * 2 * blocks)
        return cls(share, (total + 1) // 2, total // 2, blocks)

    @property
    def generations(self) -> int:
        """EvoPress' rule, k·(n − k)/1.5 with k the mean of the two counts, after the first 64."""
        k = (self.attn + self.mlp) / 2
        return 1 + math.ceil(k * (self.blocks - k) / 1.5)


@dataclass(frozen=True)
class Found:
    """What a search found: the best of each size at its end, and how it came there.

    Attributes:
        progress: patterns and objectives.
        trail: tokens spent and the least KL, after each generation.
    """

    progress: Progress
    trail: tuple[tuple[float, float], ...]

    @property
    def best(self) -> int:
        """The pattern of least KL."""
        return int(self.progress.F[:, 0].argmin())


def exactly(problem: Problem, counts: Counts) -> Problem:
    """Returns the search for the least KL with so many of each kind removed."""
    measures: dict[str, Any] = dict(problem.measures)
    bounds = {}
    for kind in KINDS:
        measures |= {f"least_{kind}": Removed(kind), f"most_{kind}": Removed(kind)}
        bounds[f"least_{kind}"] = f">={getattr(counts, kind)}"
        bounds[f"most_{kind}"] = f"<={getattr(counts, kind)}"
    objectives = {"kl": problem.objectives["kl"]}
    constraints = parse_constraints(bounds)
    return replace(problem, objectives=objectives, constraints=constraints, measures=measures)


def example(problem: Problem, counts: Counts) -> np.ndarray:
    """Returns a candidate with the counts (1, n_var): its costs are those of all with them."""
    x = np.zeros((1, problem.space.n_var), dtype=np.int64)
    for kind in KINDS:
        genes = problem.space.genes
        here = [i for i, g in enumerate(genes) if problem.space.sites[g.sites[0]].kind == kind]
        x[0, here[: getattr(counts, kind)]] = 1
    return x


def ran(
    session: Session,
    problem: Problem,
    algorithm: Any,
    seed: int,
    budget: Budget,
    rungs: Sequence[Rung] = FULL,
) -> Found:
    """Returns what an algorithm found."""
    trail: list[tuple[float, float]] = []

    def observe(progress: Progress, evaluation: Evaluation | None) -> None:
        if evaluation is None and progress.rows:
            least = min(float(row[0]) for row in progress.rows)
            trail.append((progress.tokens, least))

    stepper = algorithm.begin(problem, problem.space.corners[:0], seed)
    found = search(problem, stepper, session.archive, budget, rungs, observe)
    return Found(found, tuple(trail))


def row(
    session: Session, found: Found, at: int, counts: Counts, named: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns a row of the CSV file: one pattern, its KL on validation."""
    pattern = found.progress.patterns[at]
    validation = session.archive.get([pattern], "validation")[0]
    X = session.problem.space.encode([pattern])
    return {
        **named,
        "share": counts.share,
        **{
            kind: int(Removed(kind).costs(session.problem.table, session.problem.space, X)[0])
            for kind in KINDS
        },
        "n_eval": found.progress.n_eval,
        "tokens": found.progress.tokens,
        "search_kl": float(found.progress.F[at, 0]),
        "val_kl": validation.values["kl"],
        "params": float(session.problem.cost("params", X)[0]),
        "pattern": json.dumps(pattern.to_json(), separators=(",", ":")),
    }


def reached(found: Found, kl: float) -> float:
    """Returns the tokens after which a search knew a pattern of at most this KL; nan if never."""
    return next((tokens for tokens, least in found.trail if least <= kl), math.nan)


def at_one_sparsity(
    session: Session, counts: Counts, named: Mapping[str, Any], sizes: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Returns a row for each search at one sparsity; EvoPress first, the yardstick."""
    made, seed = exactly(session.problem, counts), named["seed"]
    evopress = OnePlusLambda(initial=sizes["initial"], offspring=sizes["offspring"])
    ends = Budget(n_gen=min(counts.generations, sizes["n_gen"]))
    base = ran(session, made, evopress, seed, ends, STAGED)
    evop = Evop(pop_size=sizes["pop_size"], n_gen=sizes["n_gen"])
    plain = ran(session, made, evop, seed, Budget(n_gen=sizes["n_gen"]))
    ours = with_less(session, counts, seed, base.progress.tokens / FEWER)
    rows = []
    for name, found in zip(EXACT, (base, plain, ours), strict=True):
        entry = row(session, found, found.best, counts, {**named, "algorithm": name})
        kl = float(base.progress.F[base.best, 0])
        rows.append({**entry, "tokens_to_match": reached(found, kl)})
    return rows


def with_less(session: Session, counts: Counts, seed: int, tokens: float) -> Found:
    """Returns what the surrogate finds with at most so many tokens, where that is enough to begin.

    A generation that has begun is finished, so the last one must end before the budget does.
    """
    algorithm = SurrogateNsga2()
    made = exactly(session.problem, counts)
    # All patterns with these counts cost the same.
    one = made.space.patterns(example(made, counts))
    each = [session.archive.get(one, rung=rung.index)[0].tokens for rung in LOOKS]
    last = algorithm.batch * per_candidate(LOOKS, each)
    return ran(session, made, algorithm, seed, Budget(tokens=max(1.0, tokens - last)), LOOKS)


def front(
    session: Session, sparsities: Sequence[Counts], tokens: float, named: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Returns rows of one search for the whole front: at no more parameters, at equal counts.

    It looks at the range of sparsities that is asked for, from dense to the last.
    """
    problem = session.problem
    limits = [float(problem.cost("params", example(problem, one))[0]) for one in sparsities]
    bound = parse_constraints({"params": f">={min(limits):.0f}"})
    made, algorithm = replace(problem, constraints=bound), SurrogateNsga2()
    # A generation that has begun is finished, so the last one must end before the budget does.
    dense = session.archive.get([problem.space.dense])[0]
    most = tokens - algorithm.batch * dense.tokens
    found = ran(session, made, algorithm, named["seed"], Budget(tokens=max(most, 1.0)))
    X = problem.space.encode(found.progress.patterns)
    kl, params = found.progress.F[:, 0], found.progress.F[:, 1]
    removed = {kind: Removed(kind).costs(problem.table, problem.space, X) for kind in KINDS}
    rows = []
    for counts, limit in zip(sparsities, limits, strict=True):
        same = (removed["attn"] == counts.attn) & (removed["mlp"] == counts.mlp)
        for name, fits in ((FRONT, params <= limit + 0.5), (FRONT_EXACT, same)):
            if fits.any():
                at = int(np.flatnonzero(fits)[kl[fits].argmin()])
                label = {**named, "algorithm": name}
                rows.append({**row(session, found, at, counts, label), "tokens_to_match": math.nan})
    return rows


def seed_rows(session: Session, seed: int, model: str, sizes: Mapping[str, int]) -> list[dict]:
    """Returns all rows of one seed."""
    kinds = [session.problem.space.sites[g.sites[0]].kind for g in session.problem.space.genes]
    sparsities = [Counts.of(share, kinds.count("mlp")) for share in SHARES]
    named = {"model": model, "seed": seed}
    rows = [one for c in sparsities for one in at_one_sparsity(session, c, named, sizes)]
    own = [one["tokens"] for one in rows if one["algorithm"] == EXACT[0]]
    return rows + front(session, sparsities, RUNS * float(np.mean(own)), named)


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Returns a mean and its 95 % interval by Student's t; nan where there is one value only."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return mean, mean - half, mean + half


def shown(values: Sequence[float], digits: int) -> str:
    """Returns a mean with its interval, if it has one."""
    mean, low, high = values
    if math.isnan(low):
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the table in Markdown; ratios are to EvoPress of the same seed, geometric means."""
    lines = [
        "| removed (attn, mlp) | algorithm | tokens | validation KL | KL / EvoPress' "
        "| tokens / EvoPress' | tokens to its search KL / all of its |",
        "|---|---|---|---|---|---|---|",
    ]
    for share in SHARES:
        here = [one for one in rows if one["share"] == share]
        base = {one["seed"]: one for one in here if one["algorithm"] == EXACT[0]}
        for name in (*EXACT, FRONT, FRONT_EXACT):
            mine = [one for one in here if one["algorithm"] == name]
            if not mine:
                continue
            kl = interval([one["val_kl"] for one in mine])
            logs = [math.log(one["val_kl"] / base[one["seed"]]["val_kl"]) for one in mine]
            ratio = [math.exp(v) for v in interval(logs)]
            tokens = np.mean([one["tokens"] for one in mine])
            spent = np.mean([one["tokens"] / base[one["seed"]]["tokens"] for one in mine])
            known = [one["tokens_to_match"] / base[one["seed"]]["tokens"] for one in mine]
            matched = [value for value in known if not math.isnan(value)]
            match = f"{np.mean(matched):.2f} ({len(matched)} of {len(mine)})" if matched else "–"
            counts = (
                f"{share:.1%} ({base[mine[0]['seed']]['attn']}, {base[mine[0]['seed']]['mlp']})"
            )
            lines.append(
                f"| {counts} | {name} | {tokens:,.0f} | {shown(kl, 4)} | "
                f"{shown(ratio, 3)} | {spent:.2f} | {match} |"
            )
    return lines


def plot(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Draws validation KL against tokens, a panel for each sparsity."""
    plt.rcParams.update({"font.size": 9, "svg.hashsalt": "evoprune", "font.family": "sans-serif"})
    figure, panels = plt.subplots(1, len(SHARES), figsize=(11, 3.2), layout="constrained")
    styles = dict(
        zip((*EXACT, FRONT), ("s#d55e00", "v#999999", "o#0072b2", "D#009e73"), strict=True)
    )
    for axes, share in zip(panels, SHARES, strict=True):
        for name, style in styles.items():
            mine = [one for one in rows if one["share"] == share and one["algorithm"] == name]
            axes.scatter(
                [one["tokens"] / 1e6 for one in mine],
                [one["val_kl"] for one in mine],
                marker=style[0],
                color=style[1:],
                s=22,
                label=name,
            )
        axes.set_title(f"{share:.1%} of the sub-blocks removed", fontsize=9)
        axes.set_xlabel("million dense-equivalent tokens")
        axes.set_xscale("log")
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("KL to the dense model (validation)")
    panels[0].legend(frameon=False, fontsize=7)
    figure.savefig(out, metadata={"Date": None})
    plt.close(figure)


def write(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Writes CSV file, table and picture."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    write_atomically(out / "table.md", "\n".join(table(rows)) + "\n")
    plot(rows, out / "tokens.svg")


def main() -> None:
    """Searches, seed by seed, and writes what is known after each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path, help="the run folder that all searches share")
    parser.add_argument("--model", help="instead of the quickstart's")
    parser.add_argument("--documents", type=Path, help="a JSON-lines file of documents for it")
    parser.add_argument("--dtype", default="float32", help="that the networks run in")
    parser.add_argument("--label", default="quickstart", help="what the model is called")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tiny", action="store_true", help="a few candidates, to see that it runs")
    parser.add_argument("--out", type=Path, help="by default beside the journal, in results/")
    options = parser.parse_args()
    changes: dict[str, Any] = {
        "output": str(options.run),
        "workers.count": options.workers,
        "model.dtype": options.dtype,
    }
    if options.model:
        changes["model.name_or_path"] = options.model
    if options.documents:
        changes["data"] = {
            "type": "jsonl",
            "files": [str(options.documents)],
            "kind_field": "domain",
        }
    sizes = {"initial": 64, "offspring": 32, "pop_size": 50, "n_gen": 100}
    if options.tiny:
        sizes = {"initial": 8, "offspring": 6, "pop_size": 4, "n_gen": 2}
    session = open_session(load_config(HERE / "config.yaml", changes), Console())
    rows: list[dict[str, Any]] = []
    try:
        for seed in range(options.seeds):
            began = time.monotonic()
            rows += seed_rows(session, seed, options.label, sizes)
            write(rows, options.out or options.run / "results")
            session.console.say(f"seed {seed}: {time.monotonic() - began:.0f} s")
    finally:
        session.close()
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
