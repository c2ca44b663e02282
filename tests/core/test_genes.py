"""From the rules of a space file to genes."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from evoprune.core.errors import SpaceError
from evoprune.core.genes import GeneSpec, build_space, matches
from evoprune.core.pattern import Drop, Keep
from evoprune.core.space import Site
from evoprune.testing.synthetic import BLOCKS, WIDTHS, sites


def genes(*specs, layers=2, **settings):
    return build_space("s", sites(layers), specs, **settings).genes


def test_globs_and_regular_expressions_match_whole_names():
    assert matches("layers.10", ["layers.1?"])
    assert matches("layers.10", ["mlp", r"re:layers\.\d+"])
    assert not matches("layers.10.mlp", [r"re:layers\.\d+"])
    assert not matches("layers.10", [])


def test_include_and_exclude_of_rule_and_space_all_count():
    spec = GeneSpec("mlp", drop=True, include=("*.1.*", "*.2.*"), exclude=("*.2.*",))
    names = [gene.name for gene in genes(spec, layers=4)]
    assert names == ["layers.1.mlp"]
    outer = genes(BLOCKS, layers=4, include=("layers.[0-2]",), exclude=("layers.1",))
    assert [gene.name for gene in outer] == ["layers.0", "layers.2"]


def test_options_go_from_dense_to_least():
    assert genes(GeneSpec("channels", keep=(0.4, 0.7)))[0].options == (Keep(6), Keep(4), Keep(2))
    assert genes(BLOCKS)[0].options == (Keep(1), Drop())


@given(
    st.lists(st.floats(0, 1, exclude_min=True), max_size=5).map(tuple),
    st.integers(1, 9),
    st.integers(2, 60),
)
def test_counts_fall_stay_in_range_and_are_rounded(keep, round_to, units):
    spec = GeneSpec("channels", keep=(*keep, 1 / units), round_to=round_to)
    found = [Site("a", "channels", units), Site("b", "block")]
    gene = build_space("s", found, [spec, BLOCKS]).genes[0]
    assume(gene.sites == ("a",))  # rounding may leave a single option
    counts = [option.units for option in gene.options if isinstance(option, Keep)]
    assert counts == sorted(set(counts), reverse=True)
    assert counts[0] == units
    assert all(min(round_to, units) <= count for count in counts)
    assert all(count % round_to == 0 for count in counts[1:])


def test_sites_with_a_single_option_are_no_genes():
    with pytest.raises(SpaceError, match="has no genes"):
        genes(GeneSpec("channels", keep=(0.99,)))


def test_bits_give_every_unit_a_variable():
    gene = genes(GeneSpec("channels", bits=True))[0]
    assert (gene.bits, gene.width, gene.levels, gene.options) == (6, 6, 2, ())


def test_a_glob_ties_the_sites_it_matches():
    spec = GeneSpec("heads", keep=(0.5,), tie=("layers.[01].*", "layers.3.*"))
    found = genes(spec, layers=4)
    assert [gene.name for gene in found] == [
        "layers.0.attn.heads+1",
        "layers.2.attn.heads",
        "layers.3.attn.heads",
    ]
    assert [len(gene.sites) for gene in found] == [2, 1, 1]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (GeneSpec("blok", drop=True), "no sites of kind 'blok'. Did you mean 'block'?"),
        (
            GeneSpec("block", drop=True, include=("layer.0",)),
            "'layer.0' matches none of the 2 sites of kind 'block'. Did you mean 'layers.0'?",
        ),
        (GeneSpec("block", drop=True, exclude=("x*",)), "'x*' matches none of the 2 sites"),
        (GeneSpec("mlp", drop=True, tie=("*.7.*",)), "'*.7.*' matches none of the 2 sites"),
        (GeneSpec("block", drop=True, include=("re:(",)), "'re:(' is not a regular expression"),
        (GeneSpec("block", bits=True), "have one unit, so bits say nothing of it"),
        (GeneSpec("heads", drop=True), "'drop' is set for the 4 heads of 'layers.0.attn.heads'."),
        (GeneSpec("block"), "The search space 's' has no genes."),
    ],
)
def test_rules_that_cannot_be_meant_are_refused(spec, message):
    with pytest.raises(SpaceError) as error:
        genes(spec)
    assert message in str(error.value)


def test_sites_of_unequal_size_cannot_be_tied():
    found = [Site("a", "channels", 4), Site("b", "channels", 6)]
    with pytest.raises(SpaceError, match=r"Sites with \[4, 6\] units cannot be tied"):
        build_space("s", found, [GeneSpec("channels", keep=(0.5,), tie=("*",))])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": (0.5, 0.0)}, "shares lie in"),
        ({"keep": (1.5,)}, "shares lie in"),
        ({"round_to": 0}, "round_to is 0"),
        ({"bits": True, "drop": True}, "bits stands alone"),
        ({"at_least": -1, "drop": True}, "at_least is -1"),
        ({"at_least": 1}, "at_least needs drop"),
    ],
)
def test_rules_with_impossible_values_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        GeneSpec("channels", **settings)


def test_several_rules_make_their_genes_in_order():
    kinds = [gene.sites[0].rpartition(".")[2] for gene in genes(BLOCKS, *WIDTHS)]
    assert kinds == ["0", "1", "heads", "heads", "channels", "channels"]
