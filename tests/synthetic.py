"""The search problem without a network that ships with the package, for tests of the search."""

from typing import Any

import numpy as np

from evoprune.front import hypervolume
from evoprune.search.loop import Box
from evoprune.search.problem import Problem
from evoprune.testing.synthetic import (
    BLOCKS,
    CHANNELS,
    HEADS,
    PARTS,
    WIDTHS,
    FakeEvaluator,
    Harm,
    Landscape,
    flat,
    problem,
    run,
    sites,
    table,
)

__all__ = [
    "BLOCKS",
    "CHANNELS",
    "HEADS",
    "PARTS",
    "WIDTHS",
    "FakeEvaluator",
    "Harm",
    "Landscape",
    "flat",
    "problem",
    "reached",
    "run",
    "sites",
    "table",
]


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
