"""Which rung a pattern allows."""

import numpy as np
import pytest

from evoprune.core.export_rungs import equal_widths, in_words, kept_blocks, rung_of
from evoprune.core.genes import GeneSpec, build_space
from evoprune.core.space import Site

BLOCKS = GeneSpec("block", drop=True)
PARTS = [GeneSpec("attn", drop=True), GeneSpec("mlp", drop=True)]
HEADS, CHANNELS = GeneSpec("heads", keep=(0.75, 0.5)), GeneSpec("channels", keep=(0.5,))


def sites(layers: int = 3) -> list[Site]:
    found = []
    for i in range(layers):
        block, attn, mlp = f"layers.{i}", f"layers.{i}.attn", f"layers.{i}.mlp"
        found += [Site(block, "block"), Site(attn, "attn", parent=block)]
        found += [Site(f"{attn}.heads", "heads", 4, attn), Site(mlp, "mlp", parent=block)]
        found += [Site(f"{mlp}.channels", "channels", 8, mlp)]
    return found


@pytest.mark.parametrize(
    ("specs", "levels", "rung", "why"),
    [
        ([BLOCKS], [0, 0, 0], "homogeneous", "Nothing is removed"),
        ([BLOCKS], [1, 0, 1], "homogeneous", "Only whole blocks"),
        ([BLOCKS], [1, 1, 1], "dense-masked", "No block is left"),
        (PARTS, [0, 1, 0, 0, 1, 0], "homogeneous", "Only whole blocks"),
        (PARTS, [0, 1, 0, 0, 0, 0], "heterogeneous", "'layers.1.attn' is removed"),
        (PARTS, [1, 1, 1, 0, 0, 0], "heterogeneous", "'layers.0.attn' is removed"),
        ([HEADS], [1, 1, 1], "homogeneous", "3 heads"),
        ([HEADS], [1, 1, 2], "heterogeneous", "from 2 to 3 heads"),
        ([HEADS], [1, 1, 0], "heterogeneous", "from 3 to 4 heads"),
        ([BLOCKS, HEADS], [0, 1, 0, 2, 0, 2], "homogeneous", "2 heads"),
        ([HEADS, CHANNELS], [2, 2, 2, 1, 1, 1], "homogeneous", "2 heads, 4 channels"),
    ],
)
def test_rung(specs: list[GeneSpec], levels: list[int], rung: str, why: str) -> None:
    space = build_space("s", sites(), specs)
    found, reason = rung_of(space, space.pattern(np.array(levels)))
    assert found == rung
    assert why in reason and reason.endswith(".")


def test_bits_of_equal_count_are_homogeneous() -> None:
    space = build_space("s", sites(2), [GeneSpec("heads", bits=True)])
    pattern = space.pattern(np.array([1, 0, 0, 0, 0, 0, 1, 0]))
    assert rung_of(space, pattern)[0] == "homogeneous"
    assert equal_widths(space, pattern) == {"heads": 3}


def test_bits_that_remove_every_unit_leave_one() -> None:
    space = build_space("s", sites(2), [GeneSpec("heads", bits=True)])
    pattern = space.pattern(np.ones(8, dtype=int))
    assert rung_of(space, pattern)[0] == "homogeneous"
    assert equal_widths(space, pattern) == {"heads": 1}


def test_a_block_without_parts_is_dropped() -> None:
    space = build_space("s", sites(), PARTS)
    pattern = space.pattern(np.array([1, 0, 0, 1, 0, 0]))
    assert kept_blocks(space, pattern) == [1, 2]


def test_the_words_name_every_removal() -> None:
    space = build_space("s", sites(), [BLOCKS, HEADS])
    words = in_words(space, space.pattern(np.array([0, 1, 0, 2, 0, 2])))
    assert words == [
        "block removed (1): layers.1",
        "2 of 4 heads kept (2): layers.0.attn.heads, layers.2.attn.heads",
    ]
