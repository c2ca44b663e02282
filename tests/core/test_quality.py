"""The scale with an honest zero: what a model that knows frequencies only scores."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from evoprune.core.metrics import Table
from evoprune.core.networks import HeadOutputs
from evoprune.core.quality import kept, log_frequencies, zeros
from evoprune.data.examples import Examples, Pass, Scale
from evoprune.data.image_pool import ImagePool
from evoprune.data.pool import TextPool
from evoprune.objectives.classification import Accuracy, OodAuroc
from evoprune.objectives.quality import Kl, Nll
from evoprune.tasks.causal_lm import CausalLM
from evoprune.tasks.classification import Classification

VOCABULARY = 5


def test_kept_is_one_of_the_dense_model_and_zero_at_the_zero():
    assert [kept(v, 5.0, 3.0) for v in (3.0, 5.0, 4.0, 7.0)] == [1.0, 0.0, 0.5, -1.0]
    assert math.isnan(kept(1.0, 2.0, 2.0))


def test_frequencies_sum_to_one_and_leave_something_to_what_was_never_seen():
    found = np.exp(log_frequencies(np.array([6, 2, 0, 0])))
    assert found.sum() == pytest.approx(1)
    # Two kinds in eight tokens: two tenths are shared out over four.
    assert found.tolist() == pytest.approx([0.65, 0.25, 0.05, 0.05])


def pool(tokens):
    tokens = np.array(tokens)
    lengths = np.full(len(tokens), tokens.shape[1])
    names = tuple(map(str, range(len(tokens))))
    return TextPool(tokens, lengths, names, names, "search")


def language_examples():
    tokens = np.array([[0, 1, 1, 2], [3, 1, 4, 0]])
    logp = np.log(np.random.default_rng(0).dirichlet(np.ones(VOCABULARY), (2, 3)))
    index = np.broadcast_to(np.arange(VOCABULARY, dtype=np.int32), logp.shape).copy()
    arrays = {"tokens": tokens, "lengths": np.array([4, 3])}
    arrays |= {"top_index": index, "top_logp": logp.astype(np.float32)}
    return Examples({"clean": Pass(arrays, np.array([0, 1]), arrays["lengths"])})


def test_the_zero_of_a_language_model_is_its_measure_of_the_unigram_model():
    import torch

    examples, calls = language_examples(), pool([[0, 1, 1, 1], [2, 1, 0, 0]])
    logq = torch.from_numpy(log_frequencies(np.bincount(calls.tokens.ravel(), minlength=5)))
    stages = SimpleNamespace(
        vocabulary=VOCABULARY, logits=lambda x: logq.expand(len(x), -1).clone()
    )
    batch = {name: torch.from_numpy(value) for name, value in examples.clean.arrays.items()}
    expected = CausalLM(5).measure(HeadOutputs(stages, torch.zeros(2, 4, 1)), batch)
    table = CausalLM(5).zero(calls, examples, stages)["clean"]
    for name, column in expected.items():
        assert table.columns[name] == pytest.approx(column, abs=1e-6), name


def test_the_zero_of_a_classifier_is_its_most_frequent_class_and_no_idea_of_outside():
    labels = np.array([1, 1, 0])
    images = ImagePool(np.zeros((3, 1)), labels, {}, ("a", "b", "c"), ("0", "1", "1"), "search")
    clean = Pass({"labels": np.array([0, 1, 1, 1])}, np.zeros(4, np.int64), np.ones(4, np.int64))
    near = Pass({}, np.zeros(2, np.int64), np.ones(2, np.int64))
    found = Classification().zero(images, Examples({"clean": clean, "near": near}), None)
    assert Accuracy().value(found, found) == 0.75
    assert OodAuroc(outside="near").value(found, found) == 0.5


def tables(nll, kl):
    columns = {"n": np.full(4, 10.0), "nll": np.full(4, nll), "kl": np.full(4, kl)}
    return {"clean": Table(columns, np.zeros(4, np.int64))}


def test_an_objective_has_a_zero_only_where_the_dense_model_is_better():
    measures = {"nll": Nll(), "kl": Kl(), "accuracy": Accuracy()}
    assert zeros(measures, tables(50, 20), tables(30, 0)) == {"nll": 5.0, "kl": 2.0}
    assert zeros(measures, tables(50, 20), tables(60, 0)) == {"kl": 2.0}
    assert zeros(measures, {}, tables(30, 0)) == {}


def test_both_ends_of_the_scale_survive_the_file(tmp_path):
    examples = replace(language_examples(), dense=tables(30, 0), zero=tables(50, 20))
    short = replace(examples, dense={"clean": examples.dense["clean"].take(np.arange(2))})
    short = replace(short, zero={"clean": examples.zero["clean"].take(np.arange(2))})
    short.save(tmp_path / "search.safetensors")
    scale, whole = (
        Scale.load(tmp_path / "search.safetensors"),
        Examples.load(tmp_path / "search.safetensors"),
    )
    assert scale.zero["clean"].columns["nll"].tolist() == [50, 50]
    assert whole.zero["clean"].columns["kl"].tolist() == [20, 20]
    assert whole.first(1).zero["clean"].columns["nll"].tolist() == [50]
