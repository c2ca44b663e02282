"""What evaluations are worth to a search: objectives, violations, and who is better."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from evoprune.core.protocols import CostObjective, Evaluation
from evoprune.core.quality import kept
from evoprune.searching.algorithm import WORST
from evoprune.searching.archive import usable
from evoprune.searching.problem import Problem

# Returns the indices of candidates, the best first, from objectives (P, M) and violations (P, C).
Ranking = Callable[[np.ndarray, np.ndarray], np.ndarray]


def objectives(problem: Problem, X: np.ndarray, evaluations: Sequence[Evaluation]) -> np.ndarray:
    """Returns objectives to be minimised (P, M), ``WORST`` where an evaluation has none."""
    F = np.full((len(X), len(problem.objectives)), WORST)
    good = [usable(evaluation, problem.measured) for evaluation in evaluations]
    for column, (name, objective) in enumerate(problem.objectives.items()):
        if isinstance(objective, CostObjective):
            values = problem.cost(name, X)
        else:
            values = np.array([e.values.get(name, np.nan) for e in evaluations])
        F[good, column] = (values * problem.signs[column])[good]
    return F


def violations(
    problem: Problem, X: np.ndarray, evaluations: Sequence[Evaluation], dense: Evaluation
) -> np.ndarray:
    """Returns violations (P, ``problem.n_violations``): of constraints, and 1 for what failed.

    Where there is a zero, that of a model which knows frequencies only, a column between them says
    by how many times its distance from the dense model a candidate lies beyond it.
    """
    columns = [*problem.budget_violation(X).T]
    for floor in problem.floors:
        values = np.array([e.values.get(floor.name, np.nan) for e in evaluations])
        broken = floor.violation(values, dense.values[floor.name])
        columns.append(np.nan_to_num(broken, nan=0.0))
    if problem.zeros:
        columns.append(_beyond_zero(problem.zeros, evaluations, dense))
    names = {*problem.measured, *(floor.name for floor in problem.floors)}
    columns.append(np.array([0.0 if usable(e, names) else 1.0 for e in evaluations]))
    return np.stack(columns, axis=1)


def _beyond_zero(
    zero: Mapping[str, float], evaluations: Sequence[Evaluation], dense: Evaluation
) -> np.ndarray:
    """Returns how far candidates lie beyond the zero of any objective (P,), 0 above it.

    What lies just on it lies beyond it: it is worth nothing.
    """
    found = np.zeros(len(evaluations))
    for name, worst in zero.items():
        values = np.array([e.values.get(name, np.nan) for e in evaluations])
        share = kept(values, worst, dense.values.get(name, np.nan))
        found = np.where(share <= 0, np.maximum(found, np.maximum(-share, 1e-9)), found)
    return found


def ranked(F: np.ndarray, G: np.ndarray, count: int | None = None) -> np.ndarray:
    """Returns indices, the best first: all, or as many as are asked for.

    Feasible before infeasible, then by non-dominated rank, then by crowding distance.
    """
    from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    count = len(F) if count is None else count
    violation = G.sum(axis=1)
    feasible = np.flatnonzero(violation == 0)
    order: list[int] = []
    if len(feasible):
        for layer in NonDominatedSorting().do(F[feasible], n_stop_if_ranked=count):
            crowding = calc_crowding_distance(F[feasible][layer])
            order += feasible[layer[np.argsort(-crowding, kind="stable")]].tolist()
    broken = np.flatnonzero(violation > 0)
    order += broken[np.argsort(violation[broken], kind="stable")].tolist()
    return np.array(order[:count], dtype=np.int64)


def promoted(F: np.ndarray, G: np.ndarray, keep: float, order: Ranking = ranked) -> np.ndarray:
    """Returns the indices that go on to the next rung, ascending: ⌈keep·P⌉ of them.

    Args:
        F: objectives, to be minimised (P, M).
        G: violations (P, C).
        keep: the share that goes on.
        order: returns all indices, the best first.
    """
    # Rounded first, so that 0.1 · 30 = 3.0000000000000004 stays 3.
    count = int(np.ceil(np.round(keep * len(F), 9)))
    return np.sort(order(F, G)[:count])
