"""Next-token prediction against plain cross-entropy and full divergences."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evoprune.core.networks import HeadOutputs
from evoprune.tasks import causal_lm
from evoprune.tasks.causal_lm import CausalLM

VOCABULARY, HIDDEN, ROWS, LENGTH = 24, 6, 5, 9


class Head:
    """Stages of which only the head is there."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.weight, self.vocabulary = weight, len(weight)

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        return features @ self.weight.T


def drawn(seed: int, dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """Returns a dense head, a pruned one, features of both, tokens and lengths from 1 up."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.normal(size=shape)).to(dtype)

    return {
        "dense": Head(normal(VOCABULARY, HIDDEN)),
        "pruned": Head(normal(VOCABULARY, HIDDEN)),
        "before": normal(ROWS, LENGTH, HIDDEN),
        "after": normal(ROWS, LENGTH, HIDDEN),
        "tokens": torch.from_numpy(rng.integers(0, VOCABULARY, (ROWS, LENGTH))),
        "lengths": torch.from_numpy(rng.integers(1, LENGTH + 1, ROWS)),
    }


def measured(case: dict[str, Any], top_k: int, stages: str = "pruned", features: str = "after"):
    task = CausalLM(top_k)
    batch = {"tokens": case["tokens"], "lengths": case["lengths"]}
    reference = task.reference(HeadOutputs(case["dense"], case["before"]), batch)
    batch |= {name: torch.from_numpy(value) for name, value in reference.items()}
    return task.measure(HeadOutputs(case[stages], case[features]), batch)


def by_example(case: dict[str, Any], scores: torch.Tensor) -> np.ndarray:
    """Returns scores of positions (B, T−1) summed over the real ones of each example."""
    rows = zip(scores, case["lengths"].tolist(), strict=True)
    return np.array([float(row[: length - 1].double().sum()) for row, length in rows])


def log_probabilities(case: dict[str, Any], stages: str, features: str) -> torch.Tensor:
    return torch.log_softmax(case[stages].logits(case[features][:, :-1]), dim=-1)


SEEDS = st.integers(0, 2**31)


@given(SEEDS)
def test_nll_and_accuracy_are_those_of_plain_cross_entropy(seed):
    case = drawn(seed)
    logits, targets = case["pruned"].logits(case["after"][:, :-1]), case["tokens"][:, 1:]
    nll = torch.nn.functional.cross_entropy(logits.mT, targets, reduction="none")
    columns = measured(case, top_k=4)
    np.testing.assert_allclose(columns["nll"], by_example(case, nll), rtol=1e-12, atol=1e-12)
    correct = by_example(case, logits.argmax(-1) == targets)
    np.testing.assert_array_equal(columns["correct"], correct)
    np.testing.assert_array_equal(columns["n"], case["lengths"].numpy() - 1)


@given(SEEDS)
def test_kl_over_the_whole_vocabulary_is_exact(seed):
    case = drawn(seed)
    p, q = (log_probabilities(case, *of) for of in (("dense", "before"), ("pruned", "after")))
    exact = by_example(case, (p.exp() * (p - q)).sum(-1))
    for top_k in (VOCABULARY, 10 * VOCABULARY):
        np.testing.assert_allclose(measured(case, top_k)["kl"], exact, rtol=1e-10, atol=1e-12)


@given(SEEDS, st.integers(1, VOCABULARY - 1))
def test_kl_over_fewer_tokens_is_a_lower_bound_that_grows(seed, top_k):
    case = drawn(seed)
    low, more, exact = (measured(case, k)["kl"] for k in (top_k, top_k + 1, VOCABULARY))
    # The probability of the rest has a floor, so that float32 cannot make it negative.
    slack = 1e-4 * LENGTH
    assert (low >= -slack).all()
    assert (low <= more + slack).all()
    assert (more <= exact + slack).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("top_k", [1, 5, VOCABULARY])
def test_the_dense_model_diverges_by_exactly_nothing(dtype, top_k):
    columns = measured(drawn(0, dtype), top_k, stages="dense", features="before")
    assert columns["kl"].tolist() == [0.0] * ROWS


@given(SEEDS)
def test_what_stands_in_the_padding_is_ignored(seed):
    case = drawn(seed)
    other = case | {name: case[name].clone() for name in ("tokens", "before", "after")}
    for row, length in enumerate(case["lengths"].tolist()):
        other["tokens"][row, length:] = 0
        other["before"][row, length:] = torch.nan
        other["after"][row, length:] = torch.nan
    for name, column in measured(other, top_k=3).items():
        np.testing.assert_array_equal(column, measured(case, top_k=3)[name])


@pytest.mark.parametrize("positions", [1, 3, 1000])
def test_how_many_positions_are_held_at_once_changes_nothing_in_float64(monkeypatch, positions):
    case = drawn(7)
    before = measured(case, top_k=4)
    monkeypatch.setattr(causal_lm, "MIN_POSITIONS", positions)
    monkeypatch.setattr(causal_lm, "LOGITS_AT_ONCE", 1)
    for name, column in measured(case, top_k=4).items():
        np.testing.assert_allclose(column, before[name], rtol=1e-12)


def test_a_batch_without_scored_positions_has_rows_of_zero():
    case = drawn(0) | {"lengths": torch.ones(ROWS, dtype=torch.int64)}
    assert {tuple(column) for column in measured(case, top_k=3).values()} == {(0.0,) * ROWS}


def test_logits_that_are_nan_show_in_the_table():
    case = drawn(0) | {"lengths": torch.full((ROWS,), LENGTH)}
    case["after"][0] = torch.nan
    columns = measured(case, top_k=3)
    assert np.isnan(columns["nll"]).tolist() == [True, False, False, False, False]


@given(SEEDS)
def test_the_loss_to_differentiate_is_the_nll_of_all_positions(seed):
    case = drawn(seed) | {"lengths": torch.full((ROWS,), LENGTH)}
    after = case["after"].clone().requires_grad_()
    loss = CausalLM().loss(HeadOutputs(case["pruned"], after), case)
    loss.backward()
    assert loss.item() == pytest.approx(float(measured(case, top_k=3)["nll"].sum()), rel=1e-6)
    assert after.grad[:, -1].abs().max() == 0 < after.grad[:, 0].abs().min()


def test_top_k_below_one_is_refused():
    with pytest.raises(ValueError, match="top_k is 0"):
        CausalLM(0)


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=6),
    st.integers(1, 45),
    st.integers(0, 2**32 - 1),
)
def test_positions_are_spread_evenly(lengths, count, seed):
    arrays = {"tokens": np.zeros((len(lengths), 40)), "lengths": np.array(lengths)}
    offsets = np.random.default_rng(seed).random(len(lengths))
    scored = CausalLM().spaced(arrays, count, offsets)["scored"]
    for row, length in zip(scored, lengths, strict=True):
        at = np.flatnonzero(row)
        assert len(at) == min(count, length - 1)
        assert not row[length - 1 :].any()
        if len(at) > 2:
            assert np.ptp(np.diff(at)) <= 1


def test_every_position_is_as_likely_as_any_other():
    arrays = {"tokens": np.zeros((4000, 11)), "lengths": np.full(4000, 11)}
    offsets = (np.arange(4000) + 0.5) / 4000
    share = CausalLM().spaced(arrays, 3, offsets)["scored"].mean(axis=0)
    np.testing.assert_allclose(share, 0.3, atol=1e-3)


@given(st.integers(0, 2**32 - 1))
def test_only_scored_positions_count(seed):
    case, task = drawn(seed), CausalLM(top_k=VOCABULARY)
    scored = np.random.default_rng(seed).random((ROWS, LENGTH - 1)) < 0.5
    mask = task.positions(case["tokens"], case["lengths"])
    batch = {"tokens": case["tokens"], "lengths": case["lengths"]}
    reference = task.reference(HeadOutputs(case["dense"], case["before"]), batch)
    batch |= {name: torch.from_numpy(value) for name, value in reference.items()}
    batch["scored"] = torch.from_numpy(scored)
    found = task.measure(HeadOutputs(case["pruned"], case["after"]), batch)
    counted = (mask & batch["scored"]).double()
    assert found["n"].tolist() == counted.sum(1).tolist()
    logq = log_probabilities(case, "pruned", "after")
    nll = -logq.gather(-1, case["tokens"][:, 1:, None])[..., 0]
    np.testing.assert_allclose(found["nll"], (nll * counted).sum(1), rtol=1e-9, atol=1e-12)
    where, known = task.known(batch)
    assert len(where[0]) == len(known["target"]) == int(counted.sum())
