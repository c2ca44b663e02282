"""A heterogeneous export, scored by plain transformers, has the search's own scores."""

import subprocess
import sys

import numpy as np
import pytest

from evoprune.core.export_rungs import rung_of
from evoprune.core.pattern import Pattern
from evoprune.data.examples import Examples
from evoprune.run import search
from evoprune.session import space_of

# Runs without evoprune: the export alone, its own modelling file, and the report's tokens.
SCORE = """
import sys
sys.modules["evoprune"] = None
import numpy as np, torch
from transformers import AutoModelForCausalLM
folder, tokens, lengths = sys.argv[1], np.load(sys.argv[2]), np.load(sys.argv[3])
model = AutoModelForCausalLM.from_pretrained(
    folder, trust_remote_code=True, dtype=torch.float32, local_files_only=True
).eval()
lost = right = count = 0
for row, length in zip(tokens, lengths):
    ids = torch.from_numpy(row[None, :length])
    with torch.inference_mode():
        logits = model(ids).logits[0, :-1]
    lost += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
    right += int((logits.argmax(-1) == ids[0, 1:]).sum())
    count += int(length) - 1
print(type(model).__name__, lost / count, right / count)
"""


@pytest.mark.slow
def test_an_export_of_unlike_layers_scores_as_in_the_search(tmp_path):
    settings = {
        "model": {"name_or_path": "experiments/quickstart/model"},
        "data": "experiments/quickstart/data.yaml",
        "calibration": {"samples": 8, "clusters": 2, "pool": 16},
        "space": "decoder/depth_width",
        "objectives": ["token_accuracy", "params"],
        "columns": ["nll"],
        "search": {"algorithm": {"type": "random", "batch": 8}, "n_eval": 8, "warm_starts": []},
        "validation": {"samples": 8},
        "report": {"samples": 8},
        "controls": [],
        "export": {"picks": []},
        "workers": {"backend": "local"},
        "output": str(tmp_path / "run"),
    }
    run = search(settings, quiet=True)
    dense = run.front.dense["report_nll"]
    space = space_of(run.folder)
    unlike = [
        point
        for point in run.front
        if rung_of(space, Pattern.from_json(point.pattern))[0] == "heterogeneous"
    ]
    point = max(unlike, key=lambda point: point.values["report_nll"])
    assert point.values["report_nll"] > dense + 0.1
    made = run.export(point.id, dtype="float32")
    assert made.rung == "heterogeneous"
    clean = Examples.load(run.folder.calibration / "report.safetensors").clean.arrays
    np.save(tmp_path / "tokens.npy", clean["tokens"])
    np.save(tmp_path / "lengths.npy", clean["lengths"])

    script = [sys.executable, "-c", SCORE, made.path, tmp_path / "tokens.npy"]
    found = subprocess.run(
        [*map(str, script), str(tmp_path / "lengths.npy")], capture_output=True, text=True
    )

    assert found.returncode == 0, found.stderr
    name, nll, accuracy = found.stdout.split()
    assert name.startswith("Evoprune")
    assert float(nll) == pytest.approx(point.values["report_nll"], abs=1e-3)
    assert float(accuracy) == pytest.approx(point.values["report_token_accuracy"], abs=1e-3)
