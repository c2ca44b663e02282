"""What the command line says of an export that is measured, and of an ensemble."""

import json

import pytest

import evoprune
from evoprune import cli
from evoprune.ensemble.ensemble import Ensemble


@pytest.fixture
def run(tiny_config, monkeypatch):
    monkeypatch.setattr("evoprune.ensemble.compare.N_BOOT", 40)
    return evoprune.search(tiny_config(), quiet=True)


def test_measuring_an_export_prints_what_the_card_says(run, tmp_path, capsys):
    folder = tmp_path / "model"
    cli.app(
        ["export", str(run.folder.path), "-o", str(folder), "--measure", "--no-verify"],
        standalone_mode=False,
    )
    said = capsys.readouterr().out
    speed = json.loads((folder / "evoprune.json").read_text())["speed"]
    assert f"  prompt: {speed['prompt_ms']['dense']:.3g} ms dense" in said
    assert f"decoded tokens per second: {speed['tokens_per_s']['dense']:,.0f} dense" in said
    assert "  weights in memory: " in said and "times as fast [" in said
    assert speed["hardware"] in said


def test_an_export_that_is_not_measured_has_no_speed(run, tmp_path, capsys):
    assert run.export(run.front.points[0].id, tmp_path / "model", verify=False).speed is None
    cli.app(["export", str(run.folder.path), "--no-verify"], standalone_mode=False)
    assert "ms dense" not in capsys.readouterr().out


def test_an_ensemble_ends_with_its_verdict(run, capsys):
    cli.app(["ensemble", str(run.folder.path), "--name", "pair"], standalone_mode=False)
    made = Ensemble.read(run.folder.path / "ensembles" / "pair")
    assert capsys.readouterr().out.splitlines()[-1] == made.verdict
    assert made.verdict.endswith("of its parameters.")
