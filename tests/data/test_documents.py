from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evoprune.core.errors import DataError
from evoprune.data.documents import Document, assign_splits, check_disjoint

FRACTIONS = {"training": 0.4, "search": 0.2, "validation": 0.2, "report": 0.2}


def make(count, kind="text"):
    return [Document(f"file{i}.txt", kind, f"text number {i}") for i in range(count)]


def split_of(splits):
    return {one.key: name for name, members in splits.items() for one in members}


def test_digest_is_sha256_of_text():
    assert Document("a", "k", "héllo").digest == sha256("héllo".encode()).hexdigest()


@given(st.integers(80, 160), st.randoms(use_true_random=False))
def test_added_documents_move_no_other(count, random):
    documents = make(count)
    few = split_of(assign_splits(documents, FRACTIONS))
    shuffled = [*documents, *(Document(f"new{i}", "k", f"more {i}") for i in range(40))]
    random.shuffle(shuffled)
    many = split_of(assign_splits(shuffled, FRACTIONS))
    assert {key: many[key] for key in few} == few
    assert len(few) == count


def test_shares_are_about_met_and_members_sorted():
    splits = assign_splits(make(2000), FRACTIONS)
    for name, share in FRACTIONS.items():
        assert abs(len(splits[name]) / 2000 - share) < 0.05
        assert [one.key for one in splits[name]] == sorted(one.key for one in splits[name])


def test_training_may_be_absent():
    splits = assign_splits(make(60), {"search": 0.4, "validation": 0.3, "report": 0.3})
    assert list(splits) == ["search", "validation", "report"]


def test_same_text_is_kept_once_under_its_first_key():
    copies = [Document("zzz", "k", "text number 3"), *make(60)]
    assert "zzz" not in split_of(assign_splits(copies, FRACTIONS))


def test_documents_of_one_origin_share_a_split():
    code = make(60)
    prose = [Document(f"{one.key}#docstrings", "prose", f"about {one.key}") for one in code]
    where = split_of(assign_splits(code + prose, FRACTIONS))
    assert all(where[one.key] == where[f"{one.key}#docstrings"] for one in code)


def test_shared_text_names_both_keys():
    splits = {"search": [Document("a", "k", "same")], "report": [Document("b", "k", "same")]}
    with pytest.raises(DataError, match=r"'a' of the search split and 'b' of the report split"):
        check_disjoint(splits)


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"serch": 1.0}, "Did you mean 'search'"),
        ({"search": 0.5}, "sum to 0.5"),
        ({"search": 1.5, "report": -0.5}, "1.5"),
        ({"search": 0.999999, "report": 0.000001}, "report split has no document"),
    ],
)
def test_wrong_fractions_are_refused(fractions, message):
    with pytest.raises(DataError, match=message):
        assign_splits(make(20), fractions)
