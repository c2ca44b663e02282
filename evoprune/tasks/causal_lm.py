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

if TYPE_CHECKING:
    import torch

# Logits held at once. A fixed number, so that values never depend on who shares a batch.
LOGITS_AT_ONCE = 1 << 22
REST_FLOOR = 1e-6


@dataclass(frozen=True)
class CausalLM:
    """The task ``causal_lm``.

    Attributes:
        top_k: how many of the dense model's most likely tokens are compared one by one.
    """

    top_k: int = 64

    passes = ("clean",)
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

    def positions(self, tokens: "torch.Tensor", lengths: "torch.Tensor") -> "torch.Tensor":
        """Returns which positions have a next token to predict, boolean (B, T−1)."""
        import torch

        return torch.arange(tokens.shape[1] - 1)[None, :] < (lengths - 1)[:, None]

    def reference(
        self, stages: Any, features: "torch.Tensor", mask: "torch.Tensor"
    ) -> dict[str, np.ndarray]:
        """Returns the dense model's top log-probabilities of a batch.

        Args:
            stages: the dense model.
            features: what its head reads (B, T, H).
            mask: the scored positions (B, T−1).

        Returns:
            ``top_index`` int32 and ``top_logp`` float32, both (B, T−1, k); 0 where not scored.
        """
        import torch

        flat = features[:, :-1][mask]
        indices, logps = [], []
        for rows in flat.split(_rows(stages)):
            logits = stages.logits(rows).float()
            k = min(self.top_k, logits.shape[-1])
            top, index = logits.topk(k, dim=-1)
            logps.append(top - torch.logsumexp(logits, -1, keepdim=True))
            indices.append(index)
        shape = (*mask.shape, logps[0].shape[-1])
        index_full = torch.zeros(shape, dtype=torch.int32)
        logp_full = torch.zeros(shape, dtype=torch.float32)
        index_full[mask] = torch.cat(indices).to("cpu", torch.int32)
        logp_full[mask] = torch.cat(logps).cpu()
        return {"top_index": index_full.numpy(), "top_logp": logp_full.numpy()}

    def measure(
        self,
        stages: Any,
        features: "torch.Tensor",
        batch: Mapping[str, "torch.Tensor"],
    ) -> dict[str, np.ndarray]:
        """Returns the columns of a batch's table, each (B,) float64.

        Args:
            stages: the model; only its head is run here.
            features: what the head reads (B, T, H).
            batch: ``tokens`` (B, T), ``lengths`` (B,) and the ``reference`` of the dense model.
        """
        import torch

        tokens = batch["tokens"]
        mask = self.positions(tokens, batch["lengths"])
        targets = tokens[:, 1:][mask]
        size = _rows(stages)
        pieces: list[torch.Tensor] = []
        for rows, target, index, logp in zip(
            features[:, :-1][mask].split(size),
            targets.split(size),
            batch["top_index"][mask].split(size),
            batch["top_logp"][mask].split(size),
            strict=True,
        ):
            pieces.append(_token_scores(stages.logits(rows).float(), target, index.long(), logp))
        scores = torch.cat(pieces, dim=1).double()  # (3, positions)
        owner = mask.nonzero()[:, 0]
        sums = torch.zeros(3, len(tokens), dtype=torch.float64)
        sums.index_add_(1, owner, scores)
        nll, correct, kl = sums.numpy()
        return {"n": mask.sum(1).double().numpy(), "nll": nll, "correct": correct, "kl": kl}


def _rows(stages: Any) -> int:
    """Returns how many positions' logits are held at once."""
    vocabulary = stages.model.lm_head.weight.shape[0]
    return max(64, LOGITS_AT_ONCE // int(vocabulary))


def _token_scores(
    logits: "torch.Tensor", target: "torch.Tensor", index: "torch.Tensor", logp: "torch.Tensor"
) -> "torch.Tensor":
    """Returns nll, correct and kl of each position (3, M), from logits (M, V)."""
    import torch

    device = logits.device
    target, index, logp = target.to(device), index.to(device), logp.to(device)
    # One log-sum-exp by hand: its maximum also tells whether the arg-max is the target.
    top = logits.max(dim=-1).values
    at_target = logits.gather(-1, target[:, None])[:, 0]
    logq = logits.gather(-1, index)
    total = top + torch.log(torch.exp(logits - top[:, None]).sum(-1))
    logq = logq - total[:, None]
    p = logp.exp()
    kl = (p * (logp - logq)).sum(-1)
    if index.shape[-1] < logits.shape[-1]:
        p_rest = (1 - p.sum(-1)).clamp_min(REST_FLOOR)
        q_rest = (1 - logq.exp().sum(-1)).clamp_min(REST_FLOOR)
        kl = kl + p_rest * (p_rest.log() - q_rest.log())
    return torch.stack([total - at_target, (at_target >= top).float(), kl]).cpu()
