"""A search problem without a network: a random tree of sites, their costs, a made-up quality."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from evoprune.core.constraints import parse_constraints
from evoprune.core.costs import CostTable, Row, fixed, of_site
from evoprune.core.genes import GeneSpec, build_space
from evoprune.core.metrics import Table
from evoprune.core.pattern import Pattern
from evoprune.core.protocols import NO_HINTS, Evaluation, Goal, Hints, Request
from evoprune.core.space import Gene, Site, Space
from evoprune.folder.journal import Journal
from evoprune.searching.archive import Archive
from evoprune.searching.budget import Budget, Rung
from evoprune.searching.loop import Progress, search
from evoprune.searching.problem import Problem

HEADS, CHANNELS = 4, 6
# What lower rungs add to the harm: more than any pattern has.
LOWER = 100.0
BLOCKS = GeneSpec("block", drop=True)
PARTS = (GeneSpec("attn", drop=True), GeneSpec("mlp", drop=True))
WIDTHS = (GeneSpec("heads", keep=(0.5, 0.25)), GeneSpec("channels", keep=(0.7, 0.4)))


def sites(layers: int) -> list[Site]:
    """Returns the sites of a decoder: blocks, attention with heads, MLP with channels."""
    found = []
    for i in range(layers):
        block = f"layers.{i}"
        found += [
            Site(block, "block"),
            Site(f"{block}.attn", "attn", parent=block),
            Site(f"{block}.attn.heads", "heads", HEADS, f"{block}.attn"),
            Site(f"{block}.mlp", "mlp", parent=block),
            Site(f"{block}.mlp.channels", "channels", CHANNELS, f"{block}.mlp"),
        ]
    return found


def table(layers: int, hidden: int = 5) -> CostTable:
    """Returns the cost table of such a decoder with an embedding."""
    rows = [Row("embed", (fixed(7), fixed(hidden)), (), {"params": 1.0})]
    for i in range(layers):
        attn, mlp = f"layers.{i}.attn", f"layers.{i}.mlp"
        heads, channels = of_site(f"{attn}.heads", HEADS, 2), of_site(f"{mlp}.channels", CHANNELS)
        weights = {"params": 1.0, "flops": 2.0}
        rows += [
            Row(f"{attn}.q", (heads, fixed(hidden)), (attn,), weights),
            Row(f"{attn}.norm", (fixed(hidden),), (attn,), {"params": 1.0}),
            Row(f"{mlp}.up", (channels, fixed(hidden + i)), (mlp,), weights),
        ]
    return CostTable(tuple(rows))


def hints(layers: int) -> Hints:
    """Returns made-up measurements of such a decoder's blocks."""
    rng = np.random.default_rng(11)
    parts = tuple(f"layers.{i}.{part}" for i in range(layers) for part in ("attn", "mlp"))
    influence = dict(zip(parts, rng.uniform(0.02, 0.2, len(parts)).tolist(), strict=True))
    for i in range(layers):
        both = influence[f"layers.{i}.attn"] + influence[f"layers.{i}.mlp"]
        influence[f"layers.{i}"] = 0.8 * both
    states = np.cumsum(rng.normal(size=(len(parts), 40)), axis=0)
    lengths = np.linalg.norm(states, axis=1)
    similarity = ((states @ states.T) / np.outer(lengths, lengths)) ** 2
    scores = {s.name: rng.random(s.units) for s in sites(layers) if s.units > 1}
    return Hints(influence, parts, similarity, scores)


class Harm:
    """A quality to be minimised; the fake evaluator gives its values."""

    goal: ClassVar[Goal] = "min"
    unit: ClassVar[str] = "harm"
    deterministic: ClassVar[bool] = True
    passes: ClassVar[tuple[str, ...]] = ("clean",)

    def value(self, tables: Mapping[str, Table], dense: Mapping[str, Table]) -> float:
        """Never called: nothing is forwarded here."""
        raise AssertionError("a made-up quality was asked for its value")


class FakeEvaluator:
    """Gives every pattern a harm: per gene a weight times its level, with a bonus for pairs.

    Attributes:
        asked: every pattern it evaluated, in order, by id and rung.
    """

    def __init__(self, space: Space, fail: Sequence[str] = (), nan: Sequence[str] = ()) -> None:
        self.asked: list[tuple[str, int]] = []
        self.stop_after = 1 << 30
        self._space, self._fail, self._nan = space, set(fail), set(nan)
        rng = np.random.default_rng(7)
        self._weights = rng.uniform(0.2, 1.5, space.n_var)

    def harm(self, pattern: Pattern, rung: int) -> float:
        """Returns the harm; lower rungs shift it, so that they can be told apart."""
        x = self._space.encode([pattern])[0] / self._space.upper
        return float(self._weights @ x + 0.8 * (x[1:] * x[:-1]).sum()) + LOWER * (rung >= 0)

    def evaluate(self, request: Request) -> Iterator[Evaluation]:
        """Yields the evaluations; raises after ``stop_after`` of them, as a kill would."""
        for pattern in request.patterns:
            if len(self.asked) >= self.stop_after:
                raise RuntimeError("killed")
            self.asked.append((pattern.id, request.rung))
            yield self._one(pattern, request)

    def _one(self, pattern: Pattern, request: Request) -> Evaluation:
        place = (pattern, request.split, request.rung)
        if pattern.id in self._fail:
            return Evaluation(*place, tokens=5.0, error="it broke", failure="deterministic")
        value = np.nan if pattern.id in self._nan else self.harm(pattern, request.rung)
        return Evaluation(*place, {"harm": value}, tokens=10.0)

    def close(self) -> None:
        """Nothing is held."""


def problem(
    layers: int = 3, specs: Sequence[GeneSpec] = (BLOCKS, *PARTS), **bounds: str
) -> Problem:
    """Returns the problem: harm against parameters, with budgets such as ``params="<=70%"``."""
    space = build_space("synthetic", sites(layers), specs)
    return _traded(space, table(layers), bounds, hints(layers))


def flat(levels: Sequence[int] = (), bits: int = 0, **bounds: str) -> Problem:
    """Returns a problem of independent genes: one with each number of levels, and one of bits."""
    from evoprune.core.pattern import Keep

    units = [*(top - 1 for top in levels), *([bits] if bits else [])]
    sites = {f"s{i}": Site(f"s{i}", "channels", max(n, 1)) for i, n in enumerate(units)}
    genes = [
        Gene(f"s{i}", (f"s{i}",), tuple(Keep(n - k) for k in range(n + 1)))
        for i, n in enumerate(units[: len(levels)])
    ]
    if bits:
        genes.append(Gene(f"s{len(levels)}", (f"s{len(levels)}",), bits=bits))
    weights = {"params": 1.0, "flops": 2.0}
    rows = [Row(name, (of_site(name, site.units),), (), weights) for name, site in sites.items()]
    space = Space(sites, tuple(genes), "flat")
    return _traded(space, CostTable(tuple(rows)), bounds)


def _traded(
    space: Space, table: CostTable, bounds: Mapping[str, str], known: Hints = NO_HINTS
) -> Problem:
    """Returns the problem of harm against parameters."""
    from evoprune.objectives.cost import Flops, Params

    measures: dict[str, Any] = {"harm": Harm(), "params": Params(), "flops": Flops()}
    objectives = {name: measures[name] for name in ("harm", "params")}
    constraints = parse_constraints(bounds)
    return Problem(space, table, objectives, constraints, measures, known)


class Landscape:
    """A quality with few strong genes, curved levels, and random pairs that help or harm.

    Args:
        problem: whose candidates are scored.
        seed: of everything that is drawn.
        pairs: interactions for each variable; of any two, not of neighbours.
        noise: of what no model can learn: a share of the range, drawn from the candidate.
    """

    def __init__(self, problem: Problem, seed: int, pairs: float = 2.0, noise: float = 0.0) -> None:
        rng, n = np.random.default_rng(seed), problem.space.n_var
        self._problem, self._noise = problem, noise
        self._weights, self._power = rng.gamma(0.6, 1.0, n), rng.uniform(0.7, 2.5, n)
        self._pairs = rng.integers(0, n, (int(pairs * n), 2))
        self._bonus = rng.normal(0.3, 1.0, len(self._pairs)) * self._weights.mean()

    def F(self, X: np.ndarray) -> np.ndarray:
        """Returns harm and parameters of candidates (P, 2)."""
        x = X / self._problem.space.upper
        harm = x**self._power @ self._weights
        harm += (x[:, self._pairs[:, 0]] * x[:, self._pairs[:, 1]]) @ self._bonus
        harm = 1.0 - np.exp(-3.0 * np.maximum(harm, 0.0) / self._weights.sum())
        if self._noise:
            seeds = [zlib.crc32(row.tobytes()) for row in X.astype(np.int64)]
            draws = np.array([np.random.default_rng(seed).random() for seed in seeds])
            harm = (1 - self._noise) * harm + self._noise * draws
        return np.stack([harm, self._problem.cost("params", X)], axis=1)


def run(
    problem: Problem,
    algorithm: Any,
    path: Path,
    evaluator: FakeEvaluator | None = None,
    *,
    seed: int = 0,
    rungs: Sequence[Rung] = (Rung(-1),),
    **budget: float,
) -> tuple[Progress, FakeEvaluator]:
    """Returns what a search found, and the evaluator it used, with its journal in ``path``."""
    evaluator = evaluator or FakeEvaluator(problem.space)
    starts = np.zeros((1, problem.space.n_var), dtype=np.int64)
    with Journal.open(path / "journal.jsonl", {}) as journal:
        archive = Archive(journal, lambda: evaluator)
        stepper = algorithm.begin(problem, starts, seed)
        found = search(problem, stepper, archive, Budget(**budget), rungs)  # type: ignore[arg-type]
    return found, evaluator
