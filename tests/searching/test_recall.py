"""What a rung sent home, called back: straight to the top, once, and counted as it is."""

import zlib

import numpy as np
import pytest

from evoprune.core.protocols import Evaluation
from evoprune.searching.budget import Rung
from evoprune.searching.starts import stratified
from evoprune.searching.surrogate import SurrogateNsga2, SurrogateStepper
from evoprune.testing.synthetic import FakeEvaluator, problem, run

LADDER = (Rung(0, 0.25), Rung(-1))
SMALL = SurrogateNsga2(initial=12, batch=8, n_gen_inner=4, pop_size_inner=8)


class CallsBack:
    """Asks for eight, then for those of them that were sent home, ``mixed`` with two new ones."""

    def __init__(self, mixed):
        self._mixed = mixed

    def begin(self, problem, starts, seed):
        X = stratified(problem.space, 10, np.random.default_rng(3))
        self._asked, self._new, self._home = [], X[8:], X[:8]
        return self

    def ask(self):
        if len(self._asked) == 2:
            return None
        X = self._home if not self._asked or not self._mixed else [*self._home, *self._new]
        self._asked.append(np.array(X))
        return self._asked[-1]

    def tell(self, X, F, G):
        self._home = X[G[:, -1] > 0]

    def recalls(self, X):
        known = {row.tobytes() for asked in self._asked[:-1] for row in asked}
        return np.array([row.tobytes() in known for row in X], dtype=bool)


@pytest.mark.parametrize("mixed", [False, True])
def test_who_is_called_back_skips_the_rung_and_counts_once(tmp_path, mixed):
    made = problem(4)
    found, evaluator = run(made, CallsBack(mixed), tmp_path, rungs=LADDER, n_gen=2)
    low = [name for name, rung in evaluator.asked if rung == 0]
    assert len(low) == len(set(low))
    # Two of eight climb, six are called back; of the two new ones, one climbs.
    assert found.n_eval == (10 if mixed else 8)
    assert len(found.patterns) == (9 if mixed else 8)
    # The box is measured at the top, the dense model at each rung; that is no part of the search.
    assert found.tokens == 10.0 * ((8 + 2) + 6 + (3 if mixed else 0))
    assert len(found.climbs) == len(found.sizes) == (3 if mixed else 2)
    assert all(len(values) == 2 for values in found.climbs)
    again, evaluator = run(made, CallsBack(mixed), tmp_path, rungs=LADDER, n_gen=2)
    assert not evaluator.asked and again.patterns == found.patterns


def test_who_is_called_back_takes_no_place_from_who_is_new(tmp_path):
    found, _ = run(problem(4), CallsBack(True), tmp_path, rungs=LADDER, n_eval=9)
    # Two of eight climbed, all six that were sent home are called back, and one of two new ones
    # has a place left.
    assert (found.n_eval, len(found.patterns)) == (9, 2 + 6 + 1)


def listened(monkeypatch):
    """Returns a list that will hold what a surrogate calls back, generation by generation."""
    back, recalls = [], SurrogateStepper.recalls

    def heard(stepper, X):
        back.append([row.tobytes() for row in X[recalls(stepper, X)]])
        return recalls(stepper, X)

    monkeypatch.setattr(SurrogateStepper, "recalls", heard)
    return back


class Misleads(FakeEvaluator):
    """Its lower rung sees something else than its top, where some candidates may break."""

    def __init__(self, space, breaks):
        super().__init__(space)
        self._breaks = breaks

    def _one(self, pattern, request):
        luck = np.random.default_rng(zlib.crc32(pattern.id.encode())).random()
        place = (pattern, request.split, request.rung)
        if request.rung >= 0:
            return Evaluation(*place, {"harm": luck}, tokens=2.0)
        if self._breaks and luck < 0.3 and pattern != self._space.dense:
            return Evaluation(*place, tokens=5.0, error="it broke", failure="deterministic")
        return super()._one(pattern, request)


@pytest.mark.parametrize("breaks", [False, True])
def test_the_surrogate_calls_back_once_and_ends_though_the_top_fails(tmp_path, monkeypatch, breaks):
    made, back = problem(5), listened(monkeypatch)
    found, _ = run(made, SMALL, tmp_path, Misleads(made.space, breaks), rungs=LADDER, n_eval=120)
    called = [name for names in back for name in names]
    assert called and len(called) == len(set(called))
    assert found.n_eval == 120


def test_without_rungs_nothing_is_called_back(tmp_path, monkeypatch):
    back = listened(monkeypatch)
    run(problem(5), SMALL, tmp_path, n_eval=60)
    assert not any(back)
