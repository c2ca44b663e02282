"""Data handed over from Python: what they may look like, and what is said of anything else."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from evoprune.core.errors import DataError
from evoprune.data.documents import assign_splits
from evoprune.data.memory import DocumentsInMemory, ImagesInMemory, in_memory
from evoprune.data.pool import build_pool
from evoprune.testing import byte_tokenizer

TEXTS = [f"text number {i}" for i in range(40)]
ROWS = [{"input_ids": [3 + i, 4, 5 + i % 7], "text": "unread"} for i in range(40)]
SHARES = {"search": 0.6, "validation": 0.2, "report": 0.2}


class Indexed(Dataset):
    """A data set that knows its length and ends nowhere else."""

    def __init__(self, examples):
        self.examples = examples

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        return self.examples[index % len(self.examples)]


class Streamed(IterableDataset):
    def __iter__(self):
        return iter(TEXTS)


def padded(rows):
    """Returns a batch as a tokenizer pads it: on the left."""
    width = max(len(row["input_ids"]) for row in rows) + 2
    ids = [[0] * (width - len(r["input_ids"])) + r["input_ids"] for r in rows]
    mask = [[0] * (width - len(r["input_ids"])) + [1] * len(r["input_ids"]) for r in rows]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


SAME_TEXTS = {
    "a list": TEXTS,
    "another order": TEXTS[::-1],
    "repeated": TEXTS + TEXTS[:5],
    "with blanks": [*TEXTS, "", " \n"],
    "a generator": (text for text in TEXTS),
    "a data set": Indexed(TEXTS),
    "a stream": Streamed(),
    "a loader": DataLoader(Indexed(TEXTS), batch_size=7, shuffle=True),
    "a loader of a stream": DataLoader(Streamed(), batch_size=7),
    "a loader without batches": DataLoader(Indexed(TEXTS), batch_size=None),
}


@pytest.mark.parametrize("name", SAME_TEXTS)
def test_the_same_texts_are_the_same_data(name):
    found, expected = in_memory(SAME_TEXTS[name]), in_memory(TEXTS)
    assert isinstance(found, DocumentsInMemory)
    assert found.documents() == expected.documents() and found.part == expected.part
    assert [one.kind for one in found.documents()] == ["text"] * 40


SAME_TOKENS = {
    "lists": ROWS,
    "arrays": [{"input_ids": np.array(row["input_ids"])} for row in ROWS],
    "a loader of columns": DataLoader(
        Indexed([{"input_ids": torch.tensor(row["input_ids"])} for row in ROWS]), batch_size=6
    ),
    "a loader that pads": DataLoader(Indexed(ROWS), batch_size=6, collate_fn=padded),
    "a loader of rows": DataLoader(Indexed(ROWS), batch_size=6, collate_fn=list),
}


@pytest.mark.parametrize("name", SAME_TOKENS)
def test_the_same_tokens_are_the_same_data_without_their_padding(name):
    found = in_memory(SAME_TOKENS[name])
    assert found.part == in_memory(ROWS).part
    assert {one.tokens for one in found.documents()} == {tuple(r["input_ids"]) for r in ROWS}


def test_tokens_become_chunks_as_they_are():
    found = in_memory([{"input_ids": list(range(5, 25))}, {"input_ids": [7, 8]}]).documents()
    pool = build_pool(found, byte_tokenizer(), "search", 8)
    rows = {tuple(row[:n]) for row, n in zip(pool.tokens.tolist(), pool.lengths, strict=True)}
    expected = {tuple(range(5, 13)), tuple(range(13, 21)), tuple(range(21, 25)), (7, 8)}
    assert rows == expected


def test_kinds_and_keys_are_taken_and_splits_follow_the_content():
    rows = [{"text": text, "kind": text[-1], "key": f"{i:03d}"} for i, text in enumerate(TEXTS)]
    found = in_memory(rows).documents()
    assert [one.key for one in found] == [row["key"] for row in rows]
    assert found[3].kind == "3"
    few, many = (in_memory(TEXTS[:n]).documents() for n in (30, 40))
    where = {d.text: name for name, ds in assign_splits(many, SHARES).items() for d in ds}
    for name, documents in assign_splits(few, SHARES).items():
        assert all(where[document.text] == name for document in documents)


def images(count=60):
    rng = np.random.default_rng(0)
    return rng.random((count, 4, 4)).astype(np.float32), np.arange(count) % 3


PAIRS = list(zip(*images(), strict=True))
SAME_IMAGES = {
    "pairs": PAIRS,
    "another order": random.Random(0).sample(PAIRS, len(PAIRS)),
    "tensors": TensorDataset(*map(torch.from_numpy, images())),
    "mappings": [{"image": image, "label": int(label)} for image, label in PAIRS],
    "a loader": DataLoader(TensorDataset(*map(torch.from_numpy, images())), 7, shuffle=True),
    "a loader of mappings": DataLoader(
        Indexed([{"pixel_values": torch.tensor(x), "labels": int(y)} for x, y in PAIRS]), 7
    ),
}


@pytest.mark.parametrize("name", SAME_IMAGES)
def test_the_same_images_are_the_same_data(name):
    found, expected = in_memory(SAME_IMAGES[name]), in_memory(PAIRS)
    assert isinstance(found, ImagesInMemory) and found.part == expected.part
    splits, others = found.images(), expected.images()
    assert splits.classes == ("0", "1", "2")
    for name, part in others.inside.items():
        assert splits.inside[name].digests == part.digests
        assert splits.inside[name].labels.tolist() == part.labels.tolist()


def test_other_data_have_another_digest():
    assert in_memory(TEXTS).part != in_memory(TEXTS[1:]).part
    swapped = [(image, 2 - label) for image, label in PAIRS]
    assert in_memory(PAIRS).part != in_memory(swapped).part


class Endless:
    """Something that is no collection."""


WRONG = {
    "a text": ("one text", r"are one str"),
    "a mapping of splits": ({"train": TEXTS}, r"are one dict"),
    "no collection": (Endless(), r"are Endless"),
    "nothing": ([], r"hold no example"),
    "blank": (["", " "], r"has no text"),
    "numbers": ([3, 4], r"Example 0 of the data is int"),
    "a table": (np.zeros((4, 3)), r"Example 0 of the data is ndarray of shape \(3,\), float64"),
    "other fields": ([{"txt": "a"}], r"Example 0 of the data is a mapping with txt"),
    "text that is none": ([{"text": 3}], r"The field 'text' of example 0 is int"),
    "mixed": (["a", (np.zeros((2, 2)), 1)], r"Example 1 of the data is tuple"),
    "mixed images": ([*PAIRS[:2], "a"], r"Example 2 is str, no image with a label"),
    "two keys": ([{"text": "a", "key": "k"}, {"text": "b", "key": "k"}], r"have the key 'k'"),
    "real tokens": ([{"input_ids": [0.5]}], r"The input_ids of example 0 are"),
    "negative tokens": ([{"input_ids": [3, -100]}], r"The input_ids of example 0 are"),
    "rows of tokens": ([{"input_ids": [[1, 2], [3, 4]]}], r"of shape \(2, 2\)"),
    "ragged tokens": ([{"input_ids": [[1, 2], [3]]}], r"cannot be read as numbers"),
    "a longer mask": (
        [{"input_ids": [1, 2], "attention_mask": [1]}],
        r"attention_mask of example 0 is \(1,\), its input_ids are \(2,\)",
    ),
    "two shapes": (
        [(np.zeros((2, 2)), 0), (np.zeros((3, 3)), 1)],
        r"image of example 1 is \(3, 3\), the first is \(2, 2\)",
    ),
    "no image": ([(object(), 0)], r"The image of example 0 is object"),
    "a real label": ([(np.zeros((2, 2)), 0.5)], r"The label of example 0 is 0\.5"),
    "a negative label": ([(np.zeros((2, 2)), -1)], r"The label of example 0 is -1"),
    "a label a pixel": ([(np.zeros((2, 2)), [0, 1])], r"The label of example 0 is \[0, 1\]"),
    "a loader of lists": (
        DataLoader(Indexed([{"input_ids": [1, 2, 3]} for _ in range(4)]), 2),
        r"'input_ids' as a list of tensors",
    ),
    "a loader of three columns": (
        DataLoader(TensorDataset(*[torch.zeros(4, 2)] * 3), 2),
        r"A batch of the loader is list",
    ),
    "a loader of unequal columns": (
        DataLoader(Indexed(TEXTS), 2, collate_fn=lambda rows: {"text": rows, "kind": ["a"]}),
        r"unequal length: \{'text': 2, 'kind': 1\}",
    ),
    "a loader of numbers": (
        DataLoader(Indexed(TEXTS), 2, collate_fn=lambda rows: {"text": 3}),
        r"A batch of the loader holds int",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_anything_else_is_refused_with_what_may_be_given(name):
    data, message = WRONG[name]
    with pytest.raises(DataError, match=message) as error:
        in_memory(data)
    assert error.value.remedy.endswith(".")
