"""What an interrupted run gives, and that a finished one is not replaced by less."""

import json

import numpy as np
import pytest

import evoprune
from evoprune import cli
from evoprune.core.errors import RunFolderError
from evoprune.core.pareto import nondominated, oriented
from evoprune.provisional import NOTE, is_provisional


@pytest.fixture
def settings(tiny_config):
    return tiny_config(space="decoder/subblocks", constraints={"params": "<=95%"})


@pytest.fixture
def interrupted(settings):
    """Returns the folder of a search that was killed after ten evaluations."""
    folder = evoprune.search(settings, quiet=True).folder
    lines = folder.journal.read_text().splitlines(keepends=True)
    made = [i for i, line in enumerate(lines) if '"type":"evaluation"' in line]
    folder.journal.write_text("".join(lines[: made[9] + 1]))
    folder.front_json.unlink()
    folder.front_csv.unlink()
    return folder


def test_it_gives_the_front_of_what_it_evaluated(interrupted):
    run = evoprune.Run.load(interrupted.path)
    assert is_provisional(run.front) and 1 < len(run.front) <= 10
    F = oriented(run.front.array("search"), list(run.front.goals.values()))
    assert np.isfinite(F).all() and nondominated(F).all()
    assert max(p.values["params"] for p in run.front) <= 0.95 * run.front.dense["params"]
    assert not [name for name in run.front.columns() if name.startswith(("val_", "report_"))]
    assert not interrupted.front_json.exists()


def test_its_points_are_those_that_the_finished_run_evaluated(interrupted, settings):
    before = {p.id: p.values for p in evoprune.Run.load(interrupted.path).front}
    after = evoprune.search(settings, quiet=True)
    assert not is_provisional(after.front)
    shared = [point for point in after.front if point.id in before]
    assert shared
    for point in shared:
        assert before[point.id].items() <= point.values.items()


def test_its_front_and_exports_say_what_they_are(interrupted, capsys):
    place = str(interrupted.path)
    cli.app(["front", place], standalone_mode=False)
    said = capsys.readouterr().out
    assert said.startswith(NOTE) and "dense" in said
    cli.app(["export", place, "-p", "knee", "--no-verify"], standalone_mode=False)
    assert capsys.readouterr().out.startswith(NOTE)
    assert list(interrupted.models.glob("*/model.safetensors"))


def test_there_is_no_ensemble_of_it(interrupted):
    with pytest.raises(RunFolderError, match="was interrupted: nothing was scored on validation"):
        evoprune.Run.load(interrupted.path).ensemble()


def test_a_run_that_evaluated_nothing_says_so(interrupted):
    header = interrupted.journal.read_text().splitlines(keepends=True)[0]
    interrupted.journal.write_text(header)
    with pytest.raises(RunFolderError, match="has not ended, so it has no front: 0 evaluations"):
        evoprune.Run.load(interrupted.path)


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        ({"search.n_eval": 5}, "has 12 evaluations; with search.n_eval=5 .*search.n_eval>=12"),
        ({"search.n_gen": 2}, "has 3 generations; with search.n_gen=2"),
        ({"search.tokens": 10}, "dense-equivalent tokens; with search.tokens=10"),
        ({"search.patience": 1}, "is finished; with search.patience=1"),
    ],
)
def test_a_finished_run_is_not_replaced_by_less(tiny_config, bound, words):
    settings = tiny_config()
    folder = evoprune.search(settings, quiet=True).folder
    before = folder.front_csv.read_bytes(), folder.config.read_bytes(), folder.journal.read_bytes()
    with pytest.raises(RunFolderError, match=words):
        evoprune.search(settings, bound, quiet=True)
    after = folder.front_csv.read_bytes(), folder.config.read_bytes(), folder.journal.read_bytes()
    assert before == after


def test_a_finished_run_may_be_repeated_and_grow(tiny_config):
    settings = tiny_config(space="decoder/subblocks", search={"tokens": 3000.0})
    run = evoprune.search(settings, quiet=True)
    assert evoprune.search(settings, quiet=True).front == run.front
    grown = evoprune.search(settings, {"search.tokens": 5000.0}, quiet=True)
    ends = [json.loads(r) for r in grown.folder.journal.read_text().splitlines() if '"end"' in r]
    assert ends[-1]["tokens"] >= 5000.0 > ends[0]["tokens"]
