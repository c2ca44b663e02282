"""EvoPress' and EvoP's searches: one objective, one sparsity."""

from dataclasses import fields

import numpy as np
import pytest
from pymoo.operators.crossover.ux import UniformCrossover

from evoprune.core.registry import ALGORITHMS
from evoprune.searching.algorithm import WORST
from evoprune.searching.algorithms import MoEvoPrune, Nsga2, Random
from evoprune.searching.budget import Rung
from evoprune.searching.evop import Evop, EvopCorrected
from evoprune.searching.evopress import OnePlusLambda
from evoprune.searching.moves import at_edge
from evoprune.testing.synthetic import BLOCKS, PARTS, Landscape, flat, problem, run


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
    left = len(np.unique(stepper.population, axis=0))
    words = f"{len(X)} distinct among 5000 proposed; the last population holds {left}"
    assert stepper.notes == (f"evop      {words}",)


def test_what_evop_proposes_after_its_last_new_mask_is_counted(tmp_path):
    found, _ = run(problem(12, (BLOCKS,)), Evop(pop_size=10, n_gen=60, share=0.25), tmp_path)
    assert found.n_gen < 60
    assert "among 600 proposed" in found.notes[0]


def test_evop_collapses_and_its_correction_does_not():
    made = problem(32, (BLOCKS,))
    plain, _, collapsed = trail(Evop(share=7 / 32), made)
    corrected, _, alive = trail(EvopCorrected(share=7 / 32), made)
    assert len(corrected) > 1.5 * len(plain)
    assert len(np.unique(collapsed.population, axis=0)) < len(np.unique(alive.population, axis=0))


def test_the_correction_never_loses_its_best():
    made = problem(32, (BLOCKS,))
    X, harm, stepper = trail(EvopCorrected(share=7 / 32, n_gen=20), made)
    assert (stepper.population == X[harm.argmin()]).all(axis=1).any()


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


def generations(algorithm, made, count=8, seed=0):
    """Returns what an algorithm asks for in some generations, each as a list."""
    landscape = Landscape(made, 0)
    stepper = algorithm.begin(made, made.space.corners[:1], seed)
    found = []
    for _ in range(count):
        X = stepper.ask()
        if X is None:
            break
        found.append(X.tolist())
        stepper.tell(X, landscape.F(X), np.zeros((len(X), made.n_violations)))
    return found


CHANGED = [
    (Nsga2, {"pop_size": 8, "n_offsprings": 5, "crossover": "two_point", "mutation_rate": 0.3}),
    (Nsga2, {"crossover_rate": 0.5}),
    (MoEvoPrune, {"pop_size": 8, "n_offsprings": 5, "crossover": "two_point"}),
    (MoEvoPrune, {"mutation_rate": 0.3, "crossover_rate": 0.5}),
    (Evop, {"pop_size": 20, "n_gen": 3, "tournament": 9, "share": 0.4, "mutation_rate": 0.1}),
    (EvopCorrected, {"pop_size": 20, "n_gen": 3, "tournament": 9, "share": 0.4}),
    (EvopCorrected, {"swap_rate": 0.9, "elite": 0.5}),
    (OnePlusLambda, {"initial": 32, "offspring": 16, "max_swaps": 1, "share": 0.4}),
    (Random, {"batch": 7}),
]


@pytest.mark.parametrize(
    ("made", "name", "value"),
    [(made, name, value) for made, options in CHANGED for name, value in options.items()],
)
def test_every_option_acts(made, name, value):
    on = problem(16, (BLOCKS,))
    assert generations(made(), on) != generations(made(**{name: value}), on)
    assert generations(made(), on) == generations(made(), on)


def test_no_option_is_left_out_of_the_test_above():
    for made in {made for made, _ in CHANGED}:
        named = {name for other, options in CHANGED if other is made for name in options}
        assert named == {field.name for field in fields(made)}


@pytest.mark.parametrize("name", ["evop", "evop_corrected", "one_plus_lambda"])
def test_as_many_attentions_as_mlps_are_removed(name):
    made = problem(12, PARTS)
    algorithm = ALGORITHMS.load(name)(share=0.25)
    X = np.concatenate([np.array(one) for one in generations(algorithm, made)])
    kinds = np.array([made.space.sites[gene.sites[0]].kind for gene in made.space.genes])
    for kind in ("attn", "mlp"):
        assert (X[:, kinds == kind].sum(axis=1) == 3).all()


def test_evop_selects_crosses_and_replaces_as_its_code_does():
    """A generation by hand: tournaments, halves crossed between two cuts, flips, repair."""
    made, settings = problem(16, (BLOCKS,)), Evop(pop_size=4, share=0.25)
    stepper = settings.begin(made, made.space.corners[:0], 3)
    first = stepper.ask()
    assert len(first) == 4
    stepper.tell(first, np.array([[3.0], [1.0], [2.0], [0.5]]), np.zeros((4, 1)))
    rng = np.random.default_rng([3, 5])
    at_edge(made, rng.integers(0, 2, (4, 16)), 0.25, rng)
    aspirants = rng.integers(0, 4, (4, 3))
    best = [min(row, key=[3.0, 1.0, 2.0, 0.5].__getitem__) for row in aspirants]
    parents, cuts = first[best], np.sort(rng.integers(0, 16, (2, 2)), axis=1)
    children = parents.copy()
    for pair, (low, high) in enumerate(cuts):
        children[pair, low:high] = parents[pair + 2, low:high]
        children[pair + 2, low:high] = parents[pair, low:high]
    flips = rng.random((4, 16)) < 0.001
    rng.random((4, 16))
    expected = at_edge(made, np.where(flips, 1 - children, children), 0.25, rng)
    assert stepper.population.tolist() == expected.tolist()
    assert (stepper.population.sum(axis=1) == 4).all()


def test_moevoprune_is_the_paper_s_nsga2():
    made = problem(16, (BLOCKS,))
    algorithm = MoEvoPrune()._pymoo(made)
    assert (algorithm.pop_size, algorithm.n_offsprings) == (30, 2)
    assert float(algorithm.mating.crossover.prob.get()) == 1.0
    assert isinstance(algorithm.mating.crossover, UniformCrossover)
    sizes = [len(one) for one in generations(MoEvoPrune(), made)]
    assert sizes == [30, *[2] * 7]


@pytest.mark.parametrize(
    ("made", "options"),
    [
        (Evop, {"pop_size": 3}),
        (Evop, {"n_gen": 0}),
        (EvopCorrected, {"swap_rate": 1.5}),
        (EvopCorrected, {"elite": -1}),
        (EvopCorrected, {"elite": 1.0}),
        (Nsga2, {"crossover_rate": 1.5}),
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
