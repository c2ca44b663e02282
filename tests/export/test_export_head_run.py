"""A searched head, from its run to a model that scores what it was scored with."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import evoprune
from evoprune import cli
from evoprune.config.schema import load_config
from evoprune.core.errors import EvopruneError, ExportError, ModelError
from evoprune.core.pattern import Pattern
from evoprune.data.examples import Examples
from evoprune.data.images import digits
from evoprune.evaluation.live import Live
from evoprune.export.measure import speed_lines
from evoprune.families.sparse_head.backbone import as_batch
from evoprune.families.sparse_head.family import SparseHead
from evoprune.folder.front import Front
from evoprune.planning.doctor import examine
from evoprune.progress.console import Console
from evoprune.run import Run, search
from evoprune.session import open_session, worker_of

ACCURACY = """
import json, sys
sys.modules["evoprune"] = None
import numpy as np, torch
torch.set_num_threads(1)
from modeling_head import load
model, data = load("."), np.load(sys.argv[1])
with torch.inference_mode():
    logits = model(torch.from_numpy(data["images"])).numpy()
np.save(sys.argv[2], logits)
print(json.dumps(float((logits.argmax(1) == data["labels"]).mean())))
"""


def small_settings(output: Path, **sections: Any) -> dict[str, Any]:
    """Returns the settings of a small search over features and neurons."""
    return {
        "model": {
            "family": "sparse_head",
            "factory": "tests.families.sparse_head.backbones:fire",
            "options": {"hidden": [8, 6]},
        },
        "data": {"type": "digits"},
        "task": "classification",
        "calibration": {"samples": 40, "clusters": 2},
        "validation": {"samples": 40},
        "report": {"samples": 288},
        "space": "sparse_head/both",
        "objectives": ["accuracy", "params"],
        "search": {"algorithm": {"type": "nsga2", "pop_size": 6}, "n_eval": 12, "warm_starts": []},
        "controls": [],
        "workers": {"backend": "local"},
        "output": str(output),
        **sections,
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Returns a small search whose knee was exported."""
    return search(small_settings(tmp_path_factory.mktemp("runs") / "head"), quiet=True)


def test_the_export_scores_on_report_what_was_scored(run: Run, tmp_path: Path):
    point = run.front.pick("knee")
    folder = run.folder.models / point.id
    report = digits().inside["report"]
    np.savez(tmp_path / "report", images=as_batch(report.images).numpy(), labels=report.labels)
    places = [str(tmp_path / "report.npz"), str(tmp_path / "logits.npy")]
    told = subprocess.run(
        [sys.executable, "-B", "-c", ACCURACY, *places], cwd=folder, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout) == point.values["report_accuracy"]

    worker, pattern = worker_of(run.config, run.folder), Pattern.from_json(point.pattern)
    examples = Examples.load(run.folder.calibration / "report.safetensors")
    (clean,) = (
        one.logits
        for one in worker.runner.outputs([worker.space.options(pattern)], examples)
        if one.name == "clean"
    )
    # All of the split is scored, in its order.
    logits, scored = np.load(tmp_path / "logits.npy"), clean[0].numpy()
    assert np.abs(logits - scored).max() < 1e-4 * np.abs(scored).max()


def test_every_point_of_a_front_is_exported_with_the_parameters_it_costs(run: Run, tmp_path: Path):
    for point in run.front:
        done = run.export(point.id, tmp_path / point.id, verify=False)
        assert done.rung == "standalone"
        assert done.params == point.values["params"]
        network = evoprune.load(done.path)
        assert sum(p.numel() for p in network.parameters()) == done.params
    assert network.classes == [str(digit) for digit in range(8)]


def test_an_export_is_verified_and_measured(run: Run):
    done = run.export("knee", measure=True)
    record = json.loads((done.path / "evoprune.json").read_text())
    assert done.max_error is not None and done.max_error < 1e-5
    assert record["speed"]["unit"] == "images" and record["speed"] == done.speed
    said = "\n".join(speed_lines(done.speed))
    assert "a batch: " in said and "images per second: " in said and "at their peak: " in said
    assert record["provenance"]["pick"] == "knee"
    assert record["base"]["name"] == "tests.families.sparse_head.backbones:fire"


def test_a_head_that_comes_out_otherwise_than_scored_is_refused(run: Run, tmp_path: Path):
    point = run.front.pick("knee")
    values = point.values | {"val_accuracy": point.values["val_accuracy"] - 0.025}
    other = replace(run, front=Front((replace(point, values=values),), run.front.goals))
    with pytest.raises(ExportError, match="its accuracy on validation is"):
        other.export(point.id, tmp_path / "out")
    other.export(point.id, tmp_path / "out", verify=False)


def test_doctor_names_the_rung_of_heads(run: Run):
    _, rows = examine(run.folder.path)
    said = [why for what, why in rows if what.startswith("export")]
    assert len(said) == len(run.front)
    assert all(why.startswith("standalone: The backbone could be traced") for why in said)


def test_a_base_of_another_version_is_refused(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="another version"):
        SparseHead().read(tmp_path, "float32", "cpu")


def test_values_that_could_not_be_told_are_still_not_told(tmp_path: Path):
    settings = small_settings(tmp_path / "run", validation={"samples": 10}, report={"samples": 20})
    settings["calibration"] = {"samples": 20, "clusters": 2}
    drawn = np.random.default_rng(0).random((200, 8, 8)).astype(np.float32)
    pairs = [(image, i % 3) for i, image in enumerate(drawn)]
    # Handed over from Python nothing lies outside, and the task measures ood_auroc all the same.
    run = search(settings, data=pairs, quiet=True)
    assert np.isnan(run.front.points[0].values["val_ood_auroc"])
    assert not run.failed and (run.folder.path / "report.html").is_file()
    assert run.export("knee", tmp_path / "model").max_error is not None


HEAD_CANNOT = {
    "kl": r"'classification' does not measure 'kl', which is of 'causal_lm'.*Choose one of: accur",
    "perplexity": r"'classification' does not measure 'perplexity'",
    "kv_bytes": r"'kv_bytes' is 0 for every pattern: this network has no kv_bytes.*mean 'bytes'",
    "ood_auroc": r"cannot be scored on the search split: ood_auroc is nan",
}


@pytest.mark.parametrize("objective", HEAD_CANNOT)
def test_what_a_head_cannot_be_asked_is_refused_before_the_search(tmp_path: Path, objective: str):
    settings = small_settings(tmp_path / "run", objectives=["accuracy", objective])
    settings |= {"calibration": {"samples": 20, "clusters": 2}, "validation": {"samples": 10}}
    pairs = [(image, i % 3) for i, image in enumerate(np.random.default_rng(0).random((200, 8, 8)))]
    live = Live.of(None, pairs, None)
    config = load_config(settings | {"report": {"samples": 20}}, (), live.named_in)
    with pytest.raises(EvopruneError, match=HEAD_CANNOT[objective]):
        open_session(config, Console(stream=None), live)


def test_a_failed_export_is_said_and_loses_neither_report_nor_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def refuse(*arguments: Any, **settings: Any) -> None:
        raise ExportError("The disk is full.", "Free it.")

    monkeypatch.setattr("evoprune.export.head.export_head", refuse)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(small_settings(tmp_path / "run")))
    monkeypatch.setattr(sys, "argv", ["evoprune", "search", str(path)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    assert "the export of 'balanced' failed: The disk is full. Free it." in capsys.readouterr().out
    assert (tmp_path / "run" / "report.html").is_file()
