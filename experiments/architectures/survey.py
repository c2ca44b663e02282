"""Which architectures of transformers are taken apart by rule: tiny random models of each.

    python experiments/architectures/survey.py [--out experiments/architectures/results.md]

Of every model it says how many blocks were found and in how many of them attention, its heads, the
MLP and its channels can be cut as numbers confirm it, or why not. No weights are downloaded.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
import transformers

from evoprune.families.transformer.family import Transformer

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 96,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
WIDE = {**GROUPED, "head_dim": 8}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 96}
HEADS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 96}
PICTURES = {k: v for k, v in SIZES.items() if k != "vocab_size"}
PICTURES |= {"image_size": 16, "patch_size": 4}
ENDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
LABELS = {"num_labels": 3}

LANGUAGE: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        ("Llama", "Mistral", "Qwen2", "SmolLM3", "Granite", "Phi3", "Olmo", "Olmo2", "StableLm"),
        GROUPED,
    ),
    **dict.fromkeys(("Cohere", "Starcoder2", "Nemotron", "Exaone4", "Ernie4_5", "Arcee"), GROUPED),
    **dict.fromkeys(("Qwen3", "Gemma", "Gemma2", "Gemma3", "Glm", "Glm4", "Helium"), WIDE),
    **dict.fromkeys(("Phi", "GPTNeoX", "Persimmon"), SIZES),
    "GPT2": GPT,
    "GPTJ": {**GPT, "rotary_dim": 4},
    "CodeGen": {**GPT, "rotary_dim": 4, "n_ctx": 64, "n_positions": 64},
    "GPTBigCode": GPT,
    "GPTNeo": {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "vocab_size": 96,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 8,
    },
    "OPT": {**HEADS, "ffn_dim": 48, "word_embed_proj_dim": 32},
    "Falcon": {**HEADS, "new_decoder_architecture": False, "multi_query": False, "alibi": False},
    "Bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 96},
    "Mixtral": {**GROUPED, "num_local_experts": 4},
    "Qwen3Moe": {
        **GROUPED,
        "num_experts": 4,
        "moe_intermediate_size": 16,
        "num_experts_per_tok": 2,
    },
    "Mamba": {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 96},
}
TEXTS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("Bert", "Roberta", "XLMRoberta", "Electra", "Camembert", "MPNet"), SIZES),
    **dict.fromkeys(("Ernie", "ModernBert", "DebertaV2", "Albert"), SIZES),
    "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "vocab_size": 96},
}
IMAGES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("ViT", "DeiT", "Dinov2", "Beit", "ViTMSN"), PICTURES),
    "Swin": {
        "image_size": 32,
        "patch_size": 4,
        "embed_dim": 16,
        "depths": [1, 2],
        "num_heads": [2, 4],
        "window_size": 4,
    },
}
STACKS: dict[str, dict[str, Any]] = {
    "T5": {"d_model": 32, "d_ff": 48, "d_kv": 8, "num_layers": 2, "num_heads": 4, "vocab_size": 96},
    "Bart": {
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "vocab_size": 96,
    },
}
CASES = (
    ("ForCausalLM", LANGUAGE, ENDS),
    ("ForSequenceClassification", TEXTS, {**ENDS, **LABELS}),
    ("ForImageClassification", IMAGES, LABELS),
    ("ForConditionalGeneration", STACKS, {}),
)
NAMES = {"Gemma3Config": "Gemma3TextConfig", "GPT2ForCausalLM": "GPT2LMHeadModel"}


def model_of(name: str, head: str, options: dict[str, Any]) -> Any:
    """Returns a random model, no weight of which is as it was initialised."""
    config = getattr(transformers, NAMES.get(f"{name}Config", f"{name}Config"))
    kind = getattr(transformers, NAMES.get(f"{name}{head}", f"{name}{head}"))
    torch.manual_seed(0)
    model = kind(config(**options))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)


def row_of(name: str, model: Any) -> tuple[bool, list[str]]:
    """Returns whether a model is taken, and its row of the table."""
    family = Transformer()
    why = family.misfit(model)
    if why is not None:
        return False, [name, "refused", "", "", "", "", why.replace("|", "\\|")[:160]]
    blocks = family.layout(model).blocks
    counts = (
        sum(block.attention is not None for block in blocks),
        sum(block.attention is not None and block.attention.cut for block in blocks),
        sum(block.mlp is not None for block in blocks),
        sum(block.mlp is not None and block.mlp.cut for block in blocks),
    )
    whys = "; ".join(f"{kind}: {why}" for kind, why in blocks[0].why_not.items())
    return True, [name, str(len(blocks)), *map(str, counts), whys.replace("|", "\\|")[:160]]


def main() -> None:
    """Prints the table, or writes it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    rows, taken = [], 0
    for head, cases, more in CASES:
        for name, sizes in cases.items():
            fits, row = row_of(f"{name}{head}", model_of(name, head, {**sizes, **more}))
            taken += fits
            rows.append(row)
    header = ["class", "blocks", "attention", "heads", "MLP", "channels", "why not"]
    lines = [header, ["---"] * len(header), *rows]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    text += f"\n{taken} of {len(rows)} are taken (transformers {transformers.__version__}).\n"
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
