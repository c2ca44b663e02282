"""What a person gets without asking for anything is what they would keep.

Before quality had a zero, the default pick of these searches was a model that knew less than
unigram frequencies: perplexity 36.5 became 4,244 (sub-blocks) and 2,636 (depth and widths).
"""

import math

import pytest

import evoprune
from evoprune.core.quality import USEFUL

SPACES = ("decoder/subblocks", "decoder/depth_width", "decoder/uniform")


def check_default_pick(run):
    """Checks that the default pick is useful, or that it is said that nothing is."""
    assert run.config.export.picks == ("balanced",)
    chosen = run.front.choose("balanced")
    values = chosen.point.values
    if values["val_quality_kept"] < USEFUL:
        assert "No point keeps 80%" in chosen.warning
        assert all(point.values["val_quality_kept"] < USEFUL for point in run.front)
    guessing = math.exp(run.front.zero["report_nll"])
    for point in run.front:
        assert point.values["val_quality_kept"] > 0
        assert point.values["val_nll"] < run.front.zero["val_nll"]
    assert values["report_nll"] < math.log(guessing)
    exported = list(run.folder.models.iterdir())
    assert [folder.name for folder in exported] == [chosen.point.id]
    said = run.folder.log.read_text()
    assert f"pick      balanced: {chosen.point.id}, {chosen.rule}" in said


@pytest.mark.parametrize("first", ["kl", "nll"])
@pytest.mark.parametrize("space", SPACES)
def test_the_default_pick_of_a_small_model(space, first, tiny_config, taught_llama):
    sections = {"model": {"name_or_path": str(taught_llama)}, "space": space}
    sections |= {"objectives": [first, "params"], "search": {"n_eval": 24}}
    sections |= {"export": {"verify": False}, "columns": ["nll", "kl", "perplexity"]}
    run = evoprune.search(tiny_config(**sections), quiet=True)
    check_default_pick(run)


@pytest.mark.assets
@pytest.mark.parametrize("space", SPACES[:2])
def test_the_default_pick_of_readmes_example(space, assets_dir, tmp_path):
    folder = assets_dir / "lm_ref"
    settings = {
        "model": {"name_or_path": str(folder)},
        "data": {"type": "jsonl", "files": [str(folder / "documents.jsonl")]}
        | {"kind_field": "domain"},
        "space": space,
        "objectives": ["kl", "params", "worst_cluster_kl"],
        "search": {"n_eval": 60},
        "calibration": {"samples": 64, "clusters": 8},
        "controls": [],
        "output": str(tmp_path / "run"),
    }
    run = evoprune.search(settings, quiet=True)
    check_default_pick(run)
    assert run.front.pick("balanced").values["val_quality_kept"] >= USEFUL
    assert run.front.pick("balanced").values["report_perplexity"] < 100  # 36.5 of the dense model
