"""The default fit of sparse heads: what is kept counts, and nothing else."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from evoprune.families.sparse_head.fit import Settings, feature_scale, fit, logits
from evoprune.families.sparse_head.heads import Architecture, Fitted, Masks, forward

CLASSES, FEATURES, ROWS = 3, 24, 90
ARCHITECTURES = [
    Architecture(FEATURES, (16,), CLASSES),
    Architecture(FEATURES, (16, 12), CLASSES),
]
IDS = ["one hidden layer", "two hidden layers"]


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Returns features of three blobs, and their labels."""
    rng = np.random.default_rng(0)
    labels = np.arange(ROWS) % CLASSES
    centres = rng.normal(size=(CLASSES, FEATURES))
    return centres[labels] + 0.3 * rng.normal(size=(ROWS, FEATURES)), labels


def draw(candidates: int, architecture: Architecture, seed: int = 0) -> Masks:
    """Returns random masks of features and neurons that leave one of each at least."""
    rng = np.random.default_rng(seed)
    widths = (architecture.features, *architecture.hidden)
    masks = [rng.random((candidates, width)) < 0.5 for width in widths]
    for mask in masks:
        mask[:, 0] = True
    return Masks(masks[0], tuple(masks[1:]))


def one(masks: Masks, candidate: int) -> Masks:
    """Returns one candidate's masks."""
    rows = slice(candidate, candidate + 1)
    return Masks(masks.features[rows], tuple(layer[rows] for layer in masks.hidden))


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=IDS)
def test_candidate_is_bit_identical_in_any_batch(data, architecture):
    masks = draw(7, architecture)
    together = logits(fit(*data, masks, architecture), data[0])

    order = np.array([4, 0, 6, 2])
    shuffled = Masks(masks.features[order], tuple(layer[order] for layer in masks.hidden))
    again = logits(fit(*data, shuffled, architecture), data[0])

    assert np.array_equal(again, together[order])
    for candidate in range(7):
        alone = logits(fit(*data, one(masks, candidate), architecture), data[0])
        assert np.array_equal(alone[0], together[candidate])


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=IDS)
def test_state_holds_what_is_kept_and_gives_the_logits(data, architecture):
    masks = draw(5, architecture)
    fitted = fit(*data, masks, architecture)
    scored = logits(fitted, data[0])

    for candidate, keep in enumerate(fitted.keeps):
        state = fitted.state(candidate)
        widths = [len(keep.features), *(len(neurons) for neurons in keep.hidden)]
        shapes = [state[f"hidden.{i}.weight"].shape for i in range(len(architecture.hidden))]
        assert shapes == [(b, a) for a, b in pairwise(widths)]
        outputs = forward(state, torch.from_numpy(data[0][:, keep.features]))
        assert np.allclose(outputs.numpy(), scored[candidate], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("garbage", [1e6, np.nan])
def test_masked_features_have_no_effect(data, garbage):
    features, labels = data
    masks = draw(3, ARCHITECTURES[0])
    for candidate in range(3):
        spoilt = features.copy()
        spoilt[:, ~masks.features[candidate]] = garbage
        mine = one(masks, candidate)
        clean = logits(fit(features, labels, mine, ARCHITECTURES[0]), features)
        assert np.array_equal(logits(fit(spoilt, labels, mine, ARCHITECTURES[0]), spoilt), clean)


def test_a_candidate_equals_the_full_head_whose_kernels_hold_zeros(data):
    masks = draw(1, ARCHITECTURES[0])
    fitted = fit(*data, masks, ARCHITECTURES[0])
    state, keep = fitted.state(0), fitted.keeps[0]
    hidden = torch.zeros(16, FEATURES, dtype=torch.float64)
    hidden[np.ix_(keep.hidden[0], keep.features)] = state["hidden.0.weight"]
    output = torch.zeros(CLASSES, 16, dtype=torch.float64)
    output[:, keep.hidden[0]] = state["output.weight"]

    full = {"hidden.0.weight": hidden, "output.weight": output, "output.bias": state["output.bias"]}
    dense = forward(full, torch.from_numpy(data[0]))

    assert np.allclose(dense.numpy(), logits(fitted, data[0])[0], rtol=1e-9, atol=1e-12)


def accuracy(fitted: Fitted, data: tuple[np.ndarray, np.ndarray]) -> float:
    """Returns the share of examples that the only head gets right."""
    return float((logits(fitted, data[0])[0].argmax(1) == data[1]).mean())


def test_extreme_masks_fit(data):
    whole = Masks(np.ones((1, FEATURES), bool))
    assert accuracy(fit(*data, whole, ARCHITECTURES[0]), data) == 1

    single = Masks(np.arange(FEATURES)[None] == 3)
    assert 1 / CLASSES < accuracy(fit(*data, single, ARCHITECTURES[0]), data) < 1

    nothing = logits(fit(*data, Masks(~whole.features), ARCHITECTURES[0]), data[0])
    assert np.isfinite(nothing).all()
    assert np.ptp(nothing, axis=1).max() == 0


@pytest.mark.parametrize("neurons", [0, 1])
def test_extreme_neuron_masks_fit(data, neurons):
    whole = np.ones((1, FEATURES), bool)
    masks = Masks(whole, (np.arange(16)[None] < neurons, np.arange(12)[None] < neurons))

    assert np.isfinite(logits(fit(*data, masks, ARCHITECTURES[1]), data[0])).all()


def test_more_steps_change_little(data):
    masks = Masks(np.ones((1, FEATURES), bool))
    few, many = (
        logits(fit(*data, masks, ARCHITECTURES[0], Settings(steps=steps)), data[0])[0]
        for steps in (Settings().steps, 400)
    )
    losses = [
        float(torch.nn.functional.cross_entropy(torch.tensor(z), torch.tensor(data[1])))
        for z in (few, many)
    ]

    assert losses[0] - losses[1] < 0.02
    assert losses[1] < 0.05


def test_the_fit_is_the_same_each_time_and_differs_by_seed(data):
    masks = draw(2, ARCHITECTURES[0])
    first, second = (logits(fit(*data, masks, ARCHITECTURES[0]), data[0]) for _ in range(2))
    other = logits(fit(*data, masks, Architecture(FEATURES, (16,), CLASSES, seed=1)), data[0])

    assert np.array_equal(first, second)
    assert not np.allclose(first, other)


def test_values_do_not_depend_on_the_number_of_threads():
    rng = np.random.default_rng(0)
    architecture = Architecture(300, (256,), 4)
    features, labels = rng.random((400, 300)), np.arange(400) % 4
    masks, before = Masks(rng.random((2, 300)) < 0.7), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(logits(fit(features, labels, masks, architecture), features))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)

    assert np.array_equal(*found)


def test_feature_scale_brings_the_mean_square_to_one(data):
    scaled = data[0] / feature_scale(data[0])

    assert np.mean(scaled**2) == pytest.approx(1)
    assert feature_scale(np.zeros((3, 2))) == 1
