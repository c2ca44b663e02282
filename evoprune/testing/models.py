"""Tiny models built in memory."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

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


# Small models of kinds that are unlike each other: a masked classifier, pictures, fused and
# transposed weights, four norms and mixed windows, Llama itself.
KINDS = ("bert", "vit", "gpt2", "gemma3", "llama")
CLASSES = 3


def tiny_transformer(folder: Path | str, kind: str, seed: int = 0) -> Path:
    """Returns a folder with a random transformer of a kind, and what turns data into its inputs.

    Args:
        folder: where.
        kind: one of ``KINDS``.
        seed: of the weights.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _made(kind)
        for parameter in model.parameters():
            # As they are initialised norms and biases would hide what is done to them.
            scale = 0.3 if parameter.ndim == 1 else 0.15
            with torch.no_grad():
                parameter.add_(scale * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    if kind == "vit":
        from transformers import ViTImageProcessorPil

        ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    else:
        tokenizer = byte_tokenizer()
        if kind == "bert":
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.save_pretrained(folder)
    return Path(folder)


def _made(kind: str) -> Any:
    import transformers

    blocks: dict[str, Any] = {"num_hidden_layers": 3, "hidden_size": 32, "num_attention_heads": 4}
    blocks |= {"intermediate_size": 48}
    if kind == "bert":
        more: dict[str, Any] = {"vocab_size": 257, "num_labels": CLASSES, "pad_token_id": 0}
        bert = transformers.BertConfig(**blocks, **more, max_position_embeddings=64)
        return transformers.BertForSequenceClassification(bert)
    if kind == "vit":
        sizes: dict[str, Any] = {"image_size": 16, "patch_size": 4, "num_labels": CLASSES}
        return transformers.ViTForImageClassification(transformers.ViTConfig(**blocks, **sizes))
    words: dict[str, Any] = {"vocab_size": 257, "bos_token_id": 0, "eos_token_id": 0}
    if kind == "gpt2":
        sizes = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_inner": 48, "n_positions": 64}
        return transformers.GPT2LMHeadModel(transformers.GPT2Config(**words, **sizes))
    grouped = {**blocks, "num_key_value_heads": 2, "max_position_embeddings": 64}
    if kind == "gemma3":
        kinds = ["sliding_attention", "full_attention", "sliding_attention"]
        more = {"head_dim": 8, "sliding_window": 6, "layer_types": kinds, "pad_token_id": None}
        gemma = transformers.Gemma3TextConfig(**grouped, **words, **more)
        return transformers.Gemma3ForCausalLM(gemma)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**grouped, **words))
