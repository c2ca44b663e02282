"""The homogeneous part of a space: nothing in it is anything else, and nothing is missing."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evoprune.config.sections import SpaceConfig, load_space
from evoprune.core.errors import SpaceError
from evoprune.core.export_rungs import equal_widths, kept_blocks, rung_of
from evoprune.core.genes import GeneSpec, build_space
from evoprune.core.pattern import Drop, Keep
from evoprune.core.registry import ALGORITHMS
from evoprune.core.space import Gene, Quorum, Site, Space
from evoprune.core.tying import homogeneous_part
from evoprune.searching.controls import RULES
from evoprune.searching.repair import check_budgets, repair
from evoprune.searching.starts import stratified
from evoprune.testing.algorithms import asked
from evoprune.testing.synthetic import BLOCKS, PARTS, WIDTHS, problem, sites

BITS = GeneSpec("channels", bits=True)
SPACES = {
    "blocks": (BLOCKS,),
    "parts": PARTS,
    "blocks and parts": (BLOCKS, *PARTS),
    "widths": WIDTHS,
    "blocks and widths": (BLOCKS, *WIDTHS),
    "parts and widths": (*PARTS, WIDTHS[0]),
    "pairs of blocks": (GeneSpec("block", drop=True, tie=("layers.[01]",)), WIDTHS[1]),
    "all but the first": (BLOCKS, WIDTHS[0], replace(WIDTHS[1], exclude=("layers.0.*",))),
    "never the first": (replace(BLOCKS, exclude=("layers.0",)), WIDTHS[0]),
    "levels in common": (
        GeneSpec("heads", keep=(0.75, 0.5), include=("layers.0.*",)),
        GeneSpec("heads", keep=(0.5, 0.25), exclude=("layers.0.*",)),
        BLOCKS,
    ),
}
# Without a block that can go, the others could be narrower still: not found, as the docstring says.
PARTIAL = {"all but the first", "levels in common"}
# On the way inside the budgets, or to learn what single levels harm.
OUTSIDE = {"greedy", "additive"}


def everything(space: Space) -> list:
    grid = np.indices(space.upper + 1).reshape(space.n_var, -1).T
    return space.patterns(np.unique(space.canonical(grid), axis=0))


def shape(space: Space, pattern) -> tuple:
    return tuple(kept_blocks(space, pattern)), tuple(sorted(equal_widths(space, pattern).items()))


@pytest.mark.parametrize("name", sorted(set(SPACES) - PARTIAL))
def test_it_holds_the_homogeneous_patterns_all_of_them_and_no_others(name):
    space = build_space("s", sites(3), SPACES[name])
    homogeneous = [p for p in everything(space) if rung_of(space, p)[0] == "homogeneous"]
    part = homogeneous_part(space)
    found = [shape(part, pattern) for pattern in everything(part)]
    assert len(set(found)) == len(found)
    assert set(found) == {shape(space, pattern) for pattern in homogeneous}


@pytest.mark.parametrize("specs", [*SPACES.values(), (BLOCKS, BITS)])
def test_three_hundred_random_patterns_are_homogeneous(specs):
    part = homogeneous_part(build_space("s", sites(4), specs))
    X = np.random.default_rng(0).integers(0, part.upper + 1, (300, part.n_var))
    assert {rung_of(part, pattern)[0] for pattern in part.patterns(X)} == {"homogeneous"}
    assert {rung_of(part, pattern)[0] for pattern in part.patterns(part.corners)} == {"homogeneous"}


def test_a_width_that_one_block_does_not_offer_is_no_width():
    part = homogeneous_part(build_space("s", sites(3), SPACES["all but the first"]))
    assert [gene.name for gene in part.genes][3:] == ["layers.0.attn.heads+2"]
    levels = homogeneous_part(build_space("s", sites(3), SPACES["levels in common"]))
    assert levels.genes[-1].options == (Keep(4), Keep(2))


def test_the_shipped_space_is_its_own_homogeneous_part():
    uniform, depth_width = (
        SpaceConfig.model_validate(load_space(f"decoder/{name}"))
        for name in ("uniform", "depth_width")
    )
    big = [Site(s.name, s.kind, {"heads": 8, "channels": 64}.get(s.kind, 1), s.parent)
           for s in sites(6)]  # fmt: skip
    space, part = uniform.build(big), homogeneous_part(depth_width.build(big))
    assert homogeneous_part(space) == space
    assert part.quorums == space.quorums == (Quorum((0, 1, 2, 3, 4, 5), 1),)
    assert [gene.sites for gene in part.genes] == [gene.sites for gene in space.genes]
    assert set(part.genes[-1].options) < set(space.genes[-1].options)


@pytest.mark.parametrize("name", ALGORITHMS.names())
@pytest.mark.parametrize("bounds", [{}, {"params": "<=60%"}, {"params": "<=300", "flops": ">=15%"}])
def test_whatever_searches_asks_for_homogeneous_candidates_inside_the_budgets(name, bounds):
    made = problem(5, (BLOCKS, *WIDTHS), **bounds)
    made = replace(made, space=homogeneous_part(made.space))
    generations = asked(ALGORITHMS.load(name)(), made)
    X = np.concatenate(generations)
    assert {rung_of(made.space, p)[0] for p in made.space.patterns(X)} == {"homogeneous"}
    if name not in OUTSIDE:
        assert not made.budget_violation(X).any()
    assert len(X) >= 5 or name in RULES


@settings(max_examples=20)
@given(st.integers(25, 99), st.integers(0, 2**32 - 1))
def test_repair_keeps_what_it_repairs_homogeneous(percent, seed):
    made = problem(5, (BLOCKS, *WIDTHS), params=f"<={percent}%")
    made = replace(made, space=homogeneous_part(made.space))
    check_budgets(made)
    rng = np.random.default_rng(seed)
    X = repair(made, stratified(made.space, 12, rng), rng)
    assert not made.budget_violation(X).any()
    assert {rung_of(made.space, p)[0] for p in made.space.patterns(X)} == {"homogeneous"}


def test_a_quorum_of_the_space_still_holds():
    specs = (replace(BLOCKS, at_least=3), *WIDTHS)
    part = homogeneous_part(build_space("s", sites(5), specs))
    assert part.quorums == (Quorum((0, 1, 2, 3, 4), 3),)
    fixed = (replace(BLOCKS, at_least=3, exclude=("layers.[01]",)),)
    assert homogeneous_part(build_space("s", sites(5), fixed)).quorums == (Quorum((0, 1, 2), 3),)


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ((PARTS[0],), "'s' but the dense one is homogeneous: no block can go as a whole"),
        ((GeneSpec("block", drop=True, tie=("*",)),), "but the dense one is homogeneous"),
        ((replace(WIDTHS[0], exclude=("layers.1.*",)),), "but the dense one is homogeneous"),
    ],
)
def test_a_space_of_which_only_the_dense_pattern_remains_is_refused(specs, message):
    with pytest.raises(SpaceError, match=message):
        homogeneous_part(build_space("s", sites(3), specs))


def test_networks_without_blocks_have_no_such_rung():
    found = {"f": Site("f", "features", 4)}
    space = Space(found, (Gene("f", ("f",), bits=4),), "head")
    with pytest.raises(SpaceError, match=r"'head' lie in no blocks.*Leave constraints\.rung out"):
        homogeneous_part(space)


def test_blocks_of_unlike_widths_are_refused():
    odd = [replace(s, units=8) if s.name == "layers.1.mlp.channels" else s for s in sites(2)]
    with pytest.raises(SpaceError, match="Not even the whole model is homogeneous: The blocks"):
        homogeneous_part(build_space("s", odd, (BLOCKS,)))


def test_parts_are_dropped_together():
    part = homogeneous_part(build_space("s", sites(2), PARTS))
    assert part.genes[1] == Gene(
        "layers.1.attn+1", ("layers.1.attn", "layers.1.mlp"), (Keep(1), Drop())
    )
