"""Searches that are handed data and objectives as objects."""

import random

import numpy as np
import pytest
from torch.utils.data import DataLoader

import evoprune
from evoprune.core.errors import ConfigError, DataError, ModelError, RunFolderError

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
TEXTS = [" ".join(random.Random(i).choices(WORDS, k=24)) for i in range(160)]


@evoprune.objective(goal="min", unit="nats per token")
def worst_example(tables, dense):
    """The divergence on the example where it is largest."""
    table = tables["clean"]
    return (table.columns["kl"] / table.columns["n"]).max()


@pytest.fixture
def settings(tiny_config):
    """Returns settings without data."""
    made = tiny_config()
    made["data"] = {"chunk_tokens": 32}
    return made


def test_a_list_and_a_shuffled_loader_give_the_same_run(settings, tmp_path):
    run = evoprune.search(settings, data=TEXTS, quiet=True)
    loader = DataLoader(TEXTS, batch_size=9, shuffle=True)
    again = evoprune.search(settings, data=loader, quiet=True)
    assert again.front == run.front
    other = evoprune.search(settings | {"output": str(tmp_path / "o")}, data=loader, quiet=True)
    assert other.folder.front_csv.read_bytes() == run.folder.front_csv.read_bytes()


def test_other_data_on_the_same_folder_are_refused(settings):
    evoprune.search(settings, {"search.n_eval": 4}, data=TEXTS, quiet=True)
    with pytest.raises(RunFolderError, match=r"data\.source\.options\.examples: 160 -> 150"):
        evoprune.search(settings, {"search.n_eval": 4}, data=TEXTS[10:], quiet=True)


def test_data_take_the_place_of_those_that_are_named(tiny_config):
    settings = tiny_config()
    run = evoprune.search(settings, {"search.n_eval": 4}, data=TEXTS, quiet=True)
    data = evoprune.Run.load(run.folder.path).config.data
    assert (data.source.type, data.chunk_tokens) == ("memory", 32)
    assert data.fractions == settings["data"]["fractions"]


def test_cuts_of_data_are_checked(settings):
    settings["data"] = {"chunk_token": 32}
    with pytest.raises(ConfigError, match=r"no setting 'data\.chunk_token'"):
        evoprune.search(settings, data=TEXTS, quiet=True)


def test_images_are_no_data_of_a_language_model(settings):
    pairs = [(np.zeros((2, 2)), 0), (np.ones((2, 2)), 1)]
    with pytest.raises(DataError, match="holds no documents"):
        evoprune.search(settings, data=pairs, quiet=True)


def test_a_function_is_searched_for_and_resumed(tiny_config):
    settings = tiny_config(constraints={"worst_example": "<=3"})
    handed = {"worst_example": worst_example}
    run = evoprune.search(settings, objectives=handed, quiet=True)
    assert list(run.front.goals) == ["kl", "sparsity", "worst_cluster_kl", "worst_example"]
    for point in run.front:
        assert 3 >= point.values["search_worst_example"] >= point.values["search_worst_cluster_kl"]
    lines = len(run.folder.journal.read_text().splitlines())
    again = evoprune.search(settings, objectives=handed, quiet=True)
    assert again.front == run.front
    # It began, came to its controls, ended.
    assert len(run.folder.journal.read_text().splitlines()) == lines + 3


def test_another_function_on_the_same_folder_is_refused(tiny_config):
    def made(factor):
        @evoprune.objective(goal="min")
        def named(tables, dense):
            return factor * tables["clean"].columns["kl"].max()

        return {"named": named}

    settings = tiny_config()
    run = evoprune.search(settings, {"search.n_eval": 4}, objectives=made(1.0), quiet=True)
    with pytest.raises(RunFolderError, match=r"objectives\.3\.options\.sha256"):
        evoprune.search(settings, {"search.n_eval": 4}, objectives=made(2.0), quiet=True)
    assert "named" in [row["metric"] for row in run.ensemble().rows]
    with pytest.raises(ConfigError, match=r"'named' was the function .* is not here"):
        evoprune.Run.load(run.folder.path).ensemble()


def test_a_function_that_cannot_be_computed_is_refused_at_the_dense_model(tiny_config):
    @evoprune.objective(goal="min")
    def broken(tables, dense):
        return tables["clean"].columns["nothing"].max()

    with pytest.raises(ConfigError, match="'broken' reads 'nothing', which the task does not mea"):
        evoprune.search(tiny_config(), objectives={"broken": broken}, quiet=True)

    @evoprune.objective(goal="min")
    def divides(tables, dense):
        return 1 // len(tables["clean"].columns["nll"][:0])

    with pytest.raises(ModelError, match="on the search split: divides: ZeroDivisionError: "):
        evoprune.search(tiny_config(), objectives={"divides": divides}, quiet=True)


def test_resamples_that_a_function_fails_on_are_left_out_of_its_interval(tiny_config):
    @evoprune.objective(goal="min")
    def distinct(tables, dense):
        values = tables["clean"].columns["nll"]
        if values[0] in values[1:]:  # so it is in some resamples, but not in all
            raise ValueError("the first example stands twice")
        return values.max()

    settings = tiny_config()
    run = evoprune.search(settings, objectives={"distinct": distinct}, quiet=True)
    for point in run.front:
        value = point.values["report_distinct"]
        low, high = point.values["report_distinct_low"], point.values["report_distinct_high"]
        assert 0 < low <= high <= value


def test_a_pass_that_the_task_does_not_make_is_refused(tiny_config):
    @evoprune.objective(goal="min", passes=("clean", "near"))
    def far(tables, dense):
        return 0.0

    with pytest.raises(ConfigError, match=r"reads the pass 'near', which the task 'causal_lm'"):
        evoprune.search(tiny_config(), objectives={"far": far}, quiet=True)
