"""A run's own config.yaml, in two parts, is a configuration like any other."""

import shutil

import pytest
import yaml

import evoprune
from evoprune.config.schema import load_config
from evoprune.core.errors import ConfigError, DataError
from evoprune.planning.plan import clusters, plan


@evoprune.objective(goal="min")
def worst(tables, dense):
    """The largest divergence of an example."""
    table = tables["clean"]
    return (table.columns["kl"] / table.columns["n"]).max()


@pytest.fixture
def run(tiny_config):
    """A finished run."""
    return evoprune.search(tiny_config(), quiet=True)


def test_it_names_the_run_that_it_lies_in(run):
    config = load_config(run.folder.config)
    assert config.identity() == run.config.identity()
    assert config.output == str(run.folder.path)
    journal = run.folder.journal.read_bytes()
    again = evoprune.search(run.folder.config, quiet=True)
    assert again.front == run.front
    assert again.folder.journal.read_bytes().startswith(journal)


def test_below_the_working_folder_it_keeps_its_short_name(run, monkeypatch):
    monkeypatch.chdir(run.folder.path.parent)
    assert load_config("run/config.yaml").output == "run"
    monkeypatch.chdir(run.folder.path)
    assert load_config("config.yaml").output == str(run.folder.path)


def test_a_moved_run_goes_on_where_it_lies_now(run, tmp_path):
    moved = tmp_path / "elsewhere"
    run.folder.path.rename(moved)
    again = evoprune.search(moved / "config.yaml", ["search.n_eval=14"], quiet=True)
    assert again.folder.path == moved and again.config.search.n_eval == 14


def test_another_output_or_a_copy_is_a_new_run(run, tmp_path):
    other = evoprune.search(run.folder.config, {"output": str(tmp_path / "other")}, quiet=True)
    assert other.folder.path == tmp_path / "other" and other.front == run.front
    shutil.copy(run.folder.config, tmp_path / "copy.yaml")
    assert load_config(tmp_path / "copy.yaml").output == "runs/copy"


def test_it_is_planned_calibrated_and_overridden_like_the_first(run, tiny_texts):
    assert dict(plan(run.folder.config))["evaluations"].startswith("12 (n_eval=12")
    assert len(clusters(run.folder.config)[1]) == 3
    changes = [
        "search.algorithm.pop_size=6",
        f"data.files=['{tiny_texts}']",
        "data.chunk_tokens=16",
    ]
    config = load_config(run.folder.config, changes)
    assert config.search.algorithm.options["pop_size"] == 6 and config.data.chunk_tokens == 16


@pytest.mark.parametrize("path", ["experiments/quickstart", "experiments/quickstart_vision"])
def test_the_quickstarts_come_back_the_same(path, tmp_path):
    config = load_config(f"{path}/config.yaml")
    parts = {"identity": config.identity(), "execution": config.execution()}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(parts))
    assert load_config(tmp_path / "mine.yaml").identity() == config.identity()


def test_a_damaged_one_is_told(tmp_path):
    (tmp_path / "mine.yaml").write_text("identity: {search: 3}\nexecution: {}\n")
    with pytest.raises(ConfigError, match="is a run's configuration, and damaged"):
        load_config(tmp_path / "mine.yaml")


def test_a_function_is_found_where_it_was_defined_or_missed_in_a_sentence(tiny_config, monkeypatch):
    first = evoprune.search(tiny_config(), objectives={"worst": worst}, quiet=True)
    assert evoprune.search(first.folder.config, quiet=True).front == first.front
    monkeypatch.delitem(globals(), "worst")
    with pytest.raises(ConfigError, match=r"was the function .*, which is not here\. Hand it over"):
        evoprune.search(first.folder.config, quiet=True)


def test_data_handed_over_are_missed_in_a_sentence_by_a_new_run_only(tiny_config, tmp_path):
    texts = [f"text number {i} of quite many words, all of them plain" for i in range(60)]
    run = evoprune.search(tiny_config(), data=texts, quiet=True)
    assert evoprune.search(run.folder.config, quiet=True).front == run.front
    with pytest.raises(DataError, match="The 60 examples of this configuration were handed over"):
        evoprune.search(run.folder.config, {"output": str(tmp_path / "new")}, quiet=True)


def test_a_missing_plugin_is_told(run):
    text = run.folder.config.read_text().replace("plugins: []", "plugins: [gone.py]")
    run.folder.config.write_text(text)
    with pytest.raises(ConfigError, match=r"The plug-in 'gone.py' does not exist"):
        evoprune.search(run.folder.config, quiet=True)
