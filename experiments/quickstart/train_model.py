"""Trains the quickstart's small Llama, from text to a Hugging Face folder with its model card.

    python experiments/quickstart/train_model.py --out experiments/quickstart/model
    python experiments/quickstart/train_model.py --blocks 6 \
        --tokenizer experiments/quickstart/model --out experiments/quickstart/small_dense

Same seed and same steps give the same model on the same machine. Killed or stopped by
``--minutes``, it goes on from its last checkpoint when started again.
"""

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional
from transformers import (
    AttentionInterface,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from evoprune.core.registry import DATA
from evoprune.data.documents import Document, assign_splits
from evoprune.data.pool import TextPool, build_pool, encode

HERE = Path(__file__).resolve().parent
END_OF_TEXT = "<|endoftext|>"
HALVED = "halved"


@dataclass(frozen=True)
class Recipe:
    """What a model is and how it is trained; two equal recipes give equal models.

    Args:
        drop_rate: a step that is not dense draws its rate from 0 to this.
        dense_share: share of the steps that drop nothing.
        whole_share: share of the steps that drop whole blocks instead of single sub-blocks.
        matrix_rate: peak learning rate of Muon, which trains the matrices of the blocks.
        other_rate: peak learning rate of AdamW, which trains embeddings and norms.
        decay_share: share of the steps, the last ones, over which the rates fall to zero.
    """

    blocks: int = 12
    hidden: int = 128
    intermediate: int = 288
    heads: int = 4
    kv_heads: int = 2
    vocabulary: int = 2048
    context: int = 512
    sequence: int = 256
    batch: int = 16
    steps: int = 2000
    warmup: int = 50
    decay_share: float = 0.5
    matrix_rate: float = 0.01
    other_rate: float = 0.004
    weight_decay: float = 0.05
    clip: float = 1.0
    drop_rate: float = 0.5
    dense_share: float = 1 / 3
    whole_share: float = 1 / 4
    seed: int = 0

    @property
    def digest(self) -> str:
        """A short hash of all fields."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


def load_splits(path: Path) -> dict[str, list[Document]]:
    """Returns the documents of every split that a data file describes."""
    section = yaml.safe_load(path.read_text(encoding="utf-8"))
    source = dict(section["source"])
    documents = DATA.load(source.pop("type"))(**source).documents()
    return assign_splits(documents, section["fractions"])


def train_tokenizer(documents: list[Document], recipe: Recipe) -> PreTrainedTokenizerFast:
    """Returns a byte-level BPE tokenizer trained on the documents."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator((one.text for one in documents), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=recipe.context,
        clean_up_tokenization_spaces=False,
    )


def make_model(recipe: Recipe) -> LlamaForCausalLM:
    """Returns the model as initialised from the recipe's seed."""
    torch.manual_seed(recipe.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=recipe.vocabulary,
            hidden_size=recipe.hidden,
            intermediate_size=recipe.intermediate,
            num_hidden_layers=recipe.blocks,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.kv_heads,
            head_dim=recipe.hidden // recipe.heads,
            max_position_embeddings=recipe.context,
            initializer_range=0.03,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
            attn_implementation=HALVED,
        )
    )


def halved_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *_: Any,
    scaling: float,
    **__: Any,
) -> tuple[torch.Tensor, None]:
    """Returns causal attention (B, T, H, D) computed for the two halves of the queries in turn.

    On CPU its backward pass takes half the time of torch's fused kernel at these sizes.
    """
    groups = query.shape[1] // key.shape[1]
    key, value = (one.repeat_interleave(groups, dim=1) for one in (key, value))
    tokens = query.shape[2]
    parts = []
    for first, last in ((0, tokens // 2), (tokens // 2, tokens)):
        rows = query[:, :, first:last].flatten(0, 1)
        mask = torch.full((last - first, last), -1e9, dtype=rows.dtype).triu(1 + first)
        scores = torch.baddbmm(mask, rows, key[:, :, :last].flatten(0, 1).mT, alpha=scaling)
        mixed = scores.softmax(-1).to(rows.dtype) @ value[:, :, :last].flatten(0, 1)
        parts.append(mixed.unflatten(0, query.shape[:2]))
    return torch.cat(parts, dim=2).transpose(1, 2), None


def forward(model: LlamaForCausalLM, ids: torch.Tensor, dropped: np.ndarray) -> torch.Tensor:
    """Returns the logits (B, T, V) of token ids (B, T).

    Args:
        model: the model.
        ids: token ids.
        dropped: (blocks, 2) bool, which attention and which MLP adds nothing to the residual.
    """
    core = model.model
    state = core.embed_tokens(ids)
    rotation = core.rotary_emb(state, torch.arange(ids.shape[1])[None])
    for block, (no_attention, no_mlp) in zip(core.layers, dropped, strict=True):
        if not no_attention:
            normed = block.input_layernorm(state)
            state = state + block.self_attn(normed, rotation, attention_mask=None)[0]
        if not no_mlp:
            state = state + block.mlp(block.post_attention_layernorm(state))
    return model.lm_head(core.norm(state))


def draw_dropped(recipe: Recipe, step: int) -> np.ndarray:
    """Returns which sub-blocks a step leaves out: (blocks, 2) bool."""
    rng = np.random.default_rng([recipe.seed, step, 1])
    shape, kind, rate = (recipe.blocks, 2), rng.random(), rng.uniform(0, recipe.drop_rate)
    if kind < recipe.dense_share:
        return np.zeros(shape, dtype=bool)
    if kind < recipe.dense_share + recipe.whole_share:
        return np.repeat(rng.random((recipe.blocks, 1)) < rate, 2, axis=1)
    return rng.random(shape) < rate


class Batches:
    """Batches of the training text by step: each epoch visits all of it, in its own order.

    Args:
        stream: all training tokens, in one row.
        recipe: gives sizes and seed.
    """

    def __init__(self, stream: np.ndarray, recipe: Recipe) -> None:
        self.stream = stream
        self.recipe = recipe
        self.rows = (len(stream) - 1) // recipe.sequence - 1
        self._epoch, self._starts = -1, np.zeros(0, dtype=np.int64)

    def __getitem__(self, step: int) -> torch.Tensor:
        """Returns the tokens of a step (B, sequence + 1): the last is only a target."""
        first = step * self.recipe.batch
        starts = [self._start(row) for row in range(first, first + self.recipe.batch)]
        width = self.recipe.sequence + 1
        return torch.from_numpy(np.stack([self.stream[one : one + width] for one in starts]))

    def _start(self, row: int) -> int:
        epoch, place = divmod(row, self.rows)
        if epoch != self._epoch:
            rng = np.random.default_rng([self.recipe.seed, epoch, 2])
            phase = rng.integers(self.recipe.sequence)
            self._starts = phase + self.recipe.sequence * rng.permutation(self.rows)
            self._epoch = epoch
        return int(self._starts[place])


def make_optimisers(model: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Returns Muon for the matrices of the blocks and AdamW for all else."""
    named = list(model.named_parameters())
    matrices = [p for name, p in named if p.ndim == 2 and ".layers." in name]
    embedding = [p for name, p in named if p.ndim == 2 and ".layers." not in name]
    norms = [p for _, p in named if p.ndim == 1]
    groups = [{"params": embedding}, {"params": norms, "weight_decay": 0.0}]
    return [
        torch.optim.Muon(
            matrices,
            lr=recipe.matrix_rate,
            weight_decay=recipe.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(
            groups, lr=recipe.other_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
        ),
    ]


def rate_factor(recipe: Recipe, step: int) -> float:
    """Returns the share of the peak learning rates at a step: warm-up, plateau, decay to zero."""
    decay_steps = max(1, round(recipe.decay_share * recipe.steps))
    return min(1.0, (step + 1) / recipe.warmup, (recipe.steps - step) / decay_steps)


@dataclass
class Training:
    """A training run and its checkpoint.

    Args:
        recipe: what to train.
        model: the model, in float32.
        folder: where the checkpoint lies.
    """

    recipe: Recipe
    model: LlamaForCausalLM
    folder: Path

    def __post_init__(self) -> None:
        self.optimisers = make_optimisers(self.model, self.recipe)
        self.step = 0
        self.seconds = 0.0

    @property
    def checkpoint(self) -> Path:
        """The checkpoint's file, one per recipe."""
        return self.folder / f"{self.recipe.digest}.pt"

    def restore(self) -> None:
        """Goes on from the checkpoint if there is one."""
        if not self.checkpoint.is_file():
            return
        state = torch.load(self.checkpoint, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step, self.seconds = state["step"], state["seconds"]

    def save(self) -> None:
        """Writes the checkpoint; a kill leaves the old one or the new one, never a half."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "step": self.step,
            "seconds": self.seconds,
        }
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    def run_step(self, batches: Batches) -> float:
        """Runs one step and returns its loss in nats per token."""
        started = time.perf_counter()
        rows = batches[self.step]
        factor = rate_factor(self.recipe, self.step)
        peaks = (self.recipe.matrix_rate, self.recipe.other_rate)
        for optimiser, peak in zip(self.optimisers, peaks, strict=True):
            for group in optimiser.param_groups:
                group["lr"] = peak * factor
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = forward(self.model, rows[:, :-1], draw_dropped(self.recipe, self.step))
        loss = functional.cross_entropy(logits.float().flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.seconds += time.perf_counter() - started
        return float(loss.detach())


def train(training: Training, batches: Batches, minutes: float, held_out: TextPool) -> bool:
    """Trains to the last step, or for so many minutes; returns whether it is finished."""
    deadline = time.monotonic() + 60 * minutes
    steps = training.recipe.steps
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    recent: list[float] = []
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("training", total=steps, completed=training.step)
        while training.step < steps and time.monotonic() < deadline:
            recent.append(training.run_step(batches))
            progress.update(bar, advance=1, description=f"loss {np.mean(recent[-50:]):.3f}")
            if training.step % 100 == 0 or training.step == steps:
                training.save()
                held = mean_nll(training.model, held_out)
                console.print(
                    f"step {training.step}/{steps}, {training.seconds / 60:.1f} min:"
                    f" loss {np.mean(recent[-100:]):.3f}, held out {held:.3f} nats per token",
                    highlight=False,
                )
    training.save()
    return training.step >= steps


def chunk_nll(model: LlamaForCausalLM, pool: TextPool, dropped: np.ndarray) -> np.ndarray:
    """Returns the summed negative log-likelihood in nats of each chunk (N,)."""
    sums = np.zeros(len(pool))
    for start in range(0, len(pool), 16):
        rows = slice(start, start + 16)
        ids = torch.from_numpy(pool.tokens[rows])
        with torch.inference_mode():
            logits = forward(model, ids[:, :-1], dropped).float()
            each = functional.cross_entropy(logits.mT, ids[:, 1:], reduction="none").double()
        valid = np.arange(ids.shape[1] - 1)[None] < pool.lengths[rows, None] - 1
        sums[rows] = (each.numpy() * valid).sum(axis=1)
    return sums


def mean_nll(model: LlamaForCausalLM, pool: TextPool) -> float:
    """Returns nats per predicted token of the dense model over a pool."""
    none = np.zeros((model.config.num_hidden_layers, 2), dtype=bool)
    return float(chunk_nll(model, pool, none).sum() / (pool.lengths - 1).sum())


def by_kind(sums: np.ndarray, pool: TextPool) -> dict[str, float]:
    """Returns nats per predicted token for each kind of text and for all of it."""
    kinds, predicted = np.array(pool.kinds), pool.lengths - 1
    chosen = {kind: kinds == kind for kind in sorted(set(pool.kinds))}
    chosen["all"] = np.ones(len(pool), dtype=bool)
    return {kind: float(sums[rows].sum() / predicted[rows].sum()) for kind, rows in chosen.items()}


def unigram_nll(counts: np.ndarray, pool: TextPool) -> np.ndarray:
    """Returns each chunk's summed nats (N,) under token counts smoothed by adding one."""
    nats = -np.log((counts + 1) / (counts + 1).sum())
    valid = np.arange(1, pool.tokens.shape[1])[None] < pool.lengths[:, None]
    return (nats[pool.tokens[:, 1:]] * valid).sum(axis=1)


def measure(folder: Path, counts: np.ndarray, pool: TextPool, recipe: Recipe) -> dict[str, Any]:
    """Returns nats per token by kind of the saved model, a unigram and an untrained model."""
    saved = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    none = np.zeros((recipe.blocks, 2), dtype=bool)
    return {
        "model": by_kind(chunk_nll(saved, pool, none), pool),
        "unigram": by_kind(unigram_nll(counts, pool), pool),
        "untrained": by_kind(chunk_nll(make_model(recipe).eval(), pool, none), pool),
    }


def core_minutes(recipe: Recipe, batches: Batches, folder: Path) -> float:
    """Returns the processor time of the training, from 20 steps of a throwaway model.

    Unlike wall-clock time it hardly depends on what else the machine does.
    """
    training = Training(recipe, make_model(recipe), folder)
    training.run_step(batches)
    started, first = time.process_time(), training.step
    while training.step < first + 20:
        training.run_step(batches)
    return (time.process_time() - started) / 20 * recipe.steps / 60


def write_folder(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Writes the model as a Hugging Face folder of bfloat16 safetensors."""
    model = model.to(torch.bfloat16)
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=0, pad_token_id=0)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---
# A small Llama for evoprune's quickstart

A `LlamaForCausalLM` with {blocks} blocks, hidden size {hidden}, {heads} heads over {kv_heads}
key-value heads, SwiGLU of width {intermediate}, tied embeddings and {parameters:,} parameters in
bfloat16. It was trained here, from scratch, to have something real to prune that fits into a
repository. It writes text that looks like its training text and is good for nothing else.

## Text

Source code and documentation of the Python packages pinned in `constraints.txt`, as
`experiments/quickstart/data.yaml` selects them, split by a hash of each document's path. The model
saw the training split only, {documents:,} documents of {stream_tokens:,} tokens; so did its
{vocabulary:,}-token byte-level BPE. Related files of a package may fall on both sides of a split,
and the files of the kind *models* copy from each other, which makes that kind the easiest.

## Training

{steps:,} steps of {batch} × {sequence} tokens ({seen_tokens:,} in all, {epochs:.1f} passes over
the training split), seed {seed}, in bfloat16 autocast; Muon for the matrices of the blocks, AdamW
for the rest. On {hardware} this took {minutes:.1f} minutes of wall-clock time beside other work;
its processor time, from 20 steps, is {core_minutes:.1f} core-minutes.
Stochastic depth: {dense_share:.0%} of the steps are dense; the others draw a rate from 0 to
{drop_rate:g} and leave out whole blocks ({whole_share:.0%} of all steps) or single attention and
MLP sub-blocks (the rest) at that rate. Nothing is rescaled: what is left out adds nothing, as in a
pruned model.

    {command}

## Held-out perplexity per token

{chunks:,} chunks of at most {sequence} tokens of the report split, the saved weights computed in
float32; *unigram* has the token counts of the training split plus one each, *untrained* is the
model before its first step. Written by the command above, into `scores.json` in nats.

{table}

Made with {versions}.
"""


def table_of(nll: Mapping[str, Mapping[str, float]]) -> str:
    """Returns the perplexities as a Markdown table."""
    lines = ["| kind of text | this model | unigram | untrained |", "|---|---:|---:|---:|"]
    for kind in nll["model"]:
        cells = (f"{math.exp(nll[name][kind]):,.1f}" for name in ("model", "unigram", "untrained"))
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_card(out: Path, scores: dict[str, Any]) -> None:
    """Writes the model card and the scores as JSON beside the model."""
    text = json.dumps(scores, indent=1, sort_keys=True)
    counts = json.dumps(scores["unigram_counts"], indent=1).replace("\n", "\n ")
    text = text.replace(counts, json.dumps(scores["unigram_counts"]))
    (out / "scores.json").write_text(text + "\n", encoding="utf-8")
    fields = {**scores["recipe"], **scores, "table": table_of(scores["nll"])}
    fields["versions"] = ", ".join(f"{k} {v}" for k, v in scores["versions"].items())
    (out / "README.md").write_text(CARD.format(**fields), encoding="utf-8")


def finish(
    training: Training,
    tokenizer: PreTrainedTokenizerFast,
    splits: dict,
    stream: np.ndarray,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Writes the model folder, measures what was written and returns the scores."""
    recipe = training.recipe
    write_folder(training.model, tokenizer, arguments.out)
    pool = build_pool(splits["report"], tokenizer, "report", recipe.sequence)
    counts = np.bincount(stream, minlength=recipe.vocabulary)
    scores = {
        "recipe": asdict(recipe),
        "parameters": sum(one.numel() for one in training.model.parameters()),
        "documents": len(splits["training"]),
        "stream_tokens": len(stream),
        "seen_tokens": recipe.steps * recipe.batch * recipe.sequence,
        "epochs": recipe.steps * recipe.batch * recipe.sequence / len(stream),
        "minutes": training.seconds / 60,
        "core_minutes": core_minutes(recipe, Batches(stream, recipe), arguments.checkpoints),
        "hardware": f"{arguments.threads} CPU cores",
        "command": command_line(),
        "versions": versions(),
        "split": "report",
        "chunks": len(pool),
        "chunk_tokens": recipe.sequence,
        "pool_digest": pool.digest,
        "nll": measure(arguments.out, counts, pool, recipe),
        "unigram_counts": counts.tolist(),
    }
    write_card(arguments.out, scores)
    return scores


def command_line() -> str:
    """Returns the command as it would be typed in the checkout."""
    root = HERE.parents[1]
    words = [str(Path(sys.argv[0]).resolve().relative_to(root)), *sys.argv[1:]]
    return " ".join(["python", *(word.replace(f"{root}/", "") for word in words)])


def versions() -> dict[str, str]:
    """Returns the versions that the result depends on."""
    import tokenizers
    import transformers

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
    }


def options() -> Iterator[tuple[str, Any]]:
    """Yields the recipe's fields with their defaults: each is an option of the command."""
    yield from asdict(Recipe()).items()


def parse() -> argparse.Namespace:
    """Returns what was asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished model")
    parser.add_argument("--data", type=Path, default=HERE / "data.yaml")
    parser.add_argument("--tokenizer", type=Path, help="model folder whose tokenizer to use")
    parser.add_argument("--checkpoints", type=Path, default=HERE.parents[1] / "runs" / "training")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop here, resume later")
    parser.add_argument("--threads", type=int, default=2)
    for name, default in options():
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=type(default), default=default)
    return parser.parse_args()


def main() -> None:
    """Trains, writes the folder and prints its scores."""
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    AttentionInterface.register(HALVED, halved_attention)
    recipe = Recipe(**{name: getattr(arguments, name) for name, _ in options()})
    splits = load_splits(arguments.data)
    if arguments.tokenizer:
        tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer)
    else:
        tokenizer = train_tokenizer(splits["training"], recipe)
    encoded = [encode(one.text, tokenizer) for one in splits["training"]]
    stream = np.concatenate([np.array(ids, dtype=np.int64) for ids in encoded])
    held_out = build_pool(splits["validation"], tokenizer, "validation", recipe.sequence)
    held_out = held_out.take(range(0, len(held_out), max(1, len(held_out) // 64)))
    training = Training(recipe, make_model(recipe), arguments.checkpoints)
    training.restore()
    print(f"{len(stream):,} training tokens, from step {training.step} of {recipe.steps}")
    if not train(training, Batches(stream, recipe), arguments.minutes, held_out):
        print(f"stopped after step {training.step}; the same command goes on from there")
        return
    scores = finish(training, tokenizer, splits, stream, arguments)
    print(table_of(scores["nll"]))


if __name__ == "__main__":
    main()
