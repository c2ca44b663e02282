import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).parents[2] / "experiments" / "quickstart" / "train_model.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("quickstart_train_model", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.AttentionInterface.register(module.HALVED, module.halved_attention)
    return module


@pytest.fixture
def recipe(script):
    return script.Recipe(
        blocks=3, hidden=16, intermediate=24, vocabulary=50, sequence=8, batch=2, steps=4, warmup=1
    )


def weights_after(script, recipe, folder, stops):
    stream = np.random.default_rng(0).integers(0, 50, 400)
    for stop in stops:
        training = script.Training(recipe, script.make_model(recipe), folder)
        training.restore()
        while training.step < stop:
            training.run_step(script.Batches(stream, recipe))
        training.save()
    return {name: value.numpy() for name, value in training.model.state_dict().items()}


def test_resumed_training_equals_calm_training(script, recipe, tmp_path):
    calm = weights_after(script, recipe, tmp_path / "calm", [4])
    resumed = weights_after(script, recipe, tmp_path / "resumed", [1, 3, 4])
    assert all(np.array_equal(calm[name], resumed[name]) for name in calm)


def test_forward_equals_the_library(script, recipe):
    model = script.make_model(recipe).eval()
    ids = script.torch.arange(14).reshape(2, 7)
    ours = script.forward(model, ids, np.zeros((3, 2), dtype=bool))
    model.set_attn_implementation("sdpa")
    assert script.torch.allclose(ours, model(ids).logits, atol=1e-5)


def test_all_dropped_leaves_embedding_and_head(script, recipe):
    model = script.make_model(recipe)
    ids = script.torch.arange(6).reshape(1, 6)
    bare = model.lm_head(model.model.norm(model.model.embed_tokens(ids)))
    assert script.torch.equal(script.forward(model, ids, np.ones((3, 2), dtype=bool)), bare)


def test_an_epoch_visits_every_row_once(script, recipe):
    batches = script.Batches(np.arange(400), recipe)
    starts = [batches._start(row) for row in range(batches.rows)]
    assert len({start // recipe.sequence for start in starts}) == batches.rows
    assert max(starts) + recipe.sequence + 1 <= 400


def test_rates_rise_and_fall_to_zero(script):
    recipe = script.Recipe(steps=100, warmup=10, decay_share=0.5)
    factors = [script.rate_factor(recipe, step) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[30] == 1
    assert factors[99] == pytest.approx(0.02)
