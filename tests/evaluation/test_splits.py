"""Nothing that a search sees is in the validation or the report split."""

import itertools

import numpy as np
import pytest

from evoprune.config import load_config
from evoprune.evaluation.examples import Examples
from evoprune.evaluation.prepare import SPLITS, pools
from evoprune.testing import byte_tokenizer


@pytest.fixture
def repeated(tiny_config, tiny_texts, tmp_path):
    """Returns settings whose documents begin alike, some of them being the same."""
    texts = [f"{'one beginning for all ' * 2}{i % 30}{' more' * (i % 7)}" for i in range(120)]
    (tmp_path / "same.txt").write_text("\n---\n".join(texts))
    data = tiny_config()["data"]
    return tiny_config(data=data | {"files": [tiny_texts, str(tmp_path / "same.txt")]})


def test_no_document_and_no_chunk_is_in_two_splits(repeated):
    made = pools(load_config(repeated).data, byte_tokenizer())
    assert all(len(made[split]) > 5 for split in SPLITS)
    for a, b in itertools.combinations(SPLITS, 2):
        assert not set(made[a].keys) & set(made[b].keys)
        assert not set(made[a].chunk_digests()) & set(made[b].chunk_digests())


def test_no_scored_example_is_in_two_splits(make_worker, repeated):
    worker = make_worker(**{name: repeated[name] for name in ("data",)})
    rows = {
        split: {row.tobytes() for row in worker.examples(split).tokens.astype(np.int64)}
        for split in SPLITS
    }
    for a, b in itertools.combinations(SPLITS, 2):
        assert not rows[a] & rows[b]


def test_examples_of_a_run_are_those_of_its_pools(make_worker, tiny_config):
    worker = make_worker()
    made = pools(load_config(tiny_config()).data, byte_tokenizer())
    for split in SPLITS:
        examples = Examples.load(worker.folder / "calibration" / f"{split}.safetensors")
        known = {row.tobytes() for row in made[split].tokens}
        assert {row.tobytes() for row in examples.tokens} <= known
