"""The rules: what goes first, how far, and within which budgets."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprune.core.errors import ConfigError, SpaceError
from evoprune.core.genes import GeneSpec
from evoprune.core.protocols import NO_HINTS, Hints
from evoprune.core.registry import ALGORITHMS, STARTS
from evoprune.searching.additive import Additive
from evoprune.searching.blockwise import AdaptPruner, BlockInfluence, Cka, paces, removals
from evoprune.searching.rules import Uniform, halving
from evoprune.searching.warm import start
from evoprune.testing.synthetic import BLOCKS, PARTS, WIDTHS, problem

NESTED = (BLOCKS, *PARTS, *WIDTHS)
BITS = (GeneSpec("channels", bits=True),)
FREE = [name for name in STARTS.names() if name not in ("dense", "greedy", "additive")]
BLOCKWISE = [name for name in FREE if STARTS.load(name).needs_blocks]


def hinted(made, influence, similarity=None, scores=None):
    """Returns a problem with these influences of blocks 0, 1, …, and half of each for its parts."""
    both = {f"layers.{i}": value for i, value in enumerate(influence)}
    parts = {f"{block}.{part}": v / 2 for block, v in both.items() for part in ("attn", "mlp")}
    found = np.eye(len(parts)) if similarity is None else similarity
    return replace(made, hints=Hints({**parts, **both}, tuple(parts), found, scores or {}))


@given(st.integers(1, 70))
def test_each_prefix_of_the_halving_order_is_spread(count):
    order = halving(count)
    assert sorted(order.tolist()) == list(range(count))
    for size in (2, 4, 8):
        if size <= count // 2:
            gaps = np.diff([0, *np.sort(order[:size]), count])
            assert gaps.max() <= 2 * count / size + 1


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("specs", [(BLOCKS,), PARTS, WIDTHS, NESTED, BITS])
def test_every_rule_rises_in_every_kind_of_space(name, specs):
    made = problem(5, specs)
    X = start(name).first(made, 9, None)
    cost = made.cost("params", X)
    assert len(X) == 9 and (made.space.canonical(X) == X).all()
    assert (np.diff(cost) <= 0).all() and cost[-1] < cost[0]


@pytest.mark.parametrize("name", FREE)
def test_where_there_are_budgets_candidates_meet_them(name):
    made = problem(6, PARTS, params="<=60%")
    X = start(name).first(made, 4, None)
    assert 1 <= len(X) <= 4 and (made.budget_violation(X) == 0).all()
    narrow = problem(2, (BLOCKS,), params="<=22%")
    assert start(name).first(narrow, 4, None).tolist() == [[1, 1]]


def test_the_least_influential_block_goes_first():
    made = hinted(problem(4, (BLOCKS,)), [0.3, 0.05, 0.2, 0.1])
    X = BlockInfluence().rising(made, 3)
    assert X.tolist() == [[0, 1, 0, 0], [0, 1, 0, 1], [0, 1, 1, 1]]


def test_parts_go_by_their_own_influence_and_widths_all_the_way():
    made = problem(2, PARTS)
    influence = {"layers.0.attn": 0.4, "layers.0.mlp": 0.1, "layers.1.attn": 0.2}
    influence |= {"layers.1.mlp": 0.3, "layers.0": 0.5, "layers.1": 0.5}
    hints = Hints(influence, tuple(influence)[:4], np.eye(4))
    names = [made.space.genes[i].name for i in range(4)]
    taken = BlockInfluence().rising(replace(made, hints=hints), 3).sum(axis=0)
    order = [names[i] for i in np.argsort(-taken)]
    assert order == ["layers.0.mlp", "layers.1.attn", "layers.1.mlp", "layers.0.attn"]
    wide = replace(problem(2, WIDTHS), hints=hints)
    X = BlockInfluence().rising(wide, 3)
    first = [g.name for g in wide.space.genes].index("layers.0.mlp.channels")
    assert X[0].tolist() == [2 if i == first else 0 for i in range(4)]


def test_what_lies_in_a_droppable_block_is_left_to_the_block():
    made = hinted(problem(3, NESTED), [0.1, 0.3, 0.2])
    blocks = [
        i
        for i, gene in enumerate(made.space.genes)
        if gene.name in made.hints.influence and gene.name.count(".") == 1
    ]
    for rule in (BlockInfluence(), Cka()):
        X = rule.rising(made, 5)
        assert X[:, blocks].any() and not np.delete(X, blocks, axis=1).any()


def test_bits_go_in_the_order_of_their_scores():
    scores = {f"layers.{i}.mlp.channels": np.array([5, 1, 4, 0, 3, 2.0]) for i in range(2)}
    made = hinted(problem(2, BITS), [0.1, 0.2], scores=scores)
    X = BlockInfluence().rising(made, 4)
    assert X[0].tolist() == [0, 1, 0, 1, *[0] * 8]  # two of ten moves
    assert X[-1, :6].tolist() == [0, 1, 1, 1, 1, 1]  # the best unit stays
    gone = AdaptPruner().rising(made, 9)
    assert gone.any()
    for row in gone:
        assert set(np.flatnonzero(row[:6])) == set([3, 1, 5, 4, 2, 0][: row[:6].sum()])


@pytest.mark.parametrize("name", BLOCKWISE)
def test_bits_without_scores_and_spaces_without_blocks_are_refused(name):
    unscored = hinted(problem(2, BITS), [0.1, 0.2])
    with pytest.raises(SpaceError, match="No criterion scored the units of"):
        start(name).first(unscored, 3, None)
    with pytest.raises(SpaceError, match="no measured blocks, which this rule goes by"):
        start(name).first(replace(problem(2), hints=NO_HINTS), 3, None)
    elsewhere = Hints({"other": 0.5}, ("other",), np.eye(1))
    with pytest.raises(SpaceError, match="no gene in a block"):
        start(name).first(replace(problem(2), hints=elsewhere), 3, None)


def test_adapt_pruners_paces_by_hand():
    # Importances −cos = influence − 1: centred −0.2, 0, 0.2; relative −1, 0, 1.
    assert paces([0.1, 0.3, 0.5]) == pytest.approx([0.04, 0.02, 0.0])
    assert paces([0.1, 0.1, 0.1, 0.5]) == pytest.approx([0.08 / 3] * 3 + [0.0])
    assert paces([0.2, 0.2]) == pytest.approx([0.02, 0.02])


def test_adapt_pruner_gives_widths_the_nearest_level_of_their_layer():
    """Heads keep 4, 2 or 1 of 4, channels 6, 4 or 2 of 6."""
    made = hinted(problem(3, WIDTHS), [0.1, 0.25, 0.5])
    first, second, _ = paces([0.1, 0.25, 0.5])
    names = [gene.name.removeprefix("layers.") for gene in made.space.genes]
    # Moves and the steps after which they come: channels at shares 1/6 and 1/2, heads at 1/4, 5/8.
    steps = {("0.mlp.channels", 1): 1 / 6 / first, ("0.attn.heads", 1): 0.25 / first}
    steps |= {("0.mlp.channels", 2): 0.5 / first, ("0.attn.heads", 2): 0.625 / first}
    steps |= {("1" + n[1:], level): when * first / second for (n, level), when in steps.items()}
    found = AdaptPruner().rising(made, 7)
    assert found.sum(axis=1).tolist() == list(range(1, 8))
    for row in found:
        last = sorted(steps.values())[row.sum() - 1]
        for name, level in zip(names, row, strict=True):
            assert level == sum(when <= last for (n, _), when in steps.items() if n == name)


def test_adapt_pruner_drops_whole_blocks_in_the_order_of_influence():
    made = hinted(problem(4, (BLOCKS,)), [0.3, 0.05, 0.2, 0.1])
    assert AdaptPruner().rising(made, 2).tolist() == [[0, 1, 0, 0], [0, 1, 0, 1]]
    assert not AdaptPruner().rising(made, 99)[:, 0].any()


def test_adapt_pruner_drops_a_block_after_making_it_narrow():
    made = hinted(problem(3, (BLOCKS, *WIDTHS)), [0.1, 0.3, 0.5])
    X = made.space.canonical(AdaptPruner().rising(made, 60))
    block = [gene.name for gene in made.space.genes].index("layers.0")
    narrow = X[X[:, block] == 0]
    heads = [gene.name for gene in made.space.genes].index("layers.0.attn.heads")
    assert X[:, block].any() and narrow[-1, heads] == 2


def test_mpruners_walk_by_hand():
    similarity = np.eye(5)
    pairs = {(0, 1): 0.99, (0, 2): 0.9, (1, 2): 0.97, (2, 3): 0.95, (3, 4): 0.5, (2, 4): 0.4}
    for (a, b), value in pairs.items():
        similarity[a, b] = similarity[b, a] = value
    # 0.99: {0,1}; 0.95: {0,1},{2,3}; 0.9: {0,1,2},{3}; 0.5: {0,1,2},{3,4}; 0: all.
    found = removals(similarity)
    assert found == [(), (1,), (1, 3), (1, 2, 4), (1, 2, 3, 4)]


def test_every_second_and_third_of_a_cluster():
    similarity = np.full((5, 5), 0.9)
    assert removals(similarity) == [(), (3,), (2, 4), (1, 2, 3, 4)]


def test_cka_removes_blocks_and_compares_their_outputs():
    """Of the states after the parts only those after whole blocks count: the second of each."""
    similarity = np.eye(6)
    similarity[1, 3] = similarity[3, 1] = 0.9
    similarity[0, 4] = similarity[4, 0] = 0.99
    made = hinted(problem(3, (BLOCKS,)), [0.1] * 3, similarity)
    assert Cka().rising(made, 2)[0].tolist() == [0, 1, 0]
    parts = hinted(problem(3, PARTS), [0.1] * 3, similarity)
    assert Cka().rising(parts, 5).shape == (5, 6)


def test_a_rule_as_an_algorithm_asks_once():
    made = problem(12, (BLOCKS,))
    stepper = ALGORITHMS.load("block_influence")(steps=24).begin(made, np.zeros((0, 12)), 0)
    X = stepper.ask()
    assert sorted(X.sum(axis=1)) == sorted(set(X.sum(axis=1))) and len(X) >= 12
    assert stepper.ask() is None
    assert X[:4].sum(axis=1).max() >= 8  # a budget that cuts it short leaves it spread


def test_a_rule_of_no_steps_is_refused():
    with pytest.raises(ValueError, match="steps is 0"):
        Uniform(steps=0)
    with pytest.raises(ValueError, match="steps is 0"):
        Additive(steps=0)
    with pytest.raises(ConfigError, match="no warm start 'ckaa'"):
        start("ckaa")
