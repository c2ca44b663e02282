"""The rung that a front says is the rung that the export takes."""

from pathlib import Path

import pytest

import evoprune
from evoprune.testing import tiny_decoder


@pytest.fixture(scope="module")
def odd_heads(tmp_path_factory):
    """Returns a Llama of which three key-value groups of four are no width that its class takes."""
    return tiny_decoder(tmp_path_factory.mktemp("odd") / "model", layers=2, heads=(8, 4))


@pytest.mark.parametrize("adapt", [None, "bias_compensation"])
def test_a_front_knows_the_rung_of_its_exports(adapt, odd_heads, tiny_config):
    heads = {"kind": "heads", "keep": [0.75], "tie": ["*"]}
    space = {"family": "decoder", "genes": [heads]}
    sections = {"model": {"name_or_path": str(odd_heads)}, "space": space}
    sections |= {"adapt": adapt} if adapt else {}
    run = evoprune.search(tiny_config(**sections), quiet=True)
    said = {point.id: point.rung for point in run.front}
    assert "heterogeneous" in said.values()
    for name, rung in said.items():
        made = run.export(name, Path(run.folder.path) / "x" / name, verify=False)
        assert (made.path.name, made.rung) == (name, rung)
