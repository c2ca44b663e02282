"""EvoPress' and EvoP's searches: one objective, one sparsity."""

import numpy as np
import pytest
from synthetic import Landscape, flat

from evoprune.search.algorithms import WORST
from evoprune.search.evop import Evop, EvopCorrected
from evoprune.search.evopress import OnePlusLambda
from evoprune.search.loop import Rung
from evoprune.testing.synthetic import BLOCKS, PARTS, problem, run


def trail(algorithm, made, seed=0, n_eval=4000):
    """Returns all that an algorithm asks for with its harm, and its stepper."""
    rng = np.random.default_rng(seed)
    n = made.space.n_var
    weights, pairs = rng.gamma(2.0, 1.0, n), np.triu(rng.normal(0, 1, (n, n)), 1)
    stepper = algorithm.begin(made, made.space.corners[:1], seed)
    X, harm = np.zeros((0, n), dtype=np.int64), np.zeros(0)
    while len(X) < n_eval and (asked := stepper.ask()) is not None:
        values = asked @ weights + np.einsum("pi,ij,pj->p", asked, pairs, asked)
        stepper.tell(asked, values[:, None], np.zeros((len(asked), 1)))
        X, harm = np.concatenate([X, asked]), np.concatenate([harm, values])
    return X, harm, stepper


@pytest.mark.parametrize(
    "algorithm", [Evop(share=0.2), EvopCorrected(share=0.2), OnePlusLambda(share=0.2)]
)
def test_the_sparsity_is_exact(algorithm):
    X, _, _ = trail(algorithm, problem(20, (BLOCKS,)), n_eval=400)
    assert (X.sum(axis=1) == 4).all()


@pytest.mark.parametrize(("layers", "removed"), [(22, 3), (22, 5), (32, 4), (32, 7)])
def test_evop_proposes_5000_and_knows_few_hundred(layers, removed):
    """183 to 493 distinct masks were counted on landscapes of this kind; ours are others."""
    X, _, stepper = trail(Evop(share=removed / layers), problem(layers, (BLOCKS,)))
    assert 120 <= len(X) <= 750
    assert stepper.notes == (f"evop      {len(X)} distinct among 5000 proposed",)


def test_evop_collapses_and_its_correction_does_not():
    made = problem(32, (BLOCKS,))
    plain, _, collapsed = trail(Evop(share=7 / 32), made)
    corrected, _, alive = trail(EvopCorrected(share=7 / 32), made)
    assert len(corrected) > 2 * len(plain)
    assert len(np.unique(collapsed._population, axis=0)) < len(np.unique(alive._population, axis=0))


def test_the_correction_never_loses_its_best():
    made = problem(32, (BLOCKS,))
    X, harm, stepper = trail(EvopCorrected(share=7 / 32, n_gen=20), made)
    assert (stepper._population == X[harm.argmin()]).all(axis=1).any()


def test_evopress_takes_64_then_32_and_improves():
    X, harm, stepper = trail(OnePlusLambda(share=0.25), problem(24, PARTS), n_eval=64 + 20 * 32)
    assert len(X) == 64 + 20 * 32
    assert harm[64:].min() < harm[:64].min()
    assert stepper._value == harm.min()


def test_evopress_offspring_are_swaps_of_the_parent():
    made = problem(24, (BLOCKS,))
    stepper = OnePlusLambda(share=0.25).begin(made, made.space.corners[:0], 0)
    X = stepper.ask()
    stepper.tell(X, np.arange(len(X), dtype=float)[:, None], np.zeros((len(X), 1)))
    swaps = np.abs(stepper.ask() - X[0]).sum(axis=1) // 2
    assert set(swaps.tolist()) <= {1, 2, 3}
    assert (swaps == 1).mean() > (swaps == 3).mean()


def test_evopress_keeps_its_parent_unless_an_offspring_is_as_good():
    made = problem(24, (BLOCKS,))
    stepper = OnePlusLambda(offspring=8, share=0.25).begin(made, made.space.corners[:0], 0)
    X = stepper.ask()
    stepper.tell(X, np.full((len(X), 1), 2.0), np.zeros((len(X), 1)))
    parent = stepper._parent
    X = stepper.ask()
    stepper.tell(X, np.full((len(X), 1), 3.0), np.zeros((len(X), 1)))
    assert (stepper._parent == parent).all()
    X = stepper.ask()
    stepper.tell(X, np.full((len(X), 1), WORST), np.ones((len(X), 1)))
    assert (stepper._parent == parent).all()


def test_evopress_climbs_its_stages(tmp_path):
    made = problem(24, (BLOCKS,))
    rungs = (Rung(0, 1 / 16), Rung(-1))
    _, evaluator = run(made, OnePlusLambda(), tmp_path, rungs=rungs, n_eval=64 + 32)
    corners = {p.id for p in made.space.patterns(made.space.corners)}
    top = [id for id, rung in evaluator.asked if rung == -1 and id not in corners]
    low = [id for id, rung in evaluator.asked if rung == 0 and id not in corners]
    assert (len(low), len(top)) == (96, 4 + 2)


def test_several_levels_and_a_budget_are_searched_at_its_edge():
    made = flat([4] * 12, params="<=60%")
    landscape, found = Landscape(made, 0), []
    for algorithm in (Evop(n_gen=5), EvopCorrected(n_gen=5), OnePlusLambda()):
        stepper = algorithm.begin(made, made.space.corners[:1], 0)
        X = stepper.ask()
        stepper.tell(X, landscape.F(X), np.zeros((len(X), 2)))
        found.append(np.concatenate([X, stepper.ask()]))
    for X in found:
        assert (made.budget_violation(X) == 0).all()
        assert made.cost("params", X).max() <= 0.6 * 36
        assert np.median(made.cost("params", X)) >= 21


@pytest.mark.parametrize(
    ("made", "options"),
    [
        (Evop, {"pop_size": 3}),
        (Evop, {"share": 0.0}),
        (Evop, {"mutation_rate": 2.0}),
        (Evop, {"tournament": 0}),
        (OnePlusLambda, {"offspring": 0}),
        (OnePlusLambda, {"share": 1.5}),
    ],
)
def test_impossible_options_are_refused(made, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is"):
        made(**options)
