"""A whole search of each tiny model, its resumption, and its front."""

import json
import sys

import pytest
import yaml

import evoprune
from evoprune import cli
from evoprune.core.errors import ConfigError, RunFolderError
from evoprune.folder.journal import read_journal
from evoprune.many import compare, search_seeds, seeds_of


def evaluations(run):
    """Returns what a run's journal holds, but for its events."""
    _, records = read_journal(run.folder.journal)
    return [record for record in records if record["type"] == "evaluation"]


@pytest.mark.parametrize("space", ["decoder/depth", "decoder/subblocks"])
@pytest.mark.parametrize("model", ["tiny_llama", "tiny_llama_untied"])
def test_a_search_ends_in_a_front_and_resumes_to_the_same_bytes(model, space, tiny_config, request):
    folder = request.getfixturevalue(model)
    settings = tiny_config(model={"name_or_path": str(folder)}, space=space)
    run = evoprune.search(settings, quiet=True)
    before = run.folder.front_csv.read_bytes(), evaluations(run)
    again = evoprune.search(settings, quiet=True)
    assert (again.folder.front_csv.read_bytes(), evaluations(again)) == before
    assert len(run.front) >= 3
    assert 0.0 in run.front.array("search")[:, 1]
    assert evoprune.Run.load(run.folder.path).front == again.front


def test_the_search_is_extended_in_place_and_controls_may_be_added(tiny_config):
    settings = tiny_config(space="decoder/subblocks")
    evoprune.search(settings, quiet=True)
    more = {"search.n_eval": 20, "controls": ["uniform", "last_k", "greedy", "random"]}
    run = evoprune.search(settings, more, quiet=True)
    written = {path.stem for path in run.folder.controls.glob("*.csv")}
    assert written == {"uniform", "last_k", "greedy", "random"}
    assert evoprune.Run.load(run.folder.path).config.search.n_eval == 20


def test_a_folder_in_which_nothing_was_evaluated_takes_another_search(tiny_config):
    with pytest.raises(evoprune.EvopruneError, match="No pattern of the space"):
        evoprune.search(tiny_config(constraints={"params": "<=5%"}), quiet=True)
    run = evoprune.search(tiny_config(constraints={"params": "<=80%"}), quiet=True)
    assert max(point.values["params"] for point in run.front) <= 0.8 * run.front.dense["params"]


def test_a_damaged_configuration_of_a_run_is_told(tiny_config):
    run = evoprune.search(tiny_config(), quiet=True)
    text = run.folder.config.read_text()
    for damage in ("", "identity: 3", text.replace("n_eval: 12", "n_eval: x")):
        run.folder.config.write_text(damage)
        with pytest.raises(RunFolderError, match=r"config.yaml' is damaged"):
            evoprune.Run.load(run.folder.path)


def test_a_run_without_a_front_says_how_far_it_is_and_how_to_go_on(tiny_config):
    folder = evoprune.search(tiny_config(), quiet=True).folder
    folder.front_json.unlink()
    error = folder.unfinished()
    assert error.cause.endswith("so it has no front: 12 evaluations of n_eval=12.")
    assert error.remedy == f"Go on with it: evoprune search {folder.config}"
    evoprune.search(folder.config, quiet=True)
    assert evoprune.Run.load(folder.path).front


def test_a_front_makes_an_ensemble_and_a_report(tiny_config, monkeypatch, capsys):
    run = evoprune.search(tiny_config(), quiet=True)
    place = str(run.folder.path)
    monkeypatch.setattr(sys, "argv", ["evoprune", "ensemble", place, "--budget", "none"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert "members" in said and "equal_cost" in said
    assert list((run.folder.path / "ensembles").glob("*/ensemble.json"))
    assert "The model now" in (run.folder.path / "report.html").read_text(encoding="utf-8")


def test_seeds_make_runs_that_are_merged_and_compared(tiny_config, tmp_path):
    settings = tiny_config(output=str(tmp_path / "seeds"))
    runs = search_seeds(settings, [], seeds_of("0-1"), quiet=True)
    header, rows = compare([run.folder.path for run in runs])
    assert [run.folder.path.name for run in runs] == ["seed-0", "seed-1"]
    assert header[0] == "run" and rows[-1][0] == "mean ± std"
    assert (tmp_path / "seeds" / "super_front.csv").is_file()


@pytest.mark.parametrize("text", ["", "4-1", "a", "1,,2", "-3", "0-99999999"])
def test_seeds_that_cannot_be_read(text):
    with pytest.raises(ConfigError, match="cannot be read"):
        seeds_of(text)


@pytest.mark.parametrize(
    "model", [pytest.param("tiny_llama", marks=pytest.mark.slow), "tiny_llama_untied"]
)
def test_every_verb_on_either_model(model, tiny_config, tmp_path, monkeypatch, capsys, request):
    folder, config = request.getfixturevalue(model), tmp_path / "mine.yaml"
    config.write_text(yaml.safe_dump(tiny_config(model={"name_or_path": str(folder)})))
    run, heard = str(tmp_path / "run"), {}
    for verb in (
        ["plan", str(config)],
        ["calibrate", str(config)],
        ["search", str(config), f"output={run}"],
        ["front", run],
        ["export", run, "-p", "sparsity>=0.2", "-o", str(tmp_path / "model")],
        ["doctor", run],
        ["report", run],
        ["ls", "sites", str(folder)],
    ):
        monkeypatch.setattr(sys, "argv", ["evoprune", *verb])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        heard[verb[0]] = capsys.readouterr().out
        assert stop.value.code == 0, (verb, heard[verb[0]])
    assert "one dense pass" in heard["plan"] and "purity" in heard["calibrate"]
    assert "verified in a fresh process" in heard["export"] and "layers.0.mlp" in heard["ls"]
    assert "evaluations" in heard["doctor"] and "report split" in heard["front"]
    assert "of the algorithm itself" in heard["search"]
    box = json.loads((tmp_path / "run/manifest.json").read_text())["hypervolume"]
    # From all to nothing of what can be removed, each in its own direction.
    assert (box["reference"]["sparsity"], box["ideal"]["sparsity"]) == (0.0, 1.0)
    assert 0.0 == box["ideal"]["kl"] < box["reference"]["kl"]


def test_every_point_of_a_front_is_exported_at_once(tiny_config, capsys):
    run = evoprune.search(tiny_config(), quiet=True)

    assert (
        cli.app(["export", str(run.folder.path), "--all", "--no-verify"], standalone_mode=False)
        is None
    )

    written = {path.parent.name for path in run.folder.models.glob("*/model.safetensors")}
    assert written == {point.id for point in run.front}
    with pytest.raises(ConfigError, match="Both --all and --pick"):
        cli.app(["export", str(run.folder.path), "--all", "-p", "knee"], standalone_mode=False)
