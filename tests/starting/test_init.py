"""``evoprune init``: what it writes runs, and what it cannot use it says in a sentence."""

import re
import sys
from types import SimpleNamespace

import pytest
import yaml

import evoprune
from evoprune import cli
from evoprune.config.schema import load_config
from evoprune.core.errors import EvopruneError
from evoprune.starting import start
from evoprune.starting.start import Request, init


@pytest.fixture(autouse=True)
def one_worker(monkeypatch):
    """Keeps evaluations in this process."""
    monkeypatch.setattr("evoprune.evaluation.workers.fitting", lambda config: 1)


@pytest.fixture
def place(tmp_path, monkeypatch, tiny_llama, tiny_texts):
    """An empty working folder, with a model and texts beside it."""
    (tmp_path / "work").mkdir()
    (tmp_path / "model").symlink_to(tiny_llama)
    (tmp_path / "texts.jsonl").write_text(tiny_texts.read_text())
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def refused(*words, **options):
    """Returns what is said of a request that cannot be met."""
    with pytest.raises(EvopruneError) as caught:
        init(Request(*words, **options), say=lambda line: None)
    return str(caught.value)


def test_what_it_writes_runs_and_says_why(place, monkeypatch, capsys):
    monkeypatch.setattr(start, "fitting", lambda *all: start.usual(all[2], False))
    monkeypatch.setattr(sys, "argv", ["evoprune", "init", "../model", "../texts.jsonl"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capsys.readouterr().out
    assert stop.value.code == 0, said
    assert re.search(r"4 blocks, [\d,]+ parameters, context 256", said)
    assert "the text is in 'text', kinds in 'kind'" in said and "120 documents" in said
    assert said.endswith(
        "next      evoprune plan model.yaml\n          evoprune search model.yaml\n"
    )
    config = load_config("model.yaml")
    assert [part.type for part in config.objectives] == ["kl", "params", "worst_cluster_kl"]
    assert config.data.source.options["kind_field"] == "kind"
    changes = {"search.n_eval": 6, "controls": [], "export.picks": []}
    run = evoprune.search("model.yaml", changes, quiet=True)
    assert len(run.front) > 0


def test_every_setting_has_its_reason(place, monkeypatch):
    space = SimpleNamespace(size=4096)
    session = SimpleNamespace(problem=SimpleNamespace(space=space))
    monkeypatch.setattr(start, "tried", lambda config: SimpleNamespace(session=session))
    monkeypatch.setattr(start, "_seconds", lambda trial, samples, n: 20 + 0.01 * samples * n)
    init(Request("../model", "../texts.jsonl", minutes=5), say=lambda line: None)
    text = (place / "model.yaml").read_text()
    settings = [line for line in text.splitlines() if re.match(r"\s*(- |\w+: )", line)]
    plain = [line.split(":")[0].strip() for line in settings if "#" not in line]
    assert plain == ["type", "files"] and len(settings) > 18
    assert yaml.safe_load(text)["space"] == "decoder/subblocks"
    assert "decoder/uniform" in text and "evoprune ls keys" in text


def test_a_file_is_never_overwritten(place):
    (place / "model.yaml").write_text("mine: true\n")
    assert refused("../model") == (
        "There already is a file 'model.yaml'. Name another by -o, or remove it."
    )
    assert (place / "model.yaml").read_text() == "mine: true\n"


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (("../modl",), {}, "There is no model folder '../modl'. Did you mean '../model'?"),
        (("../model", "../texts.jsnl"), {}, "Did you mean '../texts.jsonl'?"),
        (("../model", "digits"), {}, "The data source 'digits' holds no documents."),
        (("digits", "../texts.jsonl"), {}, "The data source 'jsonl' holds no images."),
        (("../model", "../few.txt"), {}, "one document was found, its share is 0."),
        (("../model", "../few.jsonl"), {}, "The data give too few examples: search "),
        (("../model",), {"task": "clasification"}, "Did you mean 'classification'?"),
        (("../model",), {"task": "classification"}, "are for the task 'causal_lm', not"),
        (("../model",), {"minutes": 0}, "The minutes are 0. Give a positive number."),
        (("../model",), {"output": "no/where.yaml"}, "There is no folder 'no' to write into."),
    ],
)
def test_what_cannot_be_used_is_told_and_nothing_written(place, words, options, message):
    (place.parent / "few.txt").write_text("A few words.\n")
    rows = (place.parent / "texts.jsonl").read_text().splitlines(keepends=True)
    (place.parent / "few.jsonl").write_text("".join(rows[::6]))
    assert message in refused(*words, **options)
    assert list(place.iterdir()) == []


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (Request("a/b/my model/"), "my-model.yaml"),
        (Request("owner/Model-1.5B"), "Model-1.5B.yaml"),
        (Request("my.package:make"), "make.yaml"),
        (Request("x", output="y.yml"), "y.yml"),
    ],
)
def test_the_file_is_named_after_the_model(request_, name):
    assert str(request_.file) == name
