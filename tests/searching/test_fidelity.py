"""What lower rungs say of candidates that never reached the top."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprune.searching.algorithm import WORST
from evoprune.searching.fidelity import FEWEST, Rows
from evoprune.searching.surrogate import Surrogate, SurrogateNsga2
from evoprune.searching.surrogate_model import Features, Form, Model, Weights, fitted
from evoprune.testing.synthetic import Landscape, flat

MEASURED = (True, False)


def rows(X, F) -> Rows:
    return Rows.none(X.shape[1], F.shape[1], 1).adding(X, F, np.zeros((len(X), 1)))


def numbered(count: int) -> np.ndarray:
    """Returns different candidates of ten bits (P, 10)."""
    return (np.arange(count)[:, None] >> np.arange(10)) & 1


@given(
    slope=st.floats(0.1, 10),
    offset=st.floats(-5, 5),
    both=st.integers(FEWEST, 30),
    more=st.integers(1, 30),
    seed=st.integers(0, 99),
)
def test_a_rung_that_differs_by_scale_and_offset_is_read_exactly(slope, offset, both, more, seed):
    X, rng = numbered(both + more), np.random.default_rng(seed)
    low = rng.normal(size=(len(X), 2))
    truth = np.stack([offset + slope * low[:, 0], low[:, 1]], axis=1)
    found = rows(X[:both], truth[:both]).joined([rows(X, low)], MEASURED)
    assert found.X.tolist() == X[np.lexsort(X.T[::-1])].tolist()
    np.testing.assert_allclose(found.F, truth[np.lexsort(X.T[::-1])], atol=1e-9)
    np.testing.assert_allclose(found.doubt, 0.0, atol=1e-9)


def test_what_the_line_misses_by_is_the_doubt_of_what_only_the_lower_rung_knows():
    X, rng = numbered(800), np.random.default_rng(0)
    low = np.stack([rng.normal(size=800), rng.normal(size=800)], axis=1)
    top = low.copy()
    top[:, 0] += 0.3 * rng.normal(size=800)
    found = rows(X[:400], top[:400]).joined([rows(X, low)], MEASURED)
    first = np.isin(found.X @ (1 << np.arange(10)), np.arange(400))
    assert (found.doubt[first] == 0).all() and (found.doubt[:, 1] == 0).all()
    assert found.doubt[~first, 0] == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("how", ["few", "falls", "constant"])
def test_a_rung_that_says_nothing_of_the_top_is_left_out(how):
    X, rng = numbered(40), np.random.default_rng(0)
    low = rng.normal(size=(40, 2))
    both = FEWEST - 1 if how == "few" else 20
    top = {"few": low, "falls": -low, "constant": low}[how][:both]
    if how == "constant":
        low = np.ones_like(low)
    found = rows(X[:both], top).joined([rows(X, low)], MEASURED)
    assert len(found) == both


def test_the_highest_rung_that_knows_a_candidate_speaks_for_it():
    X, rng = numbered(60), np.random.default_rng(0)
    top = rng.normal(size=(60, 2))
    middle, low = rows(X[:40], top[:40] + 1.0), rows(X, top + rng.normal(size=(60, 2)))
    found = rows(X[:20], top[:20]).joined([middle, low], (True, True))
    known = found.X @ (1 << np.arange(10))
    at = np.argsort(known)
    np.testing.assert_allclose(found.F[at][:40], top[:40], atol=1e-9)
    assert (found.doubt[at][:40] < 1e-9).all() and (found.doubt[at][40:] > 0.1).all()


def test_a_value_in_doubt_pulls_less():
    made = flat([2] * 8)
    X = numbered(24)[:, :8]
    y = Landscape(made, 0).F(X)[:, 0]
    features = Features(made)
    kernels = features.kernels(features.of(X), features.of(X))
    weights = Weights((0.7, 0.7), 0.05, 0.5)
    doubt = np.where(np.arange(24) % 3, 0.0, 0.4 * y.std())
    model = Model(kernels, y, Form("smooth", "plain", weights, 0.0), doubt)
    z = (y - y.mean()) / y.std()
    covariance = weights.covariance(kernels, "smooth")
    noise = np.diag(0.05 + (doubt / y.std()) ** 2)
    expected = covariance @ np.linalg.solve(covariance + noise, z)
    found, _ = model.predict(kernels, {n: np.diag(k) for n, k in kernels.items()})
    np.testing.assert_allclose(found, expected, atol=1e-6)
    plain = fitted(kernels, z, "smooth", np.zeros(24))
    assert fitted(kernels, z, "smooth", (doubt / y.std()) ** 2).noise <= plain.noise + 0.2


def test_the_model_is_better_for_what_lower_rungs_know():
    made, rng = flat([2] * 12), np.random.default_rng(0)
    landscape = Landscape(made, 3)
    X = np.unique(rng.integers(0, 2, (160, 12)), axis=0)
    new = rng.integers(0, 2, (300, 12))
    F, truth = landscape.F(X), landscape.F(new)[:, 0]
    low = F.copy()
    low[:, 0] = 0.8 * F[:, 0] + 0.02 * rng.normal(size=len(X)) + 0.1
    top = rng.permutation(len(X))[:30]
    errors = []
    for lower in ([], [rows(X, low)]):
        surrogate = Surrogate(made, 999)
        surrogate.fit(rows(X[top], F[top]), lower)
        errors.append(np.abs(surrogate.bounds(new, (0.0,))[0][0, :, 0] - truth).mean())
    assert errors[1] < 0.8 * errors[0]


def test_what_failed_at_a_rung_teaches_nothing():
    made, rng = flat([2] * 8), np.random.default_rng(0)
    X = np.unique(rng.integers(0, 2, (60, 8)), axis=0)
    F = Landscape(made, 0).F(X)
    broken = F.copy()
    broken[-5:] = WORST
    lower = Rows.none(8, 2, 1).adding(X, broken, (broken[:, :1] == WORST) * 1.0)
    surrogate = Surrogate(made, 999)
    surrogate.fit(rows(X[:20], F[:20]), [lower])
    assert surrogate.bounds(X, (1.0,))[0][0, :, 0].max() < 10 * F[:, 0].max()


def test_a_search_hears_its_rungs():
    made = flat([2] * 10)
    stepper = SurrogateNsga2().begin(made, made.space.corners[:1], 0)
    X = stepper.ask()
    F = Landscape(made, 0).F(X)
    stepper.hear(0, X, F + 0.1, np.zeros((len(X), 1)))
    stepper.tell(X, F, np.zeros((len(X), 1)))
    assert len(stepper._lower[0]) == len(X) and len(stepper.ask())
