"""Tiny random decoders, written like a run writes them, for the tests of the export."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shared import one_thread  # noqa: F401 - for all tests here

from evoprune.export.export import Source
from evoprune.families.decoder import Decoder
from evoprune.families.load import write_base

VOCABULARY, LAYERS = 96, 5


def tiny(kind: str, **settings: Any) -> Any:
    """Returns a random decoder with grouped queries; every parameter is random, biases too."""
    import torch
    import transformers

    sizes = {
        "vocab_size": VOCABULARY,
        "hidden_size": 48,
        "intermediate_size": 40,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "max_position_embeddings": 128,
        "head_dim": 6,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    config = getattr(transformers, f"{kind}Config")(**sizes | settings)
    torch.manual_seed(0)
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if "norm" in name else 0.0
            parameter.copy_(centre + 0.2 * torch.randn(parameter.shape))
    return model.eval()


def save_tokenizer(folder: Path) -> None:
    """Writes a tokenizer of whole words, made in memory."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3}
    words |= {f"w{i}": i for i in range(4, VOCABULARY)}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    names = {"unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=inner, **names).save_pretrained(folder)


@pytest.fixture
def make_source(tmp_path: Path) -> Callable[..., tuple[Source, list]]:
    """Returns a function that writes a decoder and returns its source and its sites."""

    def make(
        kind: str = "Llama", dtype: str = "float64", tokenizer: bool = False, **settings: Any
    ) -> tuple[Source, list]:
        import torch

        model = tiny(kind, **settings).to(getattr(torch, dtype))
        original = tmp_path / "original"
        model.config.save_pretrained(original)
        if tokenizer:
            save_tokenizer(original)
        write_base(model, tmp_path / "ranks")
        return Source(tmp_path / "ranks", str(original), dtype, "decoder"), Decoder().sites(model)

    return make


@pytest.fixture
def tokens() -> np.ndarray:
    """Returns tokens (3, 20)."""
    return np.random.default_rng(1).integers(4, VOCABULARY, (3, 20))
