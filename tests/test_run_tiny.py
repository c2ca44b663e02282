"""A whole search of each tiny model, its resumption, and its front."""

import pytest

import evoprune
from evoprune.errors import RunFolderError
from evoprune.journal import read_journal


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
