"""What an export saves, measured."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evoprune.core.errors import ExportError
from evoprune.core.files import sha256_of
from evoprune.core.genes import GeneSpec, build_space
from evoprune.export.card import check_target
from evoprune.export.export import export_pattern
from evoprune.export.measure import compare_speed, measure_export, speed_lines, warning
from tests.export.conftest import tiny

PARTS = [GeneSpec("attn", drop=True), GeneSpec("mlp", drop=True)]


def found(flops: float, clock: float) -> dict:
    one = {"prompt_flops": {"ratio": flops}, "prompt_ms": {"ratio": clock}}
    return one | {"decode_flops": {"ratio": 1.0}, "decode_ms": {"ratio": 1.0}}


@pytest.mark.parametrize(
    ("flops", "clock", "said"),
    [
        (0.6, 0.7, None),
        (0.6, 0.9, "On the prompt FLOPs fell by 40%, time fell by 10%."),
        (0.6, 1.2, "On the prompt FLOPs fell by 40%, time rose by 20%."),
        (1.0, 1.2, None),
    ],
)
def test_a_warning_when_the_clock_disagrees(flops: float, clock: float, said: str | None) -> None:
    assert warning(found(flops, clock)) == said


def test_models_run_in_turns(monkeypatch: pytest.MonkeyPatch, tokens: np.ndarray) -> None:
    small, large = tiny("Llama", num_hidden_layers=1), tiny("Llama", num_hidden_layers=4)
    ran = []
    monkeypatch.setattr(
        "evoprune.export.measure.seconds", lambda model, *rest: ran.append(model) or 1.0
    )
    measured = compare_speed(large, small, tokens, rounds=2)
    assert ran == [large, small] * 6
    one = {"dense": 1000.0, "export": 1000.0, "ratio": 1.0}
    assert measured["prompt_ms"] == one | {"ratio_low": 1.0, "ratio_high": 1.0}
    assert measured["tokens_per_s"] == {"dense": 24.0, "export": 24.0, "ratio": 1.0}
    assert measured["cache_bytes"]["ratio"] == 0.25
    assert 0.25 < measured["prompt_flops"]["ratio"] < 1
    assert measured["batch"] == [3, 20] and "time fell by 0%" in measured["warning"]


def test_an_export_is_measured_beside_its_base(
    make_source: Callable, tmp_path: Path, tokens: np.ndarray
) -> None:
    source, sites = make_source(dtype="float32")
    space = build_space("tiny", sites, PARTS)
    pattern = space.pattern(np.array([1, 0, 0, 0, 1, 0, 0, 1, 0, 0]))
    done = export_pattern(
        source, space, pattern, tmp_path / "out", scores={}, provenance={}, verify=False
    )
    for _ in range(2):  # a second measurement takes the place of the first
        measured = measure_export(done.path, source, tokens, rounds=1)
    card = (done.path / "README.md").read_text()
    record = json.loads((done.path / "evoprune.json").read_text())
    assert record["speed"] == measured and card.count("## Speed") == 1
    assert measured["hardware"] in card and "batch of 3 × 20 tokens" in card
    assert record["files"]["README.md"] == sha256_of(done.path / "README.md")
    assert measured["weight_bytes"]["export"] == 4 * done.params
    assert measured["file_bytes"]["export"] == done.bytes
    check_target(done.path)  # it still is an export and nothing else


def test_only_exports_are_measured(make_source: Callable, tmp_path: Path, tokens) -> None:
    with pytest.raises(ExportError, match="is no export"):
        measure_export(tmp_path, make_source()[0], tokens)


def test_the_figures_are_said_in_lines_for_a_terminal() -> None:
    clock = {"dense": 20.0, "export": 10.0, "ratio": 0.5, "ratio_low": 0.4, "ratio_high": 0.8}
    size = {"dense": 8e6, "export": 2e6, "ratio": 0.25}
    rate = {"dense": 400.0, "export": 800.0, "ratio": 2.0}
    measured = {"prompt_ms": clock, "decode_ms": clock, "tokens_per_s": rate, "weight_bytes": size}
    measured |= {"hardware": "a CPU", "threads": 1, "dtype": "float32", "batch": [8, 128]}
    lines = speed_lines(measured | {"rounds": 5, "warning": "It is slow."})
    assert lines[:4] == [
        "prompt: 20 ms dense, 10 ms now: 2.00 times as fast [1.25, 2.50]",
        "decoding a token: 20 ms dense, 10 ms now: 2.00 times as fast [1.25, 2.50]",
        "decoded tokens per second: 400 dense, 800 now",
        "weights in memory: 8.00 MB dense, 2.00 MB now (25%)",
    ]
    assert lines[4].startswith("measured on a CPU (1 thread) in float32, with a batch of 8 × 128")
    assert lines[5:] == ["It is slow."]
