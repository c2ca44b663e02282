"""The benchmark of every algorithm: what it reads off runs, its tables, alarms and figures."""

import importlib
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import evoprune
from evoprune.core.pareto import hypervolume

FOLDER = Path(evoprune.__file__).parents[1] / "experiments" / "benchmarks" / "search_gap"


@pytest.fixture(scope="module")
def compare():
    sys.path.insert(0, str(FOLDER))
    try:
        yield importlib.import_module("compare")
    finally:
        sys.path.remove(str(FOLDER))
        for name in ("compare", "spaces", "drawing"):
            sys.modules.pop(name, None)


def made_up(**shares):
    """Returns rows of algorithms with a share of the hypervolume in each of three seeds."""
    return [
        {"space": "s", "variables": 3, "objectives": "a b", "algorithm": name, "seed": seed,
         "n_eval": n_eval, "tokens": 2.0 * n_eval, "share": share * n_eval / 20,
         "overhead": 0.01, "own_seconds": 1.0, "notes": ""}
        for name, values in shares.items()
        for seed, share in enumerate(values)
        for n_eval in (10, 20)
    ]  # fmt: skip


def test_the_gap_is_relative_to_what_random_search_misses(compare):
    rows = made_up(random=(0.7, 0.8, 0.9), better=(0.9, 0.95, 1.0))
    lines = compare.table(rows, [20])
    assert "| 20 | random | 0.8000 | 1.000 (1.500) |" in lines[2]
    assert "| 20 | better | 0.9500 | 0.250 (0.500) | +0.1500 " in lines[3]


def test_an_alarm_when_two_algorithms_did_the_same(compare):
    assert not compare.alarms(made_up(random=(0.7, 0.8, 0.9), other=(0.7, 0.8, 0.91)))
    rows = made_up(random=(0.7, 0.8, 0.9), other=(0.5, 0.5, 0.5), copy=(0.7, 0.8, 0.9))
    assert compare.alarms(rows) == ["ALARM: identical: random, copy"]


def test_a_figure_is_svg_with_a_line_for_each_algorithm(compare):
    rows = made_up(random=(0.7, 0.8, 0.9), better=(0.9, 0.95, 1.0))
    root = ElementTree.fromstring(compare.figure("a < b", rows, compare.interval))
    lines = [node.get("points") for node in root.iter() if node.tag.endswith("polyline")]
    assert len(lines) == len(set(lines)) == 2
    assert "nan" not in "".join(lines)


def test_a_landscape_is_searched_at_equal_evaluations(compare):
    spaces = importlib.import_module("spaces")
    subject = spaces.landscape("levels12", 0, 3)
    assert subject.truth.shape[1] == 3
    trace = compare.searched(subject, "nsga2", 0, 30)
    assert len(trace.F) == len(trace.tokens) == 30
    assert (np.diff(trace.tokens) > 0).all()
    assert subject.hypervolume(trace.F) < subject.hypervolume(subject.truth) <= 1


@pytest.mark.slow
def test_any_exhaustive_run_is_replayed_for_any_of_its_measures(compare, tiny_config):
    """Two measures that were columns of the run, not objectives."""
    spaces = importlib.import_module("spaces")
    search = {"algorithm": {"type": "exhaustive"}, "n_eval": 99, "seed": 0}
    run = evoprune.search(tiny_config(search=search), quiet=True)
    session = spaces.opened(run.folder.path)
    try:
        subject = spaces.journal(session, ["nll", "params"])
        size = len(subject.truth)
        assert size == session.problem.space.size
        for algorithm in compare.EVERY:
            trace = compare.searched(subject, algorithm, 0, max(4, size // 10))
            assert subject.hypervolume(trace.F) <= subject.hypervolume(subject.truth)
        box = subject.box
        assert subject.hypervolume(trace.F) == hypervolume(trace.F, box.reference, box.ideal)
        with pytest.raises(SystemExit, match="no measure"):
            spaces.journal(session, ["nonsense"])
    finally:
        session.close()
