"""What a person may get wrong about heads, and what may go wrong with one of them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from evoprune.core.errors import ConfigError, ModelError
from evoprune.core.pattern import Bits
from evoprune.data.examples import Examples, Pass
from evoprune.families.sparse_head import runner as runner_module
from evoprune.families.sparse_head.family import SparseHead
from evoprune.families.sparse_head.heads import Architecture, Masks
from evoprune.families.sparse_head.network import HeadNetwork
from evoprune.families.sparse_head.recipe import HeadRecipe, fit_recipe
from evoprune.tasks.classification import Classification


def adopted(**options):
    return SparseHead().adopt(None, SimpleNamespace(options=options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stps": 3}, "Did you mean 'steps'"),
        ({"fit": "recpie"}, "Did you mean 'recipe'"),
        ({"fit": None}, "'model.options.fit' is None"),
        ({"fit": "recipe", "steps": 3}, "neither 'time' nor 'steps'"),
        ({"steps": 0}, "'model.options.steps' is 0"),
        ({"steps": "many"}, "'model.options.steps' is 'many'"),
        ({"steps": True}, "'model.options.steps' is True"),
        ({"time": 0}, "'model.options.time' is 0"),
        ({"time": float("nan")}, "'model.options.time' is nan"),
        ({"seed": "x"}, "'model.options.seed' is 'x'"),
        ({"seed": -1}, "'model.options.seed' is -1"),
        ({"hidden": [True]}, "'model.options.hidden' is"),
        ({"hidden": []}, "'model.options.hidden' is"),
    ],
)
def test_options_without_sense_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        adopted(**options)


def test_options_with_sense_are_taken():
    network = adopted(hidden=[8, 4], seed=2, steps=3, time=1.5)
    assert (network.hidden, network.seed) == ((8, 4), 2)
    assert network.fit_options == {"steps": 3, "time": 1.5}


@pytest.mark.parametrize(
    ("gives", "message"),
    [
        (lambda x: {"features": x.flatten(1)}, "does not read the images"),
        (lambda x: None, "does not read the images"),
        (lambda x: x, "features of shape"),
        (lambda x: x.flatten(1) * np.nan, "not finite"),
    ],
)
def test_backbones_that_give_no_features_are_refused(gives, message):
    pool = SimpleNamespace(images=np.ones((2, 3, 3), np.float32))
    network = HeadNetwork(gives, (4,), 0, {})
    with pytest.raises(ModelError, match=message):
        SparseHead().check(network, {"training": pool}, "cpu")


def network_of(features, labels):
    network = HeadNetwork(None, (6,), 0, {})
    network.settle(features.shape[1], ["a", "b"])
    network.attach(features, labels)
    return network


def test_a_head_that_cannot_be_fitted_fails_alone(monkeypatch):
    rng = np.random.default_rng(0)
    features, labels = rng.random((20, 5)), np.arange(20) % 2
    runner = runner_module.HeadRunner(network_of(features, labels), Classification())
    fit = runner_module.fit

    def fails_without_the_first(x, y, masks, *rest):
        if not masks.features[:, 0].all():
            raise torch.linalg.LinAlgError("not positive definite")
        return fit(x, y, masks, *rest)

    monkeypatch.setattr(runner_module, "fit", fails_without_the_first)
    ones = np.ones(20, np.int64)
    examples = Examples({"clean": Pass({"features": features, "labels": labels}, 0 * ones, ones)})
    kept = np.ones((3, 5), bool)
    kept[1, 0] = False
    found = runner.tables([{"features": Bits.of(mask)} for mask in kept], examples)
    assert isinstance(found[1], torch.linalg.LinAlgError)
    assert all(isinstance(found[i]["clean"].columns["nll"], np.ndarray) for i in (0, 2))


def test_a_training_without_a_finite_loss_is_no_head():
    features, labels = np.full((8, 3), np.nan), np.arange(8) % 2
    masks, architecture = Masks(np.ones((1, 3), bool)), Architecture(3, (4,), 2)
    with pytest.raises(FloatingPointError, match="finite"):
        fit_recipe(features, labels, masks, architecture, HeadRecipe(max_epochs=3))
