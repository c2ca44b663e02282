"""An ensemble as one torch module: one base that all members share, and what makes them differ.

``load_ensemble`` gives ``LanguageEnsemble`` or ``ClassifierEnsemble``. The members of a language
model are models of transformers whose tensors are views of the base's; each has a key–value cache
of its own. ``generate`` is a loop of ours, greedy or sampling: transformers' own expects one cache
and one set of layers. It has no beam search.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from evoprune.core.errors import ModelError
from evoprune.ensemble.ensemble import MEMBERS, Ensemble
from evoprune.ensemble.mixture import Mixture
from evoprune.ensemble.routed import CENTROIDS, nearest, read_centroids
from evoprune.ensemble.store import BASE, check_base
from evoprune.ensemble.views import Built, build
from evoprune.families.sparse_head.heads import forward as head_forward

Caches = list[Any]


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn.

    Attributes:
        temperature: 0 takes the most likely token.
        top_k: how many of the most likely tokens may be drawn; 0 for all.
        seed: of the draws.
    """

    temperature: float = 0.0
    top_k: int = 0
    seed: int = 0


def load_ensemble(path: str | Path, device: str = "cpu") -> nn.Module:
    """Returns the module of an ensemble, in evaluation mode.

    Args:
        path: what ``save_ensemble`` wrote, or ``ensembles/<name>`` in a run folder.
        device: where it is put.

    Raises:
        RunFolderError: there is no ensemble, or it is damaged.
        ModelError: its base is missing, or is another one; or the heads are not its members'.
    """
    folder = Path(path)
    ensemble = Ensemble.read(folder)
    members, mixture = ensemble.members, mixture_of(ensemble)
    made: nn.Module
    if (folder / MEMBERS).is_file():
        heads = read_heads(folder / MEMBERS, [member.id for member in members])
        made = ClassifierEnsemble(heads, mixture, _centroids(folder, mixture))
    else:
        base = _base_folder(folder)
        check_base(base, ensemble)
        built = build(ensemble, base, device)
        made = LanguageEnsemble(built, mixture, _centroids(folder, mixture))
    return made.to(device).eval().requires_grad_(False)


def read_heads(path: Path, ids: Sequence[str]) -> list[dict[str, torch.Tensor]]:
    """Returns the tensors of the members whose ids these are, in their order.

    Raises:
        ModelError: the file is damaged, or lacks a member.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    remedy = "Copy the folder whole, or make the ensemble again."
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"'{path}' cannot be read: {error}.", remedy) from error
    heads = [_under(tensors, f"{one}.") for one in ids]
    for one, head in zip(ids, heads, strict=True):
        if not {"features", "scale", "output.weight", "output.bias"} <= head.keys():
            raise ModelError(f"'{path}' does not hold the member {one}.", remedy)
    return heads


def mixture_of(ensemble: Ensemble) -> Mixture:
    """Returns how the members answer, by their positions."""
    routes = {c: i for i, member in enumerate(ensemble.members) for c in member.clusters}
    weights = {i: member.weight for i, member in enumerate(ensemble.members)}
    return Mixture(weights, "logit" if routes else ensemble.recipe.combine, routes)


def _base_folder(folder: Path) -> Path:
    return folder if (folder / BASE).is_file() else folder.parents[1] / "ranks"


def _centroids(folder: Path, mixture: Mixture) -> torch.Tensor | None:
    if not mixture.routes:
        return None
    for place in (folder, folder.parents[1] / "calibration"):
        found = read_centroids(place / CENTROIDS)
        if found is not None:
            return torch.from_numpy(found)
    return None


def _under(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


class _Combined(nn.Module):
    """What both kinds of ensembles share: who answers."""

    def __init__(self, mixture: Mixture, centroids: torch.Tensor | None) -> None:
        super().__init__()
        self.mixture = mixture
        self.centroids: torch.Tensor | None
        self.register_buffer("centroids", centroids)

    def _clusters(
        self, clusters: Sequence[int] | None, embedding: torch.Tensor | None
    ) -> np.ndarray:
        """Returns the cluster of each example: as told, or as looked up."""
        if clusters is not None:
            told = np.asarray(clusters, dtype=np.int64)
            strange = sorted(set(told.ravel().tolist()) - set(self.mixture.routes))
            if strange:
                raise ModelError(
                    f"No member answers for the cluster {strange[0]}.",
                    f"Clusters are 0 to {max(self.mixture.routes)}.",
                )
            return told
        if self.centroids is None or embedding is None:
            raise ModelError(
                "The clusters of the inputs are not known, and the run kept no centroids.",
                "Give `clusters`, or search again in a new folder.",
            )
        centroids: np.ndarray = self.centroids.cpu().numpy()
        return nearest(embedding.double().cpu().numpy(), centroids)

    def _route(self, clusters: np.ndarray, count: int) -> list[tuple[int, torch.Tensor]]:
        """Returns each member that is needed with the rows that it answers for."""
        if clusters.shape != (count,):
            raise ModelError(
                f"There are {count} inputs, and clusters of shape {clusters.shape}.",
                "Give one cluster for each input.",
            )
        who = np.array([self.mixture.routes[int(cluster)] for cluster in clusters])
        return [(int(i), torch.from_numpy(np.flatnonzero(who == i))) for i in np.unique(who)]


class ClassifierEnsemble(_Combined):
    """Fitted heads over the same features.

    Args:
        heads: each with the tensors of ``HeadRunner.states``.
        mixture: how they answer.
        centroids: of the clusters, where members are routed.
    """

    def __init__(
        self,
        heads: Sequence[Mapping[str, torch.Tensor]],
        mixture: Mixture,
        centroids: torch.Tensor | None,
    ) -> None:
        super().__init__(mixture, centroids)
        self._names = [sorted(head) for head in heads]
        for i, head in enumerate(heads):
            for name, tensor in head.items():
                self.register_buffer(_flat(i, name), tensor)

    def forward(
        self, features: torch.Tensor, clusters: Sequence[int] | None = None
    ) -> torch.Tensor:
        """Returns log-probabilities (N, C), float64.

        Args:
            features: the backbone's (N, D).
            clusters: of the examples (N,), where members are routed; looked up by default.
        """
        if not self.mixture.routes:
            logits = torch.stack([self._logits(i, features) for i in range(len(self._names))])
            return self.mixture.answer(logits, np.empty(0)).log_softmax(dim=-1)
        routes = self._route(self._clusters(clusters, features), len(features))
        parts = [self._logits(i, features[rows]) for i, rows in routes]
        found = parts[0].new_empty((len(features), parts[0].shape[-1]))
        for (_, rows), part in zip(routes, parts, strict=True):
            found[rows] = part
        return found.log_softmax(dim=-1)

    def _logits(self, member: int, features: torch.Tensor) -> torch.Tensor:
        state = {name: getattr(self, _flat(member, name)) for name in self._names[member]}
        kept = features.double() / state["scale"]
        return head_forward(state, kept[:, state["features"]])


def _flat(member: int, name: str) -> str:
    return f"member_{member}_{name.replace('.', '_')}"


class LanguageEnsemble(_Combined):
    """Causal language models that are views of one base.

    Args:
        built: the base and the members.
        mixture: how they answer.
        centroids: of the clusters, where members are routed.
    """

    def __init__(self, built: Built, mixture: Mixture, centroids: torch.Tensor | None) -> None:
        super().__init__(mixture, centroids)
        self.base, self._family = built.base, built.family
        self.config = built.base.config
        self.members = nn.ModuleList(built.members)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        caches: Caches | None = None,
        clusters: Sequence[int] | None = None,
    ) -> Any:
        """Returns an output of transformers: ``logits`` are log-probabilities (B, T, V).

        ``past_key_values`` of the output are the members' caches; give them back as ``caches``
        with the tokens that follow. Routed members keep none: use ``generate``.

        Args:
            input_ids: (B, T).
            attention_mask: 0 where there is padding, of all tokens so far (B, S).
            caches: of the tokens before, one for each member.
            clusters: of the inputs (B,), where members are routed; looked up by default.
        """
        from transformers.modeling_outputs import CausalLMOutputWithPast

        if not self.mixture.routes:
            logits, kept = self._run(self._all, input_ids, attention_mask, caches)
            return CausalLMOutputWithPast(logits=logits, past_key_values=kept)  # type: ignore[arg-type]
        found: torch.Tensor | None = None
        for i, rows in self._route(
            self._clusters_of(input_ids, attention_mask, clusters), len(input_ids)
        ):
            mask = None if attention_mask is None else attention_mask[rows]
            part, _ = self._run([i], input_ids[rows], mask, None)
            found = part.new_empty((len(input_ids), *part.shape[1:])) if found is None else found
            found[rows] = part
        return CausalLMOutputWithPast(logits=found)

    @property
    def _all(self) -> list[int]:
        return list(range(len(self.members)))

    def _run(
        self,
        who: Sequence[int],
        input_ids: torch.Tensor,
        mask: torch.Tensor | None,
        caches: Caches | None,
    ) -> tuple[torch.Tensor, Caches]:
        """Returns log-probabilities (B, T, V) of some members, with their caches."""
        positions = None
        if mask is not None:
            # Left padding must not move the positions of what follows it.
            positions = (mask.long().cumsum(-1) - 1).clamp_min(0)[:, -input_ids.shape[1] :]
        answers, kept = [], []
        for place, i in enumerate(who):
            out = self.members[i](
                input_ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=None if caches is None else caches[place],
                use_cache=True,
            )
            answers.append(out.logits)
            kept.append(out.past_key_values)
        logits = torch.stack(answers)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        alone = Mixture.single(0) if len(who) == 1 else self.mixture
        return alone.answer(logits, np.empty(0)).log_softmax(dim=-1), kept

    def _clusters_of(
        self,
        input_ids: torch.Tensor,
        mask: torch.Tensor | None,
        clusters: Sequence[int] | None,
    ) -> np.ndarray:
        """Returns the clusters of inputs, by the base's mean features where they are not told."""
        from evoprune.families.stages import forward

        if clusters is not None or self.centroids is None:
            return self._clusters(clusters, None)
        stages = self._family.stages(self.base)
        rows = []
        for i, tokens in enumerate(input_ids):
            own = tokens if mask is None else tokens[mask[i].bool()]
            rows.append(forward(stages, {"tokens": own[None]})[0].double().mean(dim=0))
        return self._clusters(None, torch.stack(rows))

    @torch.no_grad()
    def generate(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        max_new_tokens: int = 20,
        sampling: Sampling | None = None,
        clusters: Sequence[int] | None = None,
    ) -> torch.Tensor:
        """Returns the tokens with what follows them (B, T + new).

        Every new token is drawn from the joint answer and read by every member; routed inputs are
        read by one member only. What ended is filled up with the padding token, or the end.

        Args:
            input_ids: (B, T); padding stands at the left.
            attention_mask: 0 where there is padding (B, T).
            max_new_tokens: the most tokens that are added.
            sampling: how tokens are drawn; the most likely by default.
            clusters: of the inputs (B,), where members are routed; looked up by default.
        """
        sampling = sampling or Sampling()
        if not self.mixture.routes:
            given = (input_ids, attention_mask)
            return self._continued(self._all, given, max_new_tokens, sampling)
        parts = []
        for i, rows in self._route(
            self._clusters_of(input_ids, attention_mask, clusters), len(input_ids)
        ):
            mask = None if attention_mask is None else attention_mask[rows]
            parts.append(
                (rows, self._continued([i], (input_ids[rows], mask), max_new_tokens, sampling))
            )
        width = max(tokens.shape[1] for _, tokens in parts)
        found = input_ids.new_full((len(input_ids), width), self._ends()[1])
        for rows, tokens in parts:
            found[rows, : tokens.shape[1]] = tokens
        return found

    def _continued(
        self,
        who: Sequence[int],
        given: tuple[torch.Tensor, torch.Tensor | None],
        max_new_tokens: int,
        sampling: Sampling,
    ) -> torch.Tensor:
        tokens, mask = given
        ends, padding = self._ends()
        generator = torch.Generator(tokens.device).manual_seed(sampling.seed)
        done = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
        fresh, caches = tokens, None
        for _ in range(max_new_tokens):
            logp, caches = self._run(who, fresh, mask, caches)
            drawn = _drawn(logp[:, -1], sampling, generator)
            fresh = torch.where(done, padding, drawn)[:, None]
            tokens = torch.cat([tokens, fresh], dim=1)
            if mask is not None:
                mask = torch.cat([mask, mask.new_ones((len(mask), 1))], dim=1)
            done |= torch.isin(drawn, torch.tensor(ends, device=tokens.device))
            if done.all():
                break
        return tokens

    def _ends(self) -> tuple[list[int], int]:
        """Returns the tokens that end a text, and the one that fills up what ended."""
        ends = self.config.eos_token_id
        ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
        padding = self.config.pad_token_id
        return ends, (ends[0] if ends else 0) if padding is None else padding


def _drawn(logp: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> torch.Tensor:
    """Returns a token for each row of log-probabilities (B, V)."""
    if sampling.temperature <= 0:
        return logp.argmax(dim=-1)
    scaled = logp / sampling.temperature
    if sampling.top_k:
        least = scaled.topk(min(sampling.top_k, scaled.shape[-1])).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    return torch.multinomial(scaled.softmax(dim=-1), 1, generator=generator)[:, 0]
