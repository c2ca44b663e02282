"""What a prompt and a notebook show of runs, fronts and exports."""

import inspect
import pydoc
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import evoprune
from evoprune.core.errors import ConfigError, EvopruneError, NoSuchPointError
from evoprune.export.writing import Exported
from evoprune.folder.front import Front, FrontPoint
from evoprune.folder.picture import split_of, svg, view


def graded() -> Front:
    """Returns a front whose points keep 100 %, 97 % … of a model of a million parameters."""
    kept = (1.0, 0.97, 0.9, 0.81, 0.4, -30.0)
    points = tuple(
        FrontPoint(
            f"p{i}",
            [i],
            {f"{split}_kl": 0.1 * i for split in ("search", "val", "report")}
            | {f"{split}_quality_kept": share for split in ("search", "val", "report")}
            | {"params": 1_000_000 - 150_000 * i},
            rung="homogeneous",
        )
        for i, share in enumerate(kept)
    )
    dense = {"params": 1e6, "report_kl": 0.0, "report_quality_kept": 1.0, "val_quality_kept": 1.0}
    return Front(points, {"kl": "min", "params": "min"}, dense)


SHOWN = """\
Front of 6 points, kl ↓ × params ↓ (report split)
  safe      p1  keeps 97.0%, kl 0.1, params 850,000 (85%)
  balanced  p2  keeps 90.0%, kl 0.2, params 700,000 (70%)
  small     p3  keeps 81.0%, kl 0.3, params 550,000 (55%)"""


def test_a_front_is_its_picks():
    assert repr(graded()) == SHOWN


def test_a_point_and_an_export_are_one_line():
    assert repr(graded()[1]) == (
        "FrontPoint p1 (search, homogeneous): keeps 97.0%, kl 0.1, params 850,000"
    )
    made = Exported(Path("models/p1"), "homogeneous", "why", 850_000, 3_400_000, 2e-7)
    assert repr(made) == (
        "Exported 'models/p1': homogeneous, 850,000 parameters, 3.4 MB, verified (error 2.0e-07)"
    )


def test_an_empty_front_is_shown_and_drawn():
    empty = Front((), {"kl": "min", "params": "min"})
    assert repr(empty) == "Front of 0 points, kl ↓ × params ↓ (search split)"
    assert "no points" in empty._repr_html_()
    assert len(empty.plot().data) == 3


def test_a_run_its_configuration_and_its_ensemble_are_short(tiny_config):
    run = evoprune.search(tiny_config(), quiet=True)
    head, front, *_ = repr(run).splitlines()
    assert re.fullmatch(r"Run '.*/run': .*, space decoder/depth, nsga2, n_eval=12, seed 0", head)
    assert front.startswith("Front of ") and len(repr(run)) < 900
    assert str(run.config) == repr(run.config) and "\n" not in repr(run.config)
    assert "objectives kl, sparsity, worst_cluster_kl, space decoder/depth" in repr(run.config)
    assert repr(run.config.objectives[0]) == "Part('kl')"
    assert repr(run.config.search) == "SearchConfig(algorithm=Part('nsga2', pop_size=4), n_eval=12)"
    made = run.ensemble("greedy", budget=None, size=2)
    assert re.match(r"Ensemble 'greedy-probability': \d members?\. \w", repr(made))
    assert len(repr(made)) < 300
    assert "<svg" in run._repr_html_() and run.export(run.front[1], verify=False).params > 0


def test_the_picture_is_a_falling_step_line_with_labelled_picks():
    drawn = ElementTree.fromstring(svg(graded()))
    space = "{http://www.w3.org/2000/svg}"
    texts = [one.text for one in drawn.iter(f"{space}text")]
    assert {"dense", "params", "quality kept on report"} <= set(texts)
    assert any("safe" in text for text in texts) and any("balanced" in text for text in texts)
    circles = list(drawn.iter(f"{space}circle"))
    assert len(circles) == 5, "what is worse than frequencies alone is not drawn"
    for one in circles:
        assert 0 <= float(one.get("cx")) <= 480 and 0 <= float(one.get("cy")) <= 280


def test_what_is_drawn_can_be_chosen():
    seen = view(graded(), x="params", y="kl", split="val")
    assert (seen.x.column, seen.y.column, seen.hidden) == ("params", "val_kl", 0)
    assert (np.diff(seen.values(seen.x)) > 0).all() and (np.diff(seen.steps()) <= 0).all()
    assert split_of(graded()) == "report"
    with pytest.raises(ConfigError, match=r"no values named 'parms'.*'params'"):
        graded().plot(x="parms")
    with pytest.raises(ConfigError, match=r"no split 'repot'.*'report'"):
        graded().plot(split="repot")


def test_the_figure_names_points_and_picks():
    figure = graded().plot()
    traces = {trace.name: trace for trace in figure.data}
    assert set(traces) == {"front", "points", "picks", "dense"}
    assert traces["front"].line.shape == "hv"
    assert any("safe" in text for text in traces["picks"].text)
    assert any(
        "<b>p1</b>" in text and "params: 850 k" in text for text in traces["picks"].hovertext
    )
    assert figure.layout.xaxis.title.text == "params"
    assert "1 worse or unmeasured not shown" in figure.layout.yaxis.title.text


MISUSE = {
    "a front's typo": (lambda front: front.plto, "A front has no 'plto'. Did you mean 'plot'?"),
    "a point's typo": (lambda front: front[0].patern, "A point has no 'patern'."),
    "no such id": (lambda front: front["nope"], "'nope' is no point of the front."),
    "no such place": (lambda front: front[99], "The front has no point 99. Give a position below"),
    "a number as pick": (lambda front: front.pick(3), "The pick is 3 (int)."),
    "a path": (lambda front: evoprune.Run.load(3), "The path is 3 (int). Give it as text."),
    "a model's path": (lambda front: evoprune.load(None), "The path is None (NoneType)."),
    "the package's typo": (lambda front: evoprune.serach, "Did you mean 'search'?"),
}


@pytest.mark.parametrize("name", MISUSE)
def test_misuse_is_one_sentence_of_ours(name):
    call, words = MISUSE[name]
    with pytest.raises(EvopruneError) as caught:
        call(graded())
    assert words in str(caught.value)


def test_misuse_of_a_run_is_one_sentence_of_ours(tiny_config):
    run = evoprune.search(tiny_config(), quiet=True)
    for call, words in (
        (lambda: run.exprot, "A run has no 'exprot'. Did you mean 'export'?"),
        (lambda: run.export(3), "The pick is 3 (int)."),
        (lambda: run.ensemble("gredy"), "'gredy' is no way to choose members."),
        (lambda: run.ensemble(3), "The recipe is int."),
        (lambda: run.ensemble("greedy", sise=3), "A recipe has no 'sise'. Did you mean 'size'?"),
        (lambda: run.ensemble("greedy", size="3"), "'size' of a recipe is '3'."),
        (lambda: evoprune.load(run.folder.path), "is a run, not a model."),
    ):
        with pytest.raises(EvopruneError) as caught:
            call()
        assert words in str(caught.value)


def test_names_that_python_asks_for_itself_are_no_typing_errors():
    front = graded()
    assert not hasattr(front, "_repr_png_") and not hasattr(evoprune, "__path_hooks__")
    assert front["knee"] in tuple(front) and front["p2"].id == "p2"
    with pytest.raises(KeyError):
        front["nope"]
    with pytest.raises(IndexError):
        front[6]
    assert isinstance(NoSuchPointError("a.", "b."), ConfigError)


def test_help_and_signature_are_those_of_the_search():
    from evoprune.run import search

    assert evoprune.search is search
    said = pydoc.render_doc(evoprune.search, renderer=pydoc.plaintext)
    assert said.splitlines()[0].endswith("function search in module evoprune.run")
    assert "overrides" in said and "Runs a search, or goes on with it" in said
    assert list(inspect.signature(evoprune.search).parameters)[:2] == ["config", "overrides"]


def test_the_package_lists_its_public_names():
    names = dir(evoprune)
    assert {"Run", "load", "load_config", "objective", "search", "EvopruneError"} <= set(names)
    assert [name for name in names if name.startswith("_")] == ["__version__"]
    assert all(getattr(evoprune, name) is not None for name in names)
