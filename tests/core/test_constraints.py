"""Bounds as people write them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprune.core.constraints import (
    SLACK,
    Constraint,
    asked_rung,
    parse_bound,
    parse_constraint,
    parse_constraints,
)
from evoprune.core.errors import ConfigError

BOUNDS = st.floats(-1e9, 1e9).map(lambda value: float(f"{value:g}"))


@given(st.sampled_from(["<=", ">=", "<", ">"]), BOUNDS, st.booleans())
def test_what_is_written_is_read(op, bound, percent):
    constraint = Constraint("params", op, bound, percent)
    assert parse_bound(str(constraint)) == constraint
    assert parse_constraint("params", str(constraint).removeprefix("params")) == constraint


@pytest.mark.parametrize("text", ["<= 70 %", "  <=70%", "<=7e1%", "<=70.0 %  "])
def test_spaces_and_exponents_are_fine(text):
    assert parse_constraint("params", text) == Constraint("params", "<=", 70.0, True)


@pytest.mark.parametrize("text", ["70%", 70, "kl<70%", "<=", "<=1e", "<=x", "==3", "<=1e999", True])
def test_what_is_no_bound_is_refused(text):
    with pytest.raises(ConfigError) as error:
        parse_constraint("params", text)
    assert error.value.cause == f"The constraint 'params: {text}' cannot be read."
    assert '"<=70%"' in error.value.remedy


def test_a_percentage_is_of_the_dense_value():
    assert Constraint("params", "<=", 70.0, True).limit(200.0) == 140.0
    assert Constraint("params", "<=", 70.0).limit(200.0) == 70.0


@given(BOUNDS, st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5))
def test_violations_are_positive_exactly_on_the_wrong_side(bound, values):
    array = np.array(values)
    upper = Constraint("x", "<=", bound).violation(array, 1.0)
    lower = Constraint("x", ">=", bound).violation(array, 1.0)
    slack = SLACK * max(abs(bound), 1.0)
    assert ((upper > 0) == (array - bound > slack)).all()
    assert ((lower > 0) == (bound - array > slack)).all()
    assert (upper * lower == 0).all()


@given(BOUNDS, st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5))
def test_a_strict_bound_is_kept_exactly_where_the_other_way_round_is_broken(bound, values):
    array = np.array([*values, bound, np.nan])
    for strict, opposite in (("<", ">="), (">", "<=")):
        kept = Constraint("x", strict, bound).met(array, 1.0)
        broken = Constraint("x", opposite, bound).violation(array, 1.0) > 0
        assert kept.tolist() == broken.tolist()
    assert not kept[-2:].any()


@pytest.mark.parametrize("text", ["", "params", "<=3", "params<=", "params<=60%%", "a<=1<=2"])
def test_what_is_no_constraint_is_refused(text):
    with pytest.raises(ConfigError, match=f"The constraint '{text}' cannot be read"):
        parse_bound(text)


def test_rounding_of_a_percentage_breaks_nothing():
    third = Constraint("params", "<=", 100.0 / 3, True)
    assert third.violation(np.array([1.0]), 3.0).tolist() == [0.0]


def test_a_mapping_gives_its_constraints_in_order():
    found = parse_constraints({"params": "<=70%", "token_accuracy": ">=0.3"})
    assert [str(constraint) for constraint in found] == ["params<=70%", "token_accuracy>=0.3"]


def test_a_rung_stands_beside_bounds():
    texts = {"rung": "homogeneous", "params": "<=70%"}
    assert asked_rung(texts) == "homogeneous" and asked_rung({"params": "<=70%"}) is None
    assert [str(constraint) for constraint in parse_constraints(texts)] == ["params<=70%"]


@pytest.mark.parametrize(
    ("rung", "remedy"),
    [
        ("homogenous", "Did you mean 'homogeneous'?"),
        ("standalone", "Choose one of: homogeneous."),
        ("heterogeneous", "Every pattern reaches that one: write 'rung: homogeneous', or leave"),
        ("<=1", "Choose one of: homogeneous."),
    ],
)
def test_a_rung_that_cannot_be_asked_for_is_refused(rung, remedy):
    with pytest.raises(ConfigError) as error:
        asked_rung({"rung": rung})
    assert f"The constraint 'rung: {rung}' names no rung" in str(error.value)
    assert remedy in str(error.value)


def test_a_rung_under_another_name_is_told_its_own():
    with pytest.raises(
        ConfigError, match=r"'rng: homogeneous' cannot be read.*'rung: homogeneous'\?"
    ):
        parse_constraints({"rng": "homogeneous"})
