"""README's worked example on a real Llama of 6.4 M parameters."""

import re
from pathlib import Path

import pytest
import yaml

import evoprune

README = Path(__file__).resolve().parents[1] / "README.md"
SMALLER = {
    "search": {"algorithm": {"type": "nsga2", "pop_size": 8}, "n_eval": 24},
    "calibration": {"samples": 12, "clusters": 4, "pool": 60},
    "validation": {"samples": 12},
    "report": {"samples": 12},
    "workers": {"backend": "local"},
    "controls": ["uniform"],
}


@pytest.mark.assets
@pytest.mark.timeout(900)
def test_the_worked_example_of_the_readme(assets_dir, tmp_path):
    block = re.search(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    text = block.group(1).replace("path/to/lm_ref", str(assets_dir / "lm_ref"))
    run = evoprune.search(
        yaml.safe_load(text) | SMALLER | {"output": str(tmp_path / "run")}, quiet=True
    )
    exported = evoprune.load(run.folder.models / run.front.pick("balanced").id)
    budget = 0.9 * run.front.dense["params"]
    assert all(point.values["params"] <= budget * (1 + 1e-9) for point in run.front)
    assert (
        sum(p.numel() for p in exported.parameters()) == run.front.pick("balanced").values["params"]
    )
