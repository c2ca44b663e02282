"""The profiles of EvoP and EvoPress, the landscapes, and the counts of the token benchmark."""

import importlib.util
import json
import math
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from evoprune.config.parts import build
from evoprune.config.schema import load_config
from evoprune.core.registry import ALGORITHMS
from evoprune.searching.evop import Evop
from evoprune.searching.evopress import OnePlusLambda
from evoprune.testing.synthetic import PARTS, problem

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


def script(path):
    """Returns a script of the experiments as a module."""
    name = "_".join(path.split("/"))
    spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{path}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def landscape():
    return script("reproductions/evop/landscape")


@pytest.fixture(scope="module")
def tokens():
    pytest.importorskip("matplotlib")
    return script("benchmarks/evopress_tokens/compare")


def test_evop_s_profile_has_its_settings():
    config = load_config(EXPERIMENTS / "reproductions/evop/config.yaml")
    assert build(ALGORITHMS, config.search.algorithm) == Evop(50, 100, 3, mutation_rate=0.001)
    assert (config.calibration.sampler.type, config.calibration.clusters) == ("evop", 5)
    assert config.calibration.samples * config.data.chunk_tokens == 5 * 2048
    assert [part.type for part in config.objectives] == ["nll"]


def test_evopress_s_profile_has_its_settings():
    config = load_config(EXPERIMENTS / "reproductions/evopress/config.yaml")
    assert build(ALGORITHMS, config.search.algorithm) == OnePlusLambda(64, 32, 3)
    stages = [rung.samples * config.data.chunk_tokens for rung in config.rungs]
    assert stages == [2048, 32768]
    assert math.ceil(config.rungs[0].keep * 32) == 2
    assert config.search.n_gen == 1 + 3 * 9 / 1.5
    assert [part.type for part in config.objectives] == ["kl"]


def test_the_best_mask_of_a_landscape_is_the_best(landscape):
    made = landscape.Landscape(8, 1)
    masks = np.array(list(combinations(range(8), 3)))
    X = np.zeros((len(masks), 8))
    X[np.arange(len(masks))[:, None], masks] = 1
    assert made.best(masks) == pytest.approx(made.loss(X).min())


def test_a_landscape_is_searched_by_all_with_as_many_masks(landscape):
    masks = np.array(list(combinations(range(10), 3)))
    row = landscape.own(10, 3, 0, masks)
    assert row["loss"]["evop"] >= row["best"] - 1e-9
    assert row["loss"]["random draws"] == pytest.approx(row["best"])
    for name in landscape.OTHERS:
        loss, _ = landscape.other(name, 10, 3, 0, row["distinct"])
        assert loss >= row["best"] - 1e-9


@pytest.mark.reproduction
@pytest.mark.parametrize(("layers", "removed"), [(22, 3), (22, 5), (32, 4), (32, 7)])
def test_evop_s_known_number_of_distinct_masks(landscape, layers, removed):
    made = landscape.problem(layers)
    counts = [
        landscape.searched(made, Evop(share=removed / layers), landscape.Landscape(layers, i), i)[0]
        for i in range(20)
    ]
    assert 183 * 0.9 <= np.mean([found.n_eval for found in counts]) <= 493 * 1.1


def test_counts_of_the_token_benchmark(tokens):
    counts = [tokens.Counts.of(share, 12) for share in tokens.SHARES]
    assert [(one.attn, one.mlp) for one in counts] == [(3, 3), (4, 4), (5, 5), (6, 6)]
    assert [one.generations for one in counts] == [19, 23, 25, 25]


@pytest.mark.parametrize("name", ["one_plus_lambda", "evop", "surrogate_nsga2"])
def test_all_searches_of_the_token_benchmark_meet_the_counts(tokens, name):
    counts = tokens.Counts.of(0.375, 6)
    made = tokens.exactly(tokens.replace(problem(6, PARTS), objectives={"kl": tokens.Removed("x")},
                          measures={}), counts)  # fmt: skip
    stepper = ALGORITHMS.load(name)().begin(made, made.space.corners[:0], 0)
    X = stepper.ask()
    for kind in tokens.KINDS:
        removed = tokens.Removed(kind).costs(made.table, made.space, X)
        assert (removed == getattr(counts, kind)).all()


def test_the_table_of_the_token_benchmark(tokens, tmp_path):
    rows = []
    for seed, (base, ours) in enumerate([(0.2, 0.1), (0.4, 0.2), (0.3, 0.15)]):
        for name, kl, cost in ((tokens.EXACT[0], base, 900.0), (tokens.EXACT[2], ours, 300.0)):
            rows += [
                dict.fromkeys(tokens.COLUMNS, "")
                | {"seed": seed, "algorithm": name, "share": share, "attn": 3, "mlp": 3}
                | {"val_kl": kl, "tokens": cost, "tokens_to_match": cost if kl == base else 90.0}
                for share in tokens.SHARES
            ]
    tokens.write(rows, tmp_path)
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert len(lines) == 2 + 2 * len(tokens.SHARES)
    assert "| 0.500 [0.500, 0.500] | 0.33 | 0.10 (3 of 3) |" in lines[3]
    assert "| 0.3000 [0.0516, 0.5484] |" in lines[2]
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 1 + len(rows)
    assert (tmp_path / "tokens.svg").stat().st_size > 1000
    assert json.dumps(rows)
