"""Each rule against its formula, and what must hold for all of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprune.core.errors import ConfigError
from evoprune.ensemble.combine import RULES, combine


def softmax(logits):
    exps = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True)


def draw(seed=0, members=4, rows=30, classes=5):
    return np.random.default_rng(seed).normal(0, 3, (members, rows, classes))


def test_probability_is_the_weighted_mean_of_probabilities():
    logits, weights = draw(), [3, 1, 2, 1]
    expected = np.average(softmax(logits), axis=0, weights=weights)
    np.testing.assert_allclose(np.exp(combine(logits, "probability", weights)), expected)


def test_logit_is_the_normalised_geometric_mean():
    logits, weights = draw(), [3, 1, 2, 1]
    product = np.prod(softmax(logits) ** (np.array(weights) / 7)[:, None, None], axis=0)
    expected = product / product.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(np.exp(combine(logits, "logit", weights)), expected)


@pytest.mark.parametrize("rule", ["vote", "vote_smallest"])
def test_a_vote_has_the_mean_probabilities_with_its_winner_first(rule):
    logits = draw(members=5)
    mean, found = softmax(logits).mean(axis=0), np.exp(combine(logits, rule))
    np.testing.assert_allclose(np.sort(found), np.sort(mean))
    same = found.argmax(axis=1) == mean.argmax(axis=1)
    np.testing.assert_allclose(found[same], mean[same])
    assert 0 < same.sum() < 30


@given(st.integers(0, 1000), st.integers(2, 7))
def test_no_class_with_fewer_votes_wins(seed, members):
    logits = draw(seed, members)
    votes = np.stack([np.bincount(row, minlength=5) for row in logits.argmax(axis=2).T])
    for rule in ("vote", "vote_smallest"):
        won = combine(logits, rule).argmax(axis=1)
        assert (votes[np.arange(30), won] == votes.max(axis=1)).all()


def test_ties_go_to_the_larger_mean_probability_or_to_the_smallest_label():
    logits = np.log([[[0.60, 0.10, 0.30]], [[0.05, 0.90, 0.05]]])
    assert combine(logits, "vote").argmax() == 1
    assert combine(logits, "vote_smallest").argmax() == 0


@given(st.integers(0, 1000))
def test_the_smallest_label_wins_every_tie(seed):
    logits = draw(seed, members=4, classes=3)
    votes = np.stack([np.bincount(row, minlength=3) for row in logits.argmax(axis=2).T])
    np.testing.assert_array_equal(
        combine(logits, "vote_smallest").argmax(axis=1), votes.argmax(axis=1)
    )


@pytest.mark.parametrize("rule", RULES)
def test_answers_are_distributions(rule):
    np.testing.assert_allclose(np.exp(combine(draw(), rule)).sum(axis=1), 1)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("copies", [1, 2, 5])
def test_copies_of_one_member_are_the_member(rule, copies):
    logits = draw(members=1)
    found = combine(np.repeat(logits, copies, axis=0), rule)
    np.testing.assert_allclose(found, np.log(softmax(logits[0])), atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_a_weight_counts_as_so_many_copies(rule):
    logits = draw(members=2)
    found = combine(logits, rule, [2, 1])
    np.testing.assert_allclose(found, combine(logits[[0, 0, 1]], rule), atol=1e-12)


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_members_means_nothing(rule):
    logits = draw()
    found = combine(logits[[2, 0, 3, 1]], rule, [1, 2, 3, 4])
    np.testing.assert_allclose(found, combine(logits, rule, [2, 4, 1, 3]), atol=1e-12)


def test_impossible_classes_stay_impossible():
    logits = np.array([[[0.0, -np.inf]], [[1.0, -np.inf]]])
    for rule in RULES:
        np.testing.assert_array_equal(combine(logits, rule), [[0.0, -np.inf]])


def test_an_unknown_rule_is_refused():
    with pytest.raises(ConfigError, match="Did you mean 'probability'"):
        combine(draw(), "probabilty")
