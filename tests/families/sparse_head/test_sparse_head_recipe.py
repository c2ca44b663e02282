"""The reference training of sparse heads."""

import numpy as np
import pytest
import torch

from evoprune.families.sparse_head.fit import fit, logits
from evoprune.families.sparse_head.heads import Architecture, Masks, gathered, initial, kept
from evoprune.families.sparse_head.recipe import HeadRecipe, fit_recipe, train

ARCHITECTURE = Architecture(6, (8,), 2)
WHOLE = Masks(np.ones((1, 6), bool))


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Returns features of two blobs, and their labels."""
    rng = np.random.default_rng(0)
    labels = np.arange(70) % 2
    return rng.normal(size=(70, 6)) + 2 * labels[:, None], labels


def whole_keep():
    """Returns the indices of a candidate that keeps everything."""
    return kept(WHOLE, 0, ARCHITECTURE.hidden)


def test_it_stops_once_the_loss_no_longer_falls(data):
    recipe = HeadRecipe(lr=0.05, min_delta=0.02, patience=4, max_epochs=200)
    trained = train(*data, whole_keep(), ARCHITECTURE, recipe)

    assert len(trained.losses) == trained.best + 1 + recipe.patience < 200
    after = trained.losses[trained.best + 1 :]
    assert min(after) >= trained.losses[trained.best] - recipe.min_delta


def test_it_restores_the_best_epoch(data):
    recipe = HeadRecipe(lr=0.05, min_delta=0.02, patience=4, max_epochs=200)
    stopped = train(*data, whole_keep(), ARCHITECTURE, recipe)
    exact = HeadRecipe(lr=0.05, min_delta=0.02, patience=4, max_epochs=stopped.best + 1)
    again = train(*data, whole_keep(), ARCHITECTURE, exact)

    for name, tensor in stopped.state.items():
        assert torch.equal(tensor, again.state[name])


def test_it_ends_at_the_last_epoch(data):
    assert len(train(*data, whole_keep(), ARCHITECTURE, HeadRecipe(max_epochs=3)).losses) == 3


def test_a_step_is_that_of_torch_with_keras_nesterov(data):
    features, labels = data
    recipe = HeadRecipe(batch_size=70, max_epochs=5, decay=0.0, lr=0.01)
    ours = train(features, labels, whole_keep(), ARCHITECTURE, recipe).losses

    x, y = torch.tensor(features, dtype=torch.float32), torch.tensor(labels)
    leaves = [kernel.float() for kernel in gathered(initial(ARCHITECTURE), whole_keep())]
    leaves = [leaf.requires_grad_() for leaf in (*leaves, torch.zeros(2))]
    optimizer = torch.optim.SGD(leaves, lr=0.01, momentum=0.9, nesterov=True)
    theirs = []
    for _ in range(5):
        outputs = torch.relu(x @ leaves[0]) @ leaves[1] + leaves[2]
        loss = torch.nn.functional.cross_entropy(outputs, y)
        theirs.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    assert ours == pytest.approx(theirs, rel=1e-4)


def test_a_candidate_does_not_depend_on_its_batch_or_on_masked_features(data):
    features, labels = data
    masks = Masks(np.array([[1, 1, 0, 1, 0, 1], [0, 1, 1, 0, 0, 0]], bool))
    recipe = HeadRecipe(max_epochs=4)
    both = logits(fit_recipe(features, labels, masks, ARCHITECTURE, recipe), features)
    spoilt = np.where(masks.features[1], features, 1e6)
    alone = fit_recipe(spoilt, labels, Masks(masks.features[1:]), ARCHITECTURE, recipe)

    assert np.array_equal(logits(alone, spoilt)[0], both[1])


def test_both_fits_solve_two_blobs(data):
    deep = Architecture(6, (8, 8), 2)
    for fitted in (fit(*data, WHOLE, deep), fit_recipe(*data, WHOLE, deep, HeadRecipe(lr=0.02))):
        assert (logits(fitted, data[0])[0].argmax(1) == data[1]).mean() > 0.95
