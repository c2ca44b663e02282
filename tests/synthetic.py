"""Problems without a network whose truth is known, beside ``evoprune.testing.synthetic``."""

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from evoprune.constraints import parse_constraints
from evoprune.costs import CostTable, Row, of_site
from evoprune.front import hypervolume
from evoprune.objectives.cost import Flops, Params
from evoprune.search.loop import Box
from evoprune.search.problem import Problem
from evoprune.space import Gene, Site, Space
from evoprune.testing.synthetic import Harm


def flat(levels: Sequence[int] = (), bits: int = 0, **bounds: str) -> Problem:
    """Returns a problem of independent genes: one with each number of levels, and one of bits."""
    from evoprune.pattern import Keep

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
    harm, params = Harm(), Params()
    return Problem(
        Space(sites, tuple(genes), "flat"),
        CostTable(tuple(rows)),
        {"harm": harm, "params": params},
        parse_constraints(bounds),
        {"harm": harm, "params": params, "flops": Flops()},
    )


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


def reached(
    problem: Problem, landscape: Landscape, algorithm: Any, n_eval: int, seed: int = 0
) -> tuple[float, Any]:
    """Returns the hypervolume that an algorithm reaches on a landscape, and its stepper."""
    box = Box.of(landscape.F(problem.space.corners))
    stepper = algorithm.begin(problem, problem.space.corners[:1], seed)
    F = np.zeros((0, 2))
    while len(F) < n_eval and (X := stepper.ask()) is not None:
        told = landscape.F(X)
        F = np.concatenate([F, told])
        stepper.tell(X, told, np.zeros((len(X), len(problem.constraints) + 1)))
    return hypervolume(F[:n_eval], box.reference, box.ideal), stepper
