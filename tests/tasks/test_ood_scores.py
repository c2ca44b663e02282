"""Out-of-distribution scores against their formulas."""

import numpy as np
import pytest

from evoprune.tasks.ood import (
    SCORES,
    energy,
    max_logit,
    max_logit_centred,
    msp,
    odin,
)

LOGITS = np.random.default_rng(0).normal(scale=4, size=(500, 5))


def test_scores_equal_their_formulas():
    exponentials = np.exp(LOGITS)

    assert np.allclose(energy(LOGITS), np.log(exponentials.sum(1)))
    assert np.allclose(msp(LOGITS), (exponentials / exponentials.sum(1, keepdims=True)).max(1))
    assert np.array_equal(max_logit(LOGITS), LOGITS.max(1))
    assert np.allclose(max_logit_centred(LOGITS), LOGITS.max(1) - LOGITS.mean(1))


def test_odin_is_an_affine_map_of_the_centred_maximum():
    assert np.corrcoef(odin(LOGITS), max_logit_centred(LOGITS))[0, 1] > 0.9999


@pytest.mark.parametrize("name", SCORES)
def test_scores_take_any_leading_axes_and_stay_finite(name):
    stacked = SCORES[name](1e4 * LOGITS.reshape(10, 50, 5))

    assert stacked.shape == (10, 50)
    assert np.isfinite(stacked).all()


@pytest.mark.parametrize("name", SCORES)
def test_a_sure_example_is_more_inside_than_an_unsure_one(name):
    sure, unsure = np.array([5.0, 0.0, 0.0]), np.array([0.1, 0.0, 0.0])

    assert SCORES[name](sure) > SCORES[name](unsure)
