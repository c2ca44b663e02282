"""Tiny models built in memory."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def tiny_decoder(
    folder: str | Path,
    layers: int = 4,
    heads: tuple[int, int] = (4, 2),
    tied: bool = True,
    vocabulary: int = 300,
    seed: int = 0,
    hidden: int = 32,
) -> Path:
    """Returns the folder of a random Llama with a byte-level tokenizer, made in milliseconds.

    Its weights are scaled up, so that every block changes the outputs.

    Args:
        folder: where it is written, as ``save_pretrained`` does.
        layers: blocks.
        heads: query heads and key–value heads of each.
        tied: whether the head shares the embedding's weights.
        vocabulary: embeddings; at least 257, one for each byte and the end of a text.
        seed: of the weights.
        hidden: the width of a state; MLPs have half as many channels again.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from evoprune.families.load import quiet_transformers

    quiet_transformers()
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=hidden * 3 // 2,
        num_hidden_layers=layers,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        tie_word_embeddings=tied,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(10)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return Path(folder)


def byte_tokenizer() -> "PreTrainedTokenizerFast":
    """Returns a tokenizer with a token for each byte, and one that ends a text (257 in all)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    end = "<|endoftext|>"
    names = [end, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    inner = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=end, eos_token=end)
