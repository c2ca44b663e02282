"""Both quickstarts, as they are shipped, with fewer evaluations: a front, exports, a report."""

import json

import pytest

from evoprune.run import search

FEWER = {
    "experiments/quickstart/config.yaml": {
        "search.n_eval": 24,
        "calibration.pool": 60,
        "calibration.samples": 16,
        "validation.samples": 12,
        "report.samples": 12,
    },
    "experiments/quickstart_vision/config.yaml": {"search.n_eval": 36},
}


@pytest.mark.slow
@pytest.mark.parametrize("config", FEWER)
def test_a_quickstart_searches_exports_and_reports(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {**FEWER[config], "output": "run", "workers.backend": "local"}

    run = search(config, settings, quiet=True)

    summary = json.loads(run.folder.summary.read_text())
    assert summary["n_eval"] == FEWER[config]["search.n_eval"]
    assert len(run.front) > 1
    assert 0 < summary["hypervolumes"]["search"]["report"] < 1
    exported = {path.parent.name for path in run.folder.models.glob("*/model.safetensors")}
    assert exported == {run.front.pick(name).id for name in run.config.export.picks} != set()
    assert "<html" in (run.folder.path / "report.html").read_text(encoding="utf-8")
