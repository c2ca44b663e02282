"""The benchmark of workers: what it times is what it says, and it goes on where it stopped."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from evoprune.core.pattern import Pattern
from evoprune.testing import tiny_decoder

FILE = Path(__file__).resolve().parents[1] / "experiments/benchmarks/workers/measure.py"


@pytest.fixture(scope="module")
def measure():
    spec = importlib.util.spec_from_file_location("measure_workers", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_part_that_was_measured_is_not_measured_again(measure, tmp_path):
    calls = []

    def part():
        calls.append(1)
        return {"ms": 1.5}

    assert measure.kept(tmp_path, "dispatch", part) == {"ms": 1.5}
    assert measure.kept(tmp_path, "dispatch", part) == {"ms": 1.5} and len(calls) == 1
    assert json.loads((tmp_path / "dispatch.json").read_text()) == {"ms": 1.5}


def test_the_candidates_are_spread_as_it_says(measure, tmp_path):
    _, problem = measure.prepared(tmp_path, tiny_decoder(tmp_path / "model", layers=8), 4)
    for most in (1.5, 10.0):
        patterns = measure.spread(problem, 12, most)
        share = problem.share(problem.space.encode(patterns))
        assert len(set(patterns)) == 12 and all(isinstance(one, Pattern) for one in patterns)
        assert share.max() == 1.0 and np.isclose(share.min(), 1 / most, atol=0.05)
    assert measure.prepared(tmp_path, tmp_path / "model", 4)[1].space == problem.space


def test_the_large_model_has_half_a_gigabyte(measure):
    size = measure.FULL
    block = 4 * size.large_hidden**2 + 3 * size.large_hidden * 4 * size.large_hidden
    assert 4 * size.large_layers * block >= 500e6 and size.large_workers == 4


def test_what_processes_share_is_counted_once(measure):
    import os

    assert measure.proportional([os.getpid()]) > 10e6
