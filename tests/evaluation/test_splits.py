"""Nothing that a search sees is in the validation or the report split."""

import itertools
import json

import pytest

from evoprune.config.parts import build
from evoprune.config.schema import load_config
from evoprune.core.registry import DATA
from evoprune.core.splits import SPLITS
from evoprune.data.examples import Examples
from evoprune.tasks.causal_lm import CausalLM
from evoprune.testing import byte_tokenizer


def pools(data):
    """Returns the pools that a configuration's ``data`` section means."""
    return CausalLM().pools(data, build(DATA, data.source), byte_tokenizer())


@pytest.fixture
def repeated(tiny_config, tiny_texts, tmp_path):
    """Returns settings whose documents begin alike, some of them being the same."""
    texts = [f"{'one beginning for all ' * 2}{i % 30}{' more' * (i % 7)}" for i in range(120)]
    rows = [{"text": text, "kind": "same", "key": f"same-{i}"} for i, text in enumerate(texts)]
    data = tiny_config()["data"]
    keys = {"text": data.get("text_field"), "kind": data.get("kind_field")}
    keys |= {"key": data.get("key_field")}
    lines = [json.dumps({keys[name] or name: value for name, value in r.items()}) for r in rows]
    (tmp_path / "same.jsonl").write_text("\n".join(lines) + "\n")
    return tiny_config(data=data | {"files": [tiny_texts, str(tmp_path / "same.jsonl")]})


def test_no_document_and_no_chunk_is_in_two_splits(repeated):
    made = pools(load_config(repeated).data)
    assert all(len(made[split]) > 5 for split in SPLITS)
    for a, b in itertools.combinations(SPLITS, 2):
        assert not set(made[a].keys) & set(made[b].keys)
        assert not set(made[a].chunk_digests()) & set(made[b].chunk_digests())


def test_no_scored_example_is_in_two_splits(make_worker, repeated):
    worker = make_worker(**{name: repeated[name] for name in ("data",)})
    rows = {
        split: {row.tobytes() for row in worker.examples(split).clean.arrays["tokens"]}
        for split in SPLITS
    }
    for a, b in itertools.combinations(SPLITS, 2):
        assert not rows[a] & rows[b]


def test_examples_of_a_run_are_those_of_its_pools(make_worker, tiny_config):
    worker = make_worker()
    made = pools(load_config(tiny_config()).data)
    for split in SPLITS:
        examples = Examples.load(worker.folder / "calibration" / f"{split}.safetensors")
        known = {row.tobytes() for row in made[split].tokens}
        assert {row.tobytes() for row in examples.clean.arrays["tokens"]} <= known
