"""The model of the objectives, the batches it proposes, and when it hands over."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic import reached

from evoprune.core.pareto import hypervolume
from evoprune.searching.acquire import batch
from evoprune.searching.algorithms import Nsga2, Random
from evoprune.searching.budget import Rung
from evoprune.searching.evopress import OnePlusLambda
from evoprune.searching.fidelity import Rows
from evoprune.searching.inner import evolved, trail
from evoprune.searching.repair import repair
from evoprune.searching.starts import stratified
from evoprune.searching.surrogate import Surrogate, SurrogateNsga2
from evoprune.searching.surrogate_model import KINDS, Features, Form, Model, Warp, Weights, chosen
from evoprune.testing.synthetic import (
    BLOCKS,
    PARTS,
    WIDTHS,
    FakeEvaluator,
    Landscape,
    flat,
    problem,
    run,
)

SPACES = {
    "levels": flat((3, 4, 8, 2)),
    "bits": flat((3,), 9),
    "nested": problem(3, (BLOCKS, *PARTS, *WIDTHS)),
}
SEEDS = st.integers(0, 2**32 - 1)


def sample(made, count, seed):
    X = stratified(made.space, count, np.random.default_rng(seed))
    return np.unique(made.space.canonical(X), axis=0)


def terms(made, A, B):
    """Returns the terms of the kernel between two sets, summed the long way."""
    upper = made.space.upper
    A, B = (np.where(made.space.covered(X), upper, X) for X in (A, B))
    low = np.minimum(A[:, None, :], B[None, :, :]) / upper
    n = len(upper)
    pair = sum(low[..., i] * low[..., j] for i in range(n) for j in range(n) if i != j)
    gap = np.abs(A[:, None, :] - B[None, :, :]) / upper
    return {"main": low.mean(axis=2), "pair": pair / (n * (n - 1)), "gap": gap.mean(axis=2)}


@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=10)
@given(seed=SEEDS)
def test_kernels_of_all_pairs_need_no_pair_written_down(name, seed):
    made = SPACES[name]
    A, B = sample(made, 5, seed), sample(made, 4, seed + 1)
    features = Features(made)
    found = features.kernels(features.of(A), features.of(B))
    for term, expected in terms(made, A, B).items():
        np.testing.assert_allclose(found[term], expected, atol=1e-12)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_covariance_is_positive_and_its_diagonal_is_known(name, kind):
    made = SPACES[name]
    X = sample(made, 20, 0)
    features = Features(made)
    rows = features.of(X)
    weights = Weights(tuple(1.0 for _ in KINDS[kind]), 0.1, 0.5)
    covariance = weights.covariance(features.kernels(rows, rows), kind)
    np.testing.assert_allclose(np.diag(covariance), weights.covariance(features.own(rows), kind))
    assert np.linalg.eigvalsh(covariance).min() > -1e-8


@pytest.mark.parametrize("kind", KINDS)
def test_left_out_values_are_those_of_a_fit_without_the_row(kind):
    made = SPACES["levels"]
    X = sample(made, 24, 1)
    y = Landscape(made, 0).F(X)[:, 0]
    features = Features(made)
    weights = Weights(tuple(0.7 for _ in KINDS[kind]), 0.05, 0.5)
    form = Form(kind, "plain", weights, 0.0)
    kernels = features.kernels(features.of(X), features.of(X))
    whole = Model(kernels, y, form, np.zeros(len(y)))
    z = whole.warp.forward(y)
    for i in (0, 11, len(X) - 1):
        rest = np.delete(np.arange(len(X)), i)
        matrix = weights.covariance(kernels, kind) + weights.noise * np.eye(len(X))
        alone = matrix[i, rest] @ np.linalg.solve(matrix[np.ix_(rest, rest)], z[rest])
        assert whole.left_out[i] == pytest.approx(alone, abs=1e-6)


@given(st.lists(st.floats(-1e3, 1e12), min_size=2, max_size=20), st.sampled_from(["plain", "tail"]))
def test_warps_keep_the_order_and_can_be_undone(values, kind):
    y = np.array(values)
    warp = Warp.of(kind, y)
    z = warp.forward(y)
    assert (np.diff(z[np.argsort(y, kind="stable")]) >= 0).all()
    np.testing.assert_allclose(warp.back(z), y, rtol=1e-6, atol=1e-6 * np.ptp(y) + 1e-9)
    assert np.isfinite(warp.back(np.array([-1e6, 1e6]))).all()


def told(X, F, G) -> Rows:
    return Rows.none(X.shape[1], F.shape[1], G.shape[1]).adding(X, F, G)


def test_the_model_knows_more_than_the_size_of_a_candidate():
    made = flat([2] * 12)
    X = sample(made, 80, 0)
    harm, features = Landscape(made, 3).F(X)[:, 0], Features(made)
    kernels = features.kernels(features.of(X), features.of(X))
    size = X.mean(axis=1)
    assert chosen(kernels, harm, size, np.zeros(len(X))).skill > 0.6
    rng = np.random.default_rng(0)
    by_size = X.sum(axis=1) + 0.5 * rng.standard_normal(len(X))
    assert chosen(kernels, by_size, size, np.zeros(len(X))).skill < 0.25


def test_costs_are_counted_and_never_modelled():
    made = flat([3] * 6)
    X = sample(made, 30, 0)
    surrogate = Surrogate(made, 99)
    surrogate.fit(told(X, Landscape(made, 0).F(X), np.zeros((len(X), 1))))
    new = sample(made, 20, 5)
    F, _ = surrogate.bounds(new, (0.5, 8.0))
    assert (F[:, :, 1] == made.cost("params", new)).all()
    assert (F[1, :, 0] <= F[0, :, 0]).all()


def floored(made, bound):
    """Returns candidates with violations of a floor on the harm, and a surrogate fitted to them."""
    X = np.unique(np.concatenate([made.space.corners, sample(made, 60, 0)]), axis=0)
    F = Landscape(made, 0).F(X)
    G = np.stack([np.maximum(F[:, 0] - bound, 0.0), np.zeros(len(X))], axis=1)
    surrogate = Surrogate(made, 999)
    surrogate.fit(told(X, F, G))
    return surrogate


def test_a_floor_on_an_objective_is_read_off_its_model():
    made = flat([2] * 10, harm="<=0.5")
    new = sample(made, 200, 9)
    _, kept = floored(made, 0.5).bounds(new, (1.0,))
    truth = Landscape(made, 0).F(new)[:, 0] <= 0.5
    assert (kept == truth).mean() > 0.9
    assert 0.1 < truth.mean() < 0.9


def test_a_floor_holds_where_the_budgets_exclude_the_dense_model():
    made = flat([2] * 10, harm="<=0.5", params="<=80%")
    assert made.budget_violation(made.space.corners[:1]).any()
    X = np.unique(repair(made, sample(made, 60, 0), np.random.default_rng(0)), axis=0)
    F = Landscape(made, 0).F(X)
    G = np.stack([np.zeros(len(X)), np.maximum(F[:, 0] - 0.5, 0.0), np.zeros(len(X))], axis=1)
    for floors in (made.constraints, flat([2] * 10, params="<=80%", harm="<=50%").constraints):
        surrogate = Surrogate(replace(made, constraints=floors), 999)
        surrogate.fit(told(X, F, G))
        _, kept = surrogate.bounds(X, (1.0,))
        assert (kept == (F[:, 0] <= 0.5)).mean() > 0.9


def test_a_candidate_without_a_value_of_a_floor_is_not_learnt_from():
    made = flat([2] * 10, harm="<=0.5")
    X = sample(made, 40, 0)
    F, G = Landscape(made, 0).F(X), np.zeros((len(X), 2))
    F[3, 0], G[3] = 1e6, (0.0, 1.0)
    surrogate = Surrogate(made, 999)
    surrogate.fit(told(X, F, G))
    bounds, _ = surrogate.bounds(X[[3]], (0.0,))
    assert bounds[0, 0, 0] < 10.0


def test_a_floor_on_what_is_no_objective_is_learnt_from_its_violations():
    made = flat([2] * 10, harm="<=0.5")
    other = type(made)(
        made.space,
        made.table,
        {"params": made.objectives["params"]},
        made.constraints,
        made.measures,
    )
    X = np.unique(np.concatenate([made.space.corners, sample(made, 60, 0)]), axis=0)
    harm = Landscape(made, 0).F(X)[:, 0]
    G = np.stack([np.maximum(harm - 0.5, 0.0), np.zeros(len(X))], axis=1)
    surrogate = Surrogate(other, 999)
    surrogate.fit(told(X, other.cost("params", X)[:, None], G))
    new = sample(made, 200, 9)
    _, kept = surrogate.bounds(new, (1.0,))
    assert (kept == (Landscape(made, 0).F(new)[:, 0] <= 0.5)).mean() > 0.8


@settings(max_examples=25)
@given(st.integers(1, 3), st.integers(1, 8), st.integers(2, 4), SEEDS)
def test_a_batch_is_distinct_and_each_pick_adds_most(optimisms, count, objectives, seed):
    rng = np.random.default_rng(seed)
    known, bounds = rng.random((6, objectives)), rng.random((optimisms, 15, objectives))
    picked = batch(known, bounds, count)
    assert len(picked) == len(set(picked)) <= count
    low = np.minimum(known.min(axis=0), bounds.min(axis=(0, 1)))
    front, top = known, known.max(axis=0) + 0.05 * np.ptp(known, axis=0)
    assert not any((front <= bounds[:, i, None]).all(axis=2).any(axis=1).all() for i in picked)
    for pick in picked if optimisms == 1 else ():
        whole = [hypervolume(np.vstack([front, row]), top, low) for row in bounds[0]]
        assert whole[pick] == pytest.approx(max(whole))
        front = np.vstack([front, bounds[0, pick]])


def test_a_batch_never_takes_what_the_front_dominates():
    known = np.array([[0.0, 1.0], [1.0, 0.0], [0.2, 0.2]])
    bounds = np.array([[[0.3, 0.3], [0.2, 0.2], [0.1, 0.1], [2.0, 2.0]]])
    assert batch(known, bounds, 4) == [2]


def test_a_hopeless_bound_does_not_draw_the_batch_to_the_ends():
    known = np.array([[0.0, 1.0], [0.4, 0.6], [0.6, 0.4], [1.0, 0.0]])
    middle, end, wild = [0.3, 0.3], [1.02, -0.01], [-1000.0, 5.0]
    assert batch(known, np.array([[end, middle]]), 1) == [1]
    assert batch(known, np.array([[end, middle, [2.0, 2.0]], [end, middle, wild]]), 2)[0] == 1


def test_of_one_objective_each_optimism_picks_its_lowest_bounds():
    known = np.array([[0.5], [0.9]])
    bounds = np.array([[[0.4], [0.3], [0.6], [0.45]], [[0.4], [0.1], [0.0], [0.45]]])
    assert batch(known, bounds, 4) == [1, 0, 2, 3]
    assert batch(known, np.full((2, 3, 1), 0.5), 4) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch", 0), ("initial", 0), ("optimism", ()), ("optimism", (-1.0,)), ("min_skill", 2.0),
     ("pop_size_inner", 3), ("max_rows", 2)],
)  # fmt: skip
def test_impossible_options_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is"):
        SurrogateNsga2(**{name: value})


def first_asks(made, count=3, rows=30, **options):
    """Returns the first asks of a search, told a landscape."""
    stepper = SurrogateNsga2(**{"initial": rows, **options}).begin(made, made.space.corners[:0], 0)
    found = []
    for _ in range(count):
        found.append(stepper.ask())
        F = Landscape(made, 0).F(found[-1])
        stepper.tell(found[-1], F, np.zeros((len(F), 1)))
    return found, stepper


def test_sizes_are_those_that_the_options_say():
    found, _ = first_asks(flat([3] * 20), initial=21, batch=7)
    assert [len(X) for X in found] == [21, 7, 7]


@pytest.mark.parametrize(
    "options",
    [{"optimism": (0.5,)}, {"optimism": (8.0,)}, {"n_gen_inner": 1}, {"pop_size_inner": 8},
     {"max_rows": 20}, {"min_skill": 1.0}],
)  # fmt: skip
def test_every_option_acts(options):
    made = flat([3] * 20)
    bold = {"count": 2, "min_skill": -1.0}
    usual, other = first_asks(made, **bold)[0], first_asks(made, **{**bold, **options})[0]
    assert usual[0].tolist() == other[0].tolist()
    assert usual[1].tolist() != other[1].tolist()


def test_a_required_skill_of_one_is_plain_nsga2():
    assert (
        first_asks(flat([3] * 20), min_skill=1.0)[1]
        .notes[0]
        .startswith("surrogate 0 batches by the model, 2 by NSGA-II")
    )


@pytest.mark.parametrize(("name", "made"), SPACES.items())
def test_a_trail_leads_from_dense_to_empty_by_what_harms_least(name, made):
    landscape = Landscape(made, 0)

    def told(X):
        return landscape.F(X), np.zeros((len(X), 1))

    stops = trail(made, told, np.array([1.0, 0.0]))
    share = made.share(stops)
    assert len(np.unique(stops, axis=0)) == len(stops)
    assert (made.space.canonical(stops) == stops).all()
    assert share.min() == pytest.approx(made.share(made.space.corners)[1])
    even = sample(made, 400, 0)
    near = np.abs(made.share(even)[:, None] - share).argmin(axis=1)
    assert (landscape.F(even)[:, 0] >= landscape.F(stops)[near, 0] - 0.1).mean() > 0.85


def test_the_model_is_searched_with_candidates_never_asked_before():
    made = flat([3] * 20)
    X = sample(made, 16, 0)
    asked = []

    def told(rows):
        asked.append(rows)
        return Landscape(made, 0).F(rows), np.zeros((len(rows), 1))

    found = evolved(made, X, told, 10, np.random.default_rng(0))
    assert len(asked) == 11
    assert len(found) == sum(map(len, asked)) == len(np.unique(np.concatenate(asked), axis=0))
    again = evolved(made, X, told, 10, np.random.default_rng(0))
    assert found.tolist() == again.tolist()


@pytest.mark.slow
def test_at_a_fixed_size_it_beats_what_was_made_for_that():
    """The least harm of 24 genes at one budget, with the evaluations that EvoPress begins with."""
    both = flat([3] * 24, params="<=60%")
    made = replace(both, objectives={"harm": both.objectives["harm"]})
    least = {}
    for label, algorithm in {"surrogate": SurrogateNsga2(), "press": OnePlusLambda()}.items():
        landscape, values = Landscape(made, 1, pairs=0.5), []
        stepper = algorithm.begin(made, made.space.corners[:1], 0)
        while len(values) < 96:
            X = stepper.ask()
            assert not made.budget_violation(X).any()
            harm = landscape.F(X)[:, :1]
            values += harm[:, 0].tolist()
            stepper.tell(X, harm, np.zeros((len(X), 2)))
        least[label] = min(values[:96])
    assert least["surrogate"] < 0.7 * least["press"]


def test_rungs_starve_no_model(tmp_path):
    made, rungs = problem(6, PARTS), (Rung(0, 0.5), Rung(-1))
    found, _ = run(made, SurrogateNsga2(), tmp_path, rungs=rungs, n_eval=52)
    assert found.n_eval == 52
    assert not found.notes[0].startswith("surrogate 0")


def test_what_was_told_counts_and_not_its_order(tmp_path):
    made = flat([3] * 8)
    X = sample(made, 40, 0)
    F, G = Landscape(made, 0).F(X), np.zeros((len(X), 1))
    asked = []
    for order in (np.arange(len(X)), np.arange(len(X))[::-1]):
        stepper = SurrogateNsga2().begin(made, X[:0], 0)
        stepper.ask()
        stepper.tell(X[order], F[order], G[order])
        asked.append(stepper.ask().tolist())
    assert asked[0] == asked[1]


def test_failures_are_kept_out_of_the_model(tmp_path):
    made = problem(6, PARTS)
    calm, _ = run(made, SurrogateNsga2(initial=12), tmp_path, n_eval=40)
    broken = [pattern.id for pattern in calm.patterns[1:20:3]]
    (tmp_path / "b").mkdir()
    evaluator = FakeEvaluator(made.space, fail=broken)
    found, _ = run(made, SurrogateNsga2(initial=12), tmp_path / "b", evaluator, n_eval=40)
    assert found.n_eval == 40
    assert found.hypervolume > 0.8 * calm.hypervolume


def test_notes_say_how_it_went(tmp_path):
    found, _ = run(problem(6, PARTS), SurrogateNsga2(initial=12), tmp_path, n_eval=40)
    assert found.notes[0].startswith("surrogate")
    assert "rank correlation of left-out values: harm" in found.notes[0]


def test_a_blind_model_hands_over_to_nsga2():
    made = flat([2] * 48)
    noise = Landscape(made, 0, noise=0.999)
    _, stepper = reached(made, noise, SurrogateNsga2(initial=24, min_skill=0.3), 96)
    modelled, blind = stepper._modelled, stepper._blind
    assert blind > modelled
    assert f"{blind} by NSGA-II" in stepper.notes[0]


LARGE = {
    "48 genes of 3 to 8 levels": flat([3, 4, 5, 6, 7, 8] * 8),
    "512 bits": flat(bits=512),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_the_surrogate_pays_in_large_spaces(name):
    made, volumes = LARGE[name], {}
    for label, algorithm in {
        "surrogate": SurrogateNsga2(),
        "nsga2": Nsga2(),
        "random": Random(),
    }.items():
        volumes[label] = [
            reached(made, Landscape(made, seed), algorithm, 160, seed)[0] for seed in range(2)
        ]
    assert min(np.subtract(volumes["surrogate"], volumes["nsga2"])) > 0
    assert min(np.subtract(volumes["surrogate"], volumes["random"])) > 0
