"""Searches on problems without a network whose truth is known."""

from typing import Any

import numpy as np

from evoprune.core.pareto import hypervolume
from evoprune.searching.loop import Box
from evoprune.searching.problem import Problem
from evoprune.testing.synthetic import Landscape


def reached(
    problem: Problem, landscape: Landscape, algorithm: Any, n_eval: int, seed: int = 0
) -> tuple[float, Any]:
    """Returns the hypervolume that an algorithm reaches on a landscape, and its stepper."""
    box = Box.of(*landscape.F(problem.space.corners))
    stepper = algorithm.begin(problem, problem.space.corners[:1], seed)
    F = np.zeros((0, 2))
    while len(F) < n_eval and (X := stepper.ask()) is not None:
        told = landscape.F(X)
        F = np.concatenate([F, told])
        stepper.tell(X, told, np.zeros((len(X), problem.n_violations)))
    return hypervolume(F[:n_eval], box.reference, box.ideal), stepper
