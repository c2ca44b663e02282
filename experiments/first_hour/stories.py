"""Trains a small Llama on TinyStories in a few minutes, to have something to prune.

    python experiments/first_hour/stories.py STORIES OUT [--steps 600]

STORIES is JSON lines with a field ``text`` (the head of the train split of TinyStories, Eldan and
Li, 2023). Every tenth story is held out and written to ``OUT/held_out.txt``,
blank lines between stories: what a newcomer would hand to ``evoprune init``. The model, six
blocks of width 128, goes to ``OUT/model``. It is trained here, and no model to admire.
"""

import argparse
import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

END = "<|endoftext|>"
CONTEXT, BATCH, VOCABULARY = 64, 16, 1024
RATE = 3e-3


def tokenizer_of(stories: list[str]) -> PreTrainedTokenizerFast:
    """Returns a byte-level BPE of the stories."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator(stories, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=END, eos_token=END)


def train(tokens: torch.Tensor, steps: int) -> LlamaForCausalLM:
    """Returns a model after so many steps of AdamW on random windows of a long text (n,)."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = LlamaForCausalLM(config)
    optimiser = torch.optim.AdamW(model.parameters(), RATE, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, steps, pct_start=0.05)
    for step in range(steps):
        starts = torch.randint(len(tokens) - CONTEXT, (BATCH,))
        batch = torch.stack([tokens[at : at + CONTEXT] for at in starts])
        loss = model(input_ids=batch, labels=batch).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}/{steps}, loss {loss.item():.3f} nats a token", flush=True)
    return model.eval()


def main() -> None:
    """Trains and writes model and held-out stories."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("stories", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    asked = parser.parse_args()
    lines = asked.stories.read_text(encoding="utf-8").splitlines()
    stories = [" ".join(json.loads(line)["text"].split()) for line in lines]
    held_out, seen = stories[::10], [one for i, one in enumerate(stories) if i % 10]
    tokenizer = tokenizer_of(seen)
    ids = [token for one in seen for token in [0, *tokenizer(one)["input_ids"]]]
    print(f"{len(seen)} stories, {len(ids):,} tokens; {len(held_out)} stories are held out")
    model = train(torch.tensor(ids), asked.steps)
    model.save_pretrained(asked.out / "model")
    tokenizer.save_pretrained(asked.out / "model")
    (asked.out / "held_out.txt").write_text("\n\n".join(held_out) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
