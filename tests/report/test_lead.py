"""The first screen: three recommendations, what they lose, and what to type for them."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from run_folders import DENSE, ZERO, Made, make_run, write_json

from evoprune.folder.front import Front, FrontPoint
from evoprune.report.advice import Advice, advice, beside, command, rung, speed
from evoprune.report.clusters import losses
from evoprune.report.html import page
from evoprune.report.kept import KEPT, judged, share
from evoprune.report.lead import lead
from evoprune.report.payload import payload, stairs
from evoprune.report.reading import read_run


@pytest.fixture
def run(tmp_path) -> Path:
    return make_run(tmp_path / "run")


def first_screen(path: Path) -> str:
    """Returns the text of the first card, without its tags."""
    data = read_run(path)
    return " ".join(re.sub(r"<[^>]*>", " ", lead(data, losses(data))).split())


def front_of(path: Path) -> Front:
    front = read_run(path).front
    assert front is not None
    return front


def advised(path: Path) -> list[Advice]:
    data = read_run(path)
    assert data.front is not None
    return advice(data.front, data.kept)


def rewritten(path: Path, **changes) -> Path:
    """Changes the front of a run in its folder."""
    front = Front.from_json(path / "front.json")
    replace(front, **changes).to_json(path / "front.json")
    return path


def test_three_points_are_recommended_as_the_front_chooses_them(run):
    found = {one.name: one for one in advised(run)}
    assert list(found) == ["safe", "balanced", "small"]
    for name, one in found.items():
        assert one.point == front_of(run).choose(name).point and one.pick == name
    assert found["safe"].point.values[f"val_{KEPT}"] >= 0.95
    assert found["small"].point.values["params"] <= found["safe"].point.values["params"]


def test_the_first_screen_says_size_quality_work_loading_and_losses(run):
    text, small = first_screen(run), front_of(run).choose("small").point
    assert "The model now 1 M parameters 4 MB weights 7.389 perplexity" in text
    assert f"{small.values['params'] / 1e6:.0%} of the size" in text
    assert f"{small.values[f'report_{KEPT}']:.1%} of the quality [" in text
    assert "of the FLOPs (not timed: export with --measure)" in text
    assert "loads with plain transformers" in text
    assert "cluster 1 (code) keeps" in text and "perplexity 7.4 →" in text


def test_the_command_names_the_run_as_one_would_type_it(run, monkeypatch):
    monkeypatch.chdir(run.parent)
    assert command(read_run("run")) == "evoprune export run"
    assert command(read_run(run)) == "evoprune export run"
    assert "-p safe" in first_screen(run) and "-p small" in first_screen(run)
    spaced = make_run(run.parent / "a run")
    assert command(read_run(spaced)) == "evoprune export 'a run'"


def test_what_is_copied_runs_nothing_that_a_folder_names(tmp_path):
    run = make_run(tmp_path / "run", Made(old=True))
    bad = [replace(p, id=f"{p.id}; rm -rf x") for p in Front.from_json(run / "front.json")]
    rewritten(run, points=tuple(bad))
    assert all(f"-p &#x27;{one.pick}&#x27;" in page([read_run(run)]) for one in advised(run))


def test_an_unfinished_run_says_how_it_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "run", finished=False)
    assert "nothing can be recommended" in first_screen(run)
    assert "the best so far: evoprune front run" in first_screen(run)


def test_a_measured_speed_takes_the_place_of_flops(run):
    data, point = read_run(run), front_of(run).choose("small").point
    assert speed(data, point, data.front.dense)[1] is False
    timed = {"prompt_ms": {"ratio": 0.5}, "decode_ms": {"ratio": 0.8}, "hardware": "a chip"}
    record = {"pattern": {"id": point.id}, "rung": "homogeneous", "speed": timed | {"threads": 1}}
    write_json(run / "models" / "one" / "evoprune.json", record)
    told, measured = speed(read_run(run), point, data.front.dense)
    assert measured and "prompts 2.00 ×, decoding 1.25 ×" in told and "a chip" in told


def test_a_point_stands_beside_the_uniform_one_of_equal_or_fewer_parameters(run):
    data, point = read_run(run), front_of(run).choose("safe").point
    there = [p for p in data.controls["uniform"] if p.values["params"] <= point.values["params"]]
    assert beside(data, point) == {"uniform": max(there, key=lambda p: p.values[f"val_{KEPT}"])}
    least = min(data.front, key=lambda p: p.values["params"])
    none = replace(least, values={**least.values, "params": 1.0})
    assert beside(data, none) == {"uniform": None}


def test_a_smaller_model_that_was_trained_stands_beside_where_there_is_one(run):
    values = {"params": 6e5, f"val_{KEPT}": 0.97, f"report_{KEPT}": 0.96}
    trained = Front((FrontPoint("small", None, values, "trained"),), {"params": "min"})
    trained.to_json(run / "controls" / "trained.json")
    data, point = read_run(run), front_of(run).choose("safe").point
    assert beside(data, point)["trained"].id == "small"
    assert "trained 96.0% of the quality at 60% of the size" in first_screen(run)
    part = payload(data)["fronts"][2]
    assert part["origin"] == "trained" and part["levels"] == [None]


def test_a_run_without_controls_is_beside_nothing(run):
    for path in (run / "controls").iterdir():
        path.unlink()
    assert beside(read_run(run), front_of(run)[0]) == {}
    assert "uniform" not in first_screen(run)


def test_where_nothing_keeps_enough_the_cards_say_so(tmp_path):
    run = make_run(tmp_path / "run", Made(loss=40))
    worthless = [p for p in Front.from_json(run / "front.json") if p.values["sparsity"] > 0.4]
    rewritten(run, points=tuple(worthless))
    text = first_screen(run)
    assert "No point keeps 95%" in text and "No point keeps 80%" in text


def test_a_pick_that_removes_nothing_says_so(run):
    dense = [p for p in Front.from_json(run / "front.json") if p.values["sparsity"] == 0]
    rewritten(run, points=tuple(dense))
    text = first_screen(run)
    assert "removes nothing" in text and "the same point as safe" in text
    assert "loses most" not in text


def test_an_old_run_is_judged_by_what_is_left_of_a_tokens_probability(tmp_path):
    run = make_run(tmp_path / "run", Made(old=True))
    point, told = front_of(run)[0], advised(run)
    left = np.exp(DENSE - point.values["report_nll"])
    assert point.values[f"report_{KEPT}"] == pytest.approx(left)
    assert point.values[f"report_{KEPT}_low"] < left < point.values[f"report_{KEPT}_high"]
    # By its name `evoprune export` would choose another: it does not know this share.
    assert [one.pick for one in told] == [one.point.id for one in told]
    assert "divided by that of the point" in first_screen(run)


def test_an_old_run_of_accuracy_is_judged_by_its_share(run):
    front = Front.from_json(run / "front.json")
    points = [
        replace(p, values={"params": p.values["params"], "val_accuracy": p.values["sparsity"]})
        for p in front
    ]
    goals = {"accuracy": "max", "params": "min"}
    old, meaning = judged(Front(tuple(points), goals, {"val_accuracy": 0.8, "params": 1e6}))
    assert old[0].values[f"val_{KEPT}"] == pytest.approx(old[0].values["val_accuracy"] / 0.8)
    assert meaning.words == "share of the dense model's accuracy" and not meaning.own


def test_without_any_measure_of_quality_only_the_knee_is_recommended(run):
    front = Front.from_json(run / "front.json")
    names = ("params", "val_worst_cluster_kl", "report_worst_cluster_kl")
    bare = [replace(p, values={n: p.values[n] for n in names}) for p in front]
    rewritten(run, points=tuple(bare), goals={"worst_cluster_kl": "min", "params": "min"}, zero={})
    data = read_run(run)
    assert data.kept.words == ""
    assert [one.name for one in advised(run)] == ["knee"]
    assert "measured nothing that could be set against the dense model" in first_screen(run)


def test_the_rung_is_told_by_the_front_else_by_space_and_pattern_else_by_an_export(tmp_path):
    run = make_run(tmp_path / "run", Made(old=True))
    widths = next(p for p in front_of(run) if 1 in p.pattern)
    assert rung(read_run(run), replace(widths, rung="heterogeneous")) == "heterogeneous"
    assert rung(read_run(run), widths) == "homogeneous"
    (run / "space.json").unlink()
    assert rung(read_run(run), widths) == ""
    write_json(run / "models" / "other" / "evoprune.json", {"rung": "standalone"})
    assert rung(read_run(run), widths) == "standalone"


def test_losses_by_cluster_have_the_zero_of_each(run):
    found = losses(read_run(run))
    point = front_of(run).choose("small").point
    nll = 2 * point.values["report_nll"] - DENSE
    zero = 2 * ZERO - DENSE
    assert found.names == ["cluster 0", "cluster 1 (code)"] and found.worst(point.id) == 1
    assert found.points[point.id] == pytest.approx(np.exp([DENSE, nll]))
    assert np.isnan(found.kept(point.id)[0])  # there the zero knows what the dense model knows
    assert found.kept(point.id)[1] == pytest.approx((zero - nll) / (zero - DENSE))


def test_losses_of_an_old_run_are_told_without_shares(tmp_path):
    run = make_run(tmp_path / "run", Made(old=True))
    (run / "calibration" / "report.safetensors").unlink()
    found, point = losses(read_run(run)), front_of(run).choose("small").point
    assert found.worst(point.id) == 1 and np.isnan(found.kept(point.id)).all()
    assert found.text(point.id).startswith("cluster 1 (code): perplexity 7.4 → ")


def test_a_journal_without_tables_tells_no_losses(run):
    lines = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("tables", None)
    (run / "journal.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert losses(read_run(run)) is None and "loses most" not in first_screen(run)


def test_stairs_are_what_the_front_chooses_inside_a_budget(run):
    front = front_of(run)
    steps = stairs(front)["params"]
    assert [budget for budget, _ in steps] == sorted(budget for budget, _ in steps)
    for limit in (point.values["params"] for point in front):
        inside = [index for budget, index in steps if budget <= limit]
        assert front[inside[-1]] == front.choose(f"params<={limit}").point
    assert set(stairs(front)) == {"params", "bytes", "flops"}


def test_what_was_evaluated_is_on_the_scale_of_the_front(run):
    data = read_run(run)
    assert data.kept.own and data.kept.basis == "nll"
    dots = payload(data)["dots"]["search"]["values"]
    assert dots[KEPT] == pytest.approx([(ZERO - v) / (ZERO - DENSE) for v in dots["nll"]], abs=1e-4)
    assert share(data.front, data.kept, "search", None) is None


def test_nothing_of_the_page_needs_plotly(run):
    text = page([read_run(run)])
    assert "plotly" not in text.lower() and len(text) < 300_000


def test_clusters_of_a_classifier_are_compared_by_accuracy():
    from evoprune.report.clusters import measure_of

    assert measure_of(["n", "nll", "kl", "correct"]) == "perplexity"
    assert measure_of(["n", "nll", "kl", "correct", "msp"]) == "accuracy"
    assert measure_of(["n", "nll", "correct"]) == "accuracy"
