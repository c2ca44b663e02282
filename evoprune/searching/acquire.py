"""Which candidates to evaluate next: those that may add most to the front, each in its own way."""

import numpy as np

from evoprune.core.pareto import nondominated
from evoprune.searching.values import ranked

# Candidates whose gain is looked at, the best ranks first.
HOPEFUL = 200


def batch(known: np.ndarray, bounds: np.ndarray, count: int) -> list[int]:
    """Returns the candidates (at most ``count``) that together may add most hypervolume.

    Each optimism has an equal share of them. A pick counts as evaluated, at its bound, for those
    after it, so a second one in its place adds nothing. Of one objective the front is a point
    and all but the best would add nothing: there each optimism picks its lowest bounds.

    Args:
        known: objectives of what was evaluated, to be minimised (P, M).
        bounds: optimistic objectives of the candidates, at several optimisms (K, Q, M).
        count: how many.
    """
    low = known.min(axis=0)
    # A little beyond the worst, or the ends of the front would be worth nothing.
    top = low + 1.05 * np.maximum(known.max(axis=0) - low, 1e-12)
    floor = np.minimum(bounds.min(axis=(0, 1)), low)
    front, bounds = (known - floor) / (top - floor), (bounds - floor) / (top - floor)
    picked: list[int] = []
    for turn, bound in enumerate(bounds):
        share = (count - len(picked)) // (len(bounds) - turn)
        if bound.shape[1] == 1:
            picked += _lowest(float(front.min()), bound[:, 0], share, picked)
            continue
        more = _greedy(front[nondominated(front)], bound, share, picked)
        front = np.vstack([front, bound[more]])
        picked += more
    return picked


def _lowest(best: float, bound: np.ndarray, count: int, taken: list[int]) -> list[int]:
    """Returns the candidates of the lowest bounds (Q,), none that promises no improvement."""
    order = np.argsort(bound, kind="stable")
    order = order[(bound[order] < best) & ~np.isin(order, taken)]
    return [int(i) for i in order[:count]]


def _greedy(front: np.ndarray, bound: np.ndarray, count: int, taken: list[int]) -> list[int]:
    """Returns one candidate after another, each of the largest gain in the unit box.

    Gains only shrink while picks are added, so most need no second look (Minoux, 1978), and
    those that cannot be large by what one point of the front covers need not even a first.
    """
    from moocore import hypervolume

    top = np.ones(front.shape[1])
    now = hypervolume(front, ref=top)
    free = _free(bound, front) & (bound < top).all(axis=1)
    free[taken] = False
    hopeful = np.flatnonzero(free)
    hopeful = hopeful[ranked(bound[hopeful], np.zeros((len(hopeful), 1)), HOPEFUL)]
    ceilings = _ceilings(bound[hopeful], front)
    gains = dict(zip(hopeful.tolist(), ceilings.tolist(), strict=True))
    picked: list[int] = []
    while gains and len(picked) < count:
        best, most = -1, 0.0
        for i in sorted(gains, key=lambda i: (-gains[i], i)):
            if gains[i] <= most:
                break
            gains[i] = hypervolume(np.vstack([front, bound[i]]), ref=top) - now
            if gains[i] > most:
                best, most = i, gains[i]
        if best < 0 or most <= 1e-9:
            break
        picked.append(best)
        del gains[best]
        front = np.vstack([front, bound[best]])
        front, now = front[nondominated(front)], now + most
    return picked


def _ceilings(bound: np.ndarray, front: np.ndarray) -> np.ndarray:
    """Returns what each candidate adds to the hypervolume at most (Q,).

    That is what it dominates less what any single point of the front dominates of that.
    """
    alone = (1.0 - bound).prod(axis=1)
    shared = (1.0 - np.maximum(bound[:, None], front[None])).prod(axis=2)
    return np.asarray(alone - shared.max(axis=1, initial=0.0) + 1e-9)


def _free(rows: np.ndarray, front: np.ndarray) -> np.ndarray:
    """Returns which rows (Q,) no row of the front equals or dominates."""
    covered = np.zeros(len(rows), dtype=bool)
    for point in front:
        inside = point[0] <= rows[:, 0]
        for value, column in zip(point[1:], rows.T[1:], strict=True):
            inside &= value <= column
        covered |= inside
    return ~covered
