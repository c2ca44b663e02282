"""Options and patterns: what goes out as JSON comes back, and keys tell patterns apart."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from evoprune.core.pattern import Bits, Drop, Keep, Pattern, option_from_json

MASKS = st.lists(st.booleans(), min_size=1, max_size=40)
CHOICES = st.lists(st.integers(0, 9) | st.binary(min_size=1, max_size=6), max_size=8).map(tuple)
OPTIONS = st.builds(Keep, st.integers(0, 99)) | st.just(Drop()) | MASKS.map(Bits.of)


@given(CHOICES)
def test_pattern_survives_json(choices):
    pattern = Pattern(choices)
    again = Pattern.from_json(json.loads(json.dumps(pattern.to_json())))
    assert again == pattern
    assert (again.key, again.id, hash(again)) == (pattern.key, pattern.id, hash(pattern))


@given(CHOICES, CHOICES)
def test_keys_are_equal_for_equal_patterns_only(a, b):
    assert (Pattern(a).key == Pattern(b).key) == (a == b)
    assert (Pattern(a).id == Pattern(b).id) == (a == b)


def test_pattern_reads_numpy_levels_as_plain_integers():
    pattern = Pattern(tuple(np.array([0, 2, 1])))
    assert pattern == Pattern((0, 2, 1))
    assert pattern.key == "[0,2,1]"


@given(OPTIONS)
def test_option_survives_json(option):
    assert option_from_json(json.loads(json.dumps(option.to_json()))) == option


@given(MASKS)
def test_bits_hold_their_mask(mask):
    bits = Bits.of(np.array(mask))
    assert bits.mask.tolist() == mask
    assert bits.count == sum(mask)
