"""A live model needs no name and no folder: what it says of itself is enough."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

import evoprune
from evoprune.core.errors import ModelError
from evoprune.testing import byte_tokenizer


@pytest.fixture
def fresh() -> LlamaForCausalLM:
    """Returns a model that was never saved."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
    return LlamaForCausalLM(LlamaConfig(vocab_size=300, num_attention_heads=4, **sizes))


def unnamed(tiny_config, **sections):
    settings = tiny_config(export={"picks": []}, **sections)
    del settings["model"]
    return settings


def tokens(count: int = 90) -> list[dict[str, list[int]]]:
    rng = np.random.default_rng(0)
    return [{"input_ids": rng.integers(1, 256, 24).tolist()} for _ in range(count)]


def test_a_model_with_its_tokenizer_is_searched_and_exported_with_it(tiny_config, fresh):
    run = evoprune.search(unnamed(tiny_config), model=fresh, tokenizer=byte_tokenizer(), quiet=True)
    assert run.config.model.label == "LlamaForCausalLM"
    loaded = evoprune.Run.load(run.folder.path)
    made = loaded.export(run.front[0], verify=False)
    assert AutoModelForCausalLM.from_pretrained(made.path).config.vocab_size == 300
    assert AutoTokenizer.from_pretrained(made.path)("a")["input_ids"]
    # It goes on from its folder, where neither is handed over again.
    assert evoprune.search(run.folder.config, quiet=True).front == run.front


def test_tokens_need_no_tokenizer(tiny_config, fresh):
    settings = unnamed(tiny_config)
    settings["data"] = {k: settings["data"][k] for k in ("chunk_tokens", "fractions")}
    run = evoprune.search(settings, model=fresh, data=tokens(), quiet=True)
    assert len(run.front) >= 2


def test_texts_without_a_tokenizer_are_told_how(tiny_config, fresh):
    with pytest.raises(ModelError, match=r"does not say where its tokenizer is\. Hand it over"):
        evoprune.search(unnamed(tiny_config), model=fresh, quiet=True)
    with pytest.raises(ModelError, match="The tokenizer handed over is str"):
        evoprune.search(unnamed(tiny_config), model=fresh, tokenizer="bpe", quiet=True)


def test_a_loaded_model_says_where_its_tokenizer_is(tiny_config, tiny_llama):
    model = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float32)
    run = evoprune.search(unnamed(tiny_config), model=model, quiet=True)
    assert run.config.model.name_or_path == str(tiny_llama)


def test_a_live_backbone_needs_no_factory(tmp_path):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten())
    drawn = np.random.default_rng(0).random((200, 6, 6)).astype(np.float32)
    settings = {
        "task": "classification",
        "calibration": {"samples": 20, "clusters": 2},
        "validation": {"samples": 10},
        "report": {"samples": 20},
        "space": "sparse_head/features",
        "objectives": ["accuracy", "params"],
        "search": {"algorithm": {"type": "nsga2", "pop_size": 4}, "n_eval": 8, "warm_starts": []},
        "controls": [],
        "workers": {"backend": "local"},
        "export": {"picks": []},
        "output": str(tmp_path / "run"),
    }
    pairs = [(image, i % 3) for i, image in enumerate(drawn)]
    run = evoprune.search(settings, model=net, data=pairs, quiet=True)
    assert (run.config.model.label, len(run.front) > 0) == ("Sequential", True)
    assert run.export(run.front[0], verify=False).params > 0
