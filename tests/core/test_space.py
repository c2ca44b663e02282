"""Spaces: canonical form, what is kept and alive, encoding, and spaces that cannot be meant."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprune.core.errors import SpaceError
from evoprune.core.genes import GeneSpec, build_space
from evoprune.core.pattern import Bits, Drop, Keep, Pattern
from evoprune.core.space import Gene, Quorum, Site, Space
from evoprune.testing.synthetic import BLOCKS, CHANNELS, HEADS, PARTS, WIDTHS, sites, table

BITS = GeneSpec("channels", bits=True)
TIED = GeneSpec("attn", drop=True, tie=("*",))
RULES = [
    (BLOCKS,),
    (BLOCKS, *PARTS, *WIDTHS),
    (BLOCKS, WIDTHS[0], BITS),
    (BLOCKS, TIED, *WIDTHS),
    (WIDTHS[0], GeneSpec("mlp", drop=True, exclude=("layers.0.*",)), BITS),
]


@st.composite
def candidates(draw):
    """Draws a space over three layers and some candidates of it."""
    space = build_space("drawn", sites(3), draw(st.sampled_from(RULES)))
    seed, count = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 6))
    rng = np.random.default_rng(seed)
    return space, rng.integers(0, space.upper + 1, (count, space.n_var))


@given(candidates())
def test_canonical_is_idempotent_and_in_range(drawn):
    space, X = drawn
    once = space.canonical(X)
    assert (space.canonical(once) == once).all()
    assert ((once == 0) | (once == X)).all()


@given(candidates())
def test_canonical_costs_and_keeps_the_same(drawn):
    space, X = drawn
    canonical = space.canonical(X)
    for metric in ("params", "flops"):
        assert (table(3).cost(metric, space, X) == table(3).cost(metric, space, canonical)).all()
    for site in space.sites:
        assert (space.kept(X, site) == space.kept(canonical, site)).all()
        assert (space.alive(X, site) == space.alive(canonical, site)).all()


@given(candidates())
def test_encode_gives_back_the_canonical_candidates(drawn):
    space, X = drawn
    assert (space.encode(space.patterns(X)) == space.canonical(X)).all()


@given(candidates())
def test_patterns_survive_json(drawn):
    space, X = drawn
    patterns = space.patterns(X)
    texts = [json.dumps(pattern.to_json()) for pattern in patterns]
    assert [Pattern.from_json(json.loads(text)) for text in texts] == patterns


@given(candidates())
def test_patterns_are_equal_where_the_same_is_kept(drawn):
    space, X = drawn
    patterns = space.patterns(X)
    kept = np.stack([space.kept(X, site) for site in space.sites], axis=1)
    for i, a in enumerate(patterns):
        for j, b in enumerate(patterns):
            assert a != b or (kept[i] == kept[j]).all()


@given(st.sampled_from(RULES))
def test_space_survives_json(rules):
    space = build_space("drawn", sites(3), rules)
    again = Space.from_json(json.loads(json.dumps(space.to_json())))
    assert (again.genes, again.sites, again.digest) == (space.genes, space.sites, space.digest)
    assert again.n_var == space.n_var


@given(candidates())
def test_covered_variables_change_nothing(drawn):
    space, X = drawn
    X = space.canonical(X)
    covered = space.covered(X)
    moved = np.where(covered, space.upper, X)
    assert (X[covered] == 0).all()
    assert (space.canonical(moved) == X).all()


@given(candidates())
def test_options_are_what_is_not_whole_outside_of_dropped_sites(drawn):
    space, X = drawn
    pattern = space.pattern(X[0])
    X = space.encode([pattern])
    governed = {site for gene in space.genes for site in gene.sites}
    expected = set()
    for site in governed:
        parent = space.sites[site].parent
        inside = parent is None or bool(space.alive(X, parent)[0])
        if inside and space.kept(X, site)[0] < space.sites[site].units:
            expected.add(site)
    assert set(space.options(pattern)) == expected


def test_options_leave_out_what_lies_under_a_dropped_parent():
    space = build_space("s", sites(1), (BLOCKS, *PARTS, WIDTHS[0]))
    dropped = space.options(Pattern((1, 0, 0, 0)))
    narrowed = space.options(Pattern((0, 0, 1, 2)))
    assert dropped == {"layers.0": Drop()}
    assert narrowed == {"layers.0.mlp": Drop(), "layers.0.attn.heads": Keep(1)}


def test_options_of_bits_keep_the_units_whose_bit_is_clear():
    space = build_space("s", sites(1), (BITS,))
    x = np.array([0, 1, 0, 0, 1, 1])
    assert space.options(space.pattern(x)) == {"layers.0.mlp.channels": Bits.of(x == 0)}
    assert space.options(space.dense) == {}


def test_nested_drops_reset_what_lies_in_them():
    space = build_space("s", sites(1), (BLOCKS, PARTS[0], WIDTHS[0]))
    X = np.array([[1, 1, 2], [0, 1, 2], [0, 0, 2], [0, 0, 0]])
    expected = [[1, 0, 0], [0, 1, 0], [0, 0, 2], [0, 0, 0]]
    assert space.canonical(X).tolist() == expected
    assert space.kept(X, "layers.0.attn.heads").tolist() == [0, 0, 1, HEADS]
    assert space.kept(X, "layers.0.mlp.channels").tolist() == [0, CHANNELS, CHANNELS, CHANNELS]
    assert space.alive(X, "layers.0.attn").tolist() == [False, False, True, True]


def test_a_tied_gene_moves_all_its_sites_and_is_reset_when_all_are_gone():
    space = build_space("s", sites(2), (BLOCKS, TIED))
    X = np.array([[0, 0, 1], [1, 0, 1], [1, 1, 1]])
    assert [gene.sites for gene in space.genes][-1] == ("layers.0.attn", "layers.1.attn")
    assert space.canonical(X).tolist() == [[0, 0, 1], [1, 0, 1], [1, 1, 0]]
    assert space.alive(X, "layers.1.attn").tolist() == [False, False, False]
    assert set(space.options(Pattern((1, 0, 1)))) == {"layers.0", "layers.1.attn"}


def test_size_counts_levels_and_bits_and_is_written_however_large():
    assert build_space("s", sites(2), (BLOCKS, BITS)).size == 2**2 * 2 ** (2 * CHANNELS)
    wide = Space({"a": Site("a", "channels", 5000)}, (Gene("a", ("a",), bits=5000),))
    assert wide.size == 2**5000
    assert wide.size_text == "1.412e+1505"


@pytest.mark.parametrize(
    "choices",
    [(0,), (0, 5), (b"\x00", b"\x00"), (0, b"\x00\x00"), (0, 0), (2, b"\x00")],
)
def test_encode_refuses_patterns_of_another_space(choices):
    space = build_space("s", sites(1), (BLOCKS, BITS))
    with pytest.raises(SpaceError, match="Use the space that the pattern was made in"):
        space.encode([Pattern(choices)])


def test_a_space_without_genes_is_refused():
    with pytest.raises(SpaceError, match="The search space 'empty' has no genes"):
        Space({}, (), "empty")


def test_a_site_with_two_genes_is_refused():
    with pytest.raises(SpaceError, match=r"The site 'layers\.0\.attn' has 2 genes"):
        build_space("s", sites(2), (PARTS[0], TIED))


@pytest.mark.parametrize(
    ("parents", "cause"),
    [({"a": "b", "b": "a"}, "lies in itself"), ({"a": "c"}, "has no parent 'c'")],
)
def test_sites_with_impossible_parents_are_refused(parents, cause):
    found = {name: Site(name, "block", parent=parent) for name, parent in parents.items()}
    with pytest.raises(SpaceError, match=cause):
        Space(found, (Gene("a", ("a",), (Keep(1), Drop())),))


QUORUM = GeneSpec("block", drop=True, at_least=2)


@given(st.integers(0, 2**32 - 1))
def test_the_genes_of_a_quorum_stay_and_no_more_than_these(seed):
    space = build_space("s", sites(5), (QUORUM, *WIDTHS))
    X = np.random.default_rng(seed).integers(0, space.upper + 1, (8, space.n_var))
    blocks, asked = space.canonical(X)[:, :5], X[:, :5]
    assert ((blocks == 0).sum(axis=1) == np.maximum((asked == 0).sum(axis=1), 2)).all()
    assert (blocks <= asked).all()
    assert (space.canonical(space.canonical(X)) == space.canonical(X)).all()


def test_what_a_quorum_brings_back_is_the_first_that_went():
    space = build_space("s", sites(4), (QUORUM,))
    assert space.canonical(np.array([[1, 1, 1, 0], [1, 1, 1, 1]])).tolist() == [
        [0, 1, 1, 0],
        [0, 0, 1, 1],
    ]
    assert space.corners[1].tolist() == [0, 0, 1, 1]


def test_a_quorum_is_stored_and_changes_nothing_where_there_is_none():
    space = build_space("s", sites(4), (QUORUM,))
    assert Space.from_json(json.loads(json.dumps(space.to_json()))) == space
    assert space.quorums == (Quorum((0, 1, 2, 3), 2),)
    free = build_space("s", sites(4), (BLOCKS,))
    assert "quorums" not in free.to_json() and free.digest != space.digest


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (
            (GeneSpec("block", drop=True, at_least=4),),
            "Of 3 genes of the space 's' 4 are to stay. Lower `at_least`",
        ),
        ((BLOCKS, GeneSpec("mlp", drop=True, at_least=1)), "'layers.0.mlp', which no gene drops"),
    ],
)
def test_a_quorum_that_cannot_be_meant_is_refused(specs, message):
    with pytest.raises(SpaceError) as error:
        build_space("s", sites(3), specs)
    assert message in str(error.value)
