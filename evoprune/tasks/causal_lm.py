"""Next-token prediction.

One pass, ``clean``. Its table has for each example the scored positions ``n`` and, summed over
them, the negative log-likelihood ``nll`` (nats), ``correct`` (the arg-max is the next token) and
``kl``, the divergence of the pruned from the dense distribution (nats).

The head is lean: of the pruned model only the log-sum-exp and the logits of the target and of the
dense model's ``top_k`` tokens are needed; all other tokens are one event whose probability is the
rest. Merging events can only lower a divergence, so ``kl`` is a lower bound, exact where ``top_k``
is the vocabulary.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune.core.errors import DataError
from evoprune.core.metrics import Table
from evoprune.core.networks import Batch, Columns, Outputs
from evoprune.core.quality import log_frequencies
from evoprune.core.splits import SPLITS
from evoprune.data.documents import assign_splits, check_disjoint
from evoprune.data.examples import Examples
from evoprune.data.pool import TextPool, build_pool, drop_shared_chunks

if TYPE_CHECKING:
    import torch

# Logits held at once, and the least positions. Fixed numbers, so that values never depend on who
# shares a batch; few enough logits to stay in the cache, enough positions for a fast product.
LOGITS_AT_ONCE = 1 << 19
MIN_POSITIONS = 256
REST_FLOOR = 1e-6


@dataclass(frozen=True)
class CausalLM:
    """The task ``causal_lm``.

    Attributes:
        top_k: how many of the dense model's most likely tokens are compared one by one.
    """

    top_k: int = 64

    passes = ("clean",)
    quality = "nll"
    objectives = (
        "token_accuracy",
        "nll",
        "perplexity",
        "kl",
        "worst_cluster_retention",
        "worst_cluster_kl",
        "cvar_kl",
    )
    costs = ("sparsity", "params", "flops", "bytes", "kv_bytes")

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; it must be at least 1")

    def pools(self, data: Any, source: Any, tokenizer: Any) -> dict[str, TextPool]:
        """Returns the chunks of the three splits; no document and no chunk is in two of them.

        Args:
            data: the configuration's ``data`` section.
            source: the data source it names.
            tokenizer: the model's.

        Raises:
            DataError: the data are missing or empty, or a split is.
        """
        if not hasattr(source, "documents"):
            raise DataError(
                f"The data source '{data.source.type}' holds no documents.",
                "Use packages, text, jsonl, datasets, or texts from Python for a language model.",
            )
        splits = assign_splits(source.documents(), data.fractions)
        check_disjoint(splits)
        made = {
            split: build_pool(
                splits[split],
                tokenizer,
                split,
                data.chunk_tokens,
                max_chunks_per_document=data.max_chunks_per_document,
            )
            for split in SPLITS
        }
        return drop_shared_chunks(made)[0]

    def positions(self, tokens: "torch.Tensor", lengths: "torch.Tensor") -> "torch.Tensor":
        """Returns which positions have a next token to predict, boolean (B, T−1)."""
        import torch

        steps = torch.arange(tokens.shape[1] - 1, device=lengths.device)
        return steps[None, :] < (lengths - 1)[:, None]

    def spaced(
        self, arrays: Mapping[str, np.ndarray], count: int, offsets: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Returns the array that has examples scored at evenly spaced positions only.

        Systematic sampling: position i of an example with m of them is ⌊(i + offset)·m/count⌋, so
        every position is as likely as any other; an example with no more than ``count`` has all.

        Args:
            arrays: of the examples: ``tokens`` (N, T) and ``lengths`` (N,).
            count: positions of each example.
            offsets: in [0, 1), of each example (N,).

        Returns:
            ``scored``, boolean (N, T−1).
        """
        scored = np.zeros((len(offsets), arrays["tokens"].shape[1] - 1), dtype=bool)
        for row, length, offset in zip(scored, arrays["lengths"], offsets, strict=True):
            m = int(length) - 1
            steps = (np.arange(count) + offset) * (m / count) if m > count else np.arange(m)
            row[np.minimum(steps.astype(np.int64), m - 1)] = True
        return {"scored": scored}

    def _scored(self, batch: Batch) -> "torch.Tensor":
        """Returns the positions that count, boolean (B, T−1): all, or what ``spaced`` left."""
        mask = self.positions(batch["tokens"], batch["lengths"])
        return mask & batch["scored"] if "scored" in batch else mask

    def loss(self, outputs: Outputs, batch: Batch) -> "torch.Tensor":
        """Returns the negative log-likelihood summed over all positions, to differentiate.

        Args:
            outputs: with features (B, T, H).
            batch: ``tokens`` (B, T) and ``lengths`` (B,).
        """
        import torch

        tokens = batch["tokens"]
        mask = self.positions(tokens, batch["lengths"])
        logits = outputs.logits(outputs.features[:, :-1][mask]).float()  # (positions, V)
        return torch.nn.functional.cross_entropy(logits, tokens[:, 1:][mask], reduction="sum")

    def reference(self, outputs: Outputs, batch: Batch) -> dict[str, np.ndarray]:
        """Returns the dense model's top log-probabilities of a batch.

        Args:
            outputs: of the dense model, with features (B, T, H).
            batch: ``tokens`` (B, T) and ``lengths`` (B,).

        Returns:
            ``top_index`` int32 and ``top_logp``, both (B, T−1, k); 0 where not scored.
        """
        import torch

        mask = self.positions(batch["tokens"], batch["lengths"])  # (B, T−1)
        indices, logps = [], []
        for rows in outputs.features[:, :-1][mask].split(_rows(outputs)):
            logits = _logits(outputs, rows)
            top, index = logits.topk(min(self.top_k, logits.shape[-1]), dim=-1)
            # As in ``measure``, to the last bit: the dense model's own divergence is exactly 0.
            logps.append(top - _log_sum_exp(logits)[:, None])
            indices.append(index.int())
        found = {"top_index": torch.cat(indices), "top_logp": torch.cat(logps)}
        full = {n: v.new_zeros((*mask.shape, v.shape[-1])) for n, v in found.items()}
        for name, value in found.items():
            full[name][mask] = value
        return {name: value.cpu().numpy() for name, value in full.items()}

    def measure(self, outputs: Outputs, batch: Batch) -> Columns:
        """Returns the columns of a batch's table, each (B,) float64.

        Args:
            outputs: of the model, with features (B, T, H); only its head is run here.
            batch: ``tokens`` (B, T), ``lengths`` (B,) and the ``reference`` of the dense model,
                all where the model is; ``scored`` (B, T−1) where not all positions count.
        """
        import torch

        tokens = batch["tokens"]
        mask = self._scored(batch)
        size = _rows(outputs)
        pieces: list[torch.Tensor] = []
        for rows, target, index, logp in zip(
            outputs.features[:, :-1][mask].split(size),
            tokens[:, 1:][mask].split(size),
            batch["top_index"][mask].split(size),
            batch["top_logp"][mask].split(size),
            strict=True,
        ):
            pieces.append(_token_scores(_logits(outputs, rows), target, index.long(), logp))
        # Summed on the CPU, in the order of the positions: an accelerator adds in any order.
        scores = torch.cat(pieces, dim=1).double().cpu()  # (3, positions)
        mask = mask.cpu()
        sums = torch.zeros(3, len(tokens), dtype=torch.float64)
        sums.index_add_(1, mask.nonzero()[:, 0], scores)
        nll, correct, kl = sums.numpy()
        return {"n": mask.sum(1).double().numpy(), "nll": nll, "correct": correct, "kl": kl}

    def zero(self, pool: TextPool, examples: Examples, stages: Any) -> dict[str, Table]:
        """Returns the table of a model that knows the unigram frequencies of a pool.

        Args:
            pool: the chunks of the search split; no other split is looked at.
            examples: with the dense model's ``reference``.
            stages: the dense model, for the size of its vocabulary.
        """
        valid = np.arange(pool.tokens.shape[1])[None, :] < pool.lengths[:, None]
        counts = np.bincount(pool.tokens[valid], minlength=int(stages.vocabulary))
        logq, arrays = log_frequencies(counts), examples.clean.arrays
        rows = zip(
            arrays["tokens"],
            arrays["lengths"],
            arrays["top_index"],
            arrays["top_logp"],
            strict=True,
        )
        columns = [_unigram(logq, tokens[:n], index, logp) for tokens, n, index, logp in rows]
        names = ("n", "nll", "correct", "kl")
        made = {
            name: np.array(column)
            for name, column in zip(names, zip(*columns, strict=True), strict=True)
        }
        return {"clean": Table(made, examples.clean.groups)}

    def known(self, batch: Batch) -> tuple[tuple["torch.Tensor", ...], dict[str, "torch.Tensor"]]:
        """Returns the scored positions, and at each what logits are scored with.

        Args:
            batch: as for ``measure``.

        Returns:
            The example and the position of each (M,); ``target`` (M,), ``index`` and ``logp``
            (M, k).
        """
        mask = self._scored(batch)
        at = {"target": batch["tokens"][:, 1:], "index": batch["top_index"]}
        values = {n: v[mask] for n, v in {**at, "logp": batch["top_logp"]}.items()}
        return mask.nonzero(as_tuple=True), values

    def scores(
        self, logits: "torch.Tensor", known: Mapping[str, "torch.Tensor"]
    ) -> dict[str, "torch.Tensor"]:
        """Returns the columns of ``measure`` for each position (M,), from its logits (M, V)."""
        import torch

        nll, correct, kl = _token_scores(
            logits.clone(), known["target"], known["index"].long(), known["logp"]
        )
        return {"n": torch.ones_like(nll), "nll": nll, "correct": correct, "kl": kl}

    def events(
        self, logits: "torch.Tensor", known: Mapping[str, "torch.Tensor"]
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Returns log-probabilities (K, M, S) of few events, and the right one of each (M,).

        Event 0 is the next token, the last all tokens but it and the dense model's top ones. The
        likelihood of the next token is exact; the most likely token is looked for among those
        named, so an arg-max elsewhere is missed.

        Args:
            logits: of K patterns (K, M, V).
            known: what ``known`` returned.
        """
        import torch

        target, index = known["target"][:, None], known["index"].long()
        total = logits.logsumexp(dim=-1, keepdim=True)
        where = torch.cat([target, index], dim=1).expand(len(logits), -1, -1)
        named = logits.gather(-1, where) - total
        named[:, :, 1:].masked_fill_(index == target, -torch.inf)
        rest = (1 - named.exp().sum(-1, keepdim=True)).clamp_min(REST_FLOOR).log()
        return torch.cat([named, rest], dim=-1), torch.zeros_like(target[:, 0])


def _unigram(
    logq: np.ndarray, tokens: np.ndarray, index: np.ndarray, logp: np.ndarray
) -> tuple[float, float, float, float]:
    """Returns n, nll, correct and kl of fixed log-probabilities (V,) on one example.

    Args:
        logq: the same at every position (V,).
        tokens: of the example, unpadded (n,).
        index: the dense model's likeliest tokens at each position (T−1, k).
        logp: and their log-probabilities (T−1, k).
    """
    target, m = tokens[1:], len(tokens) - 1
    index, logp = index[:m].astype(np.int64), logp[:m].astype(np.float64)
    p, at_top = np.exp(logp), logq[index]
    kl = (p * (logp - at_top)).sum()
    if index.shape[-1] < len(logq):
        p_rest = np.maximum(1 - p.sum(-1), REST_FLOOR)
        q_rest = np.maximum(1 - np.exp(at_top).sum(-1), REST_FLOOR)
        kl += (p_rest * np.log(p_rest / q_rest)).sum()
    return float(m), float(-logq[target].sum()), float((target == logq.argmax()).sum()), float(kl)


def _rows(outputs: Outputs) -> int:
    """Returns how many positions' logits are held at once."""
    return max(MIN_POSITIONS, LOGITS_AT_ONCE // outputs.vocabulary)


def _logits(outputs: Outputs, features: "torch.Tensor") -> "torch.Tensor":
    """Returns logits (M, V) that may be overwritten, in float32 or better."""
    import torch

    logits = outputs.logits(features)
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _log_sum_exp(logits: "torch.Tensor") -> "torch.Tensor":
    """Returns the log-sum-exp (M,); overwrites the logits (M, V)."""
    top = logits.amax(dim=-1)
    return top + logits.sub_(top[:, None]).exp_().sum(-1).log()


def _token_scores(
    logits: "torch.Tensor", target: "torch.Tensor", index: "torch.Tensor", logp: "torch.Tensor"
) -> "torch.Tensor":
    """Returns nll, correct and kl of each position (3, M), from logits (M, V)."""
    import torch

    at_target = logits.gather(-1, target[:, None])[:, 0]
    logq = logits.gather(-1, index)
    correct = _is_arg_max(logits, target, at_target)
    total = _log_sum_exp(logits)
    logq -= total[:, None]
    p = logp.exp()
    kl = (p * (logp - logq)).sum(-1)
    if index.shape[-1] < logits.shape[-1]:
        p_rest = (1 - p.sum(-1)).clamp_min(REST_FLOOR)
        q_rest = (1 - logq.exp().sum(-1)).clamp_min(REST_FLOOR)
        kl = kl + p_rest * (p_rest.log() - q_rest.log())
    return torch.stack([total - at_target, correct.to(kl.dtype), kl])


def _is_arg_max(
    logits: "torch.Tensor", target: "torch.Tensor", at_target: "torch.Tensor"
) -> "torch.Tensor":
    """Returns where the arg-max of logits (M, V) is the target (M,), boolean (M,).

    Of equally large logits the first is the arg-max, as everywhere in torch and numpy; in bfloat16
    one position in twenty has several. An arg-max takes ten times as long as a maximum, so only
    these are looked at closely.
    """
    import torch

    rows = target[:, None]
    logits.scatter_(-1, rows, -torch.inf)
    others = logits.amax(dim=-1)
    logits.scatter_(-1, rows, at_target[:, None])
    correct, tied = at_target >= others, at_target == others
    if tied.any():
        correct[tied] = logits[tied].argmax(dim=-1) == target[tied]
    return correct
