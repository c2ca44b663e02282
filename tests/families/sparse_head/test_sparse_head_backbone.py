"""The backbone for digits."""

import numpy as np
import pytest
import torch

from evoprune.data.images import LabelledImages
from evoprune.families.sparse_head.backbone import features, train_digits_backbone


@pytest.fixture(scope="module")
def stripes():
    """Returns images of horizontal and of vertical stripes."""
    rng = np.random.default_rng(0)
    labels = np.arange(96) % 2
    lines = np.tile(np.arange(8) % 2, (96, 8, 1)).astype(float)
    lines[labels == 1] = lines[labels == 1].transpose(0, 2, 1)
    return LabelledImages(lines + 0.1 * rng.random((96, 8, 8)), labels)


@pytest.fixture(scope="module")
def backbone(stripes):
    """Returns a backbone trained on stripes."""
    return train_digits_backbone(0, features=32, training=stripes)


def test_it_is_frozen_and_its_features_tell_classes_apart(backbone, stripes):
    found = features(backbone, stripes.images)
    means = [found[stripes.labels == label].mean(0) for label in (0, 1)]

    assert found.shape == (96, 32)
    assert found.dtype == np.float32
    assert np.linalg.norm(means[0] - means[1]) > 3 * found[stripes.labels == 0].std(0).max()
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_features_do_not_depend_on_the_neighbours(backbone, stripes):
    together = features(backbone, stripes.images)

    assert np.array_equal(features(backbone, stripes.images[70:75]), together[70:75])
    assert np.array_equal(features(backbone, stripes.images[::-1]), together[::-1])


def test_a_seed_gives_one_backbone_and_leaves_torch_as_it_was(backbone, stripes):
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    again = train_digits_backbone(0, features=32, training=stripes)
    other = train_digits_backbone(1, features=32, training=stripes)

    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert torch.equal(again.conv3.weight, backbone.conv3.weight)
    assert not torch.equal(other.conv3.weight, backbone.conv3.weight)
