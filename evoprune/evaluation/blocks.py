"""What the dense network's blocks do to the states that pass through them.

Measured once on the search split's calibration set, with the base as workers map it, and kept in
the run folder: a run that is resumed reads what it began with.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune.config.schema import Config
from evoprune.core.errors import ModelError, RunFolderError, unwritable
from evoprune.core.files import replacing
from evoprune.core.networks import Batch
from evoprune.core.protocols import Hints
from evoprune.core.space import Site, Space
from evoprune.data.examples import Examples
from evoprune.evaluation.rank import scored, subject_of
from evoprune.families.load import read_placed
from evoprune.families.stages import NO_SITES, micro_batches, real_positions

if TYPE_CHECKING:
    import torch

HINTS_FILE = "hints.safetensors"
# Positions of an example whose states are compared by CKA, evenly spread where it has more.
CKA_POSITIONS = 256


def hints_of(config: Config, folder: Path, family: Any, space: Space, examples: Path) -> Hints:
    """Returns what was measured of a run's base; measures it the first time.

    Args:
        config: the experiment.
        folder: the run's ``ranks/``.
        family: of its network; one that runs in stages.
        space: what is searched.
        examples: the file of the search split's calibration set.

    Raises:
        ModelError: the states of the network cannot be compared.
        RunFolderError: the file cannot be read or written.
    """
    import torch

    path = folder / HINTS_FILE
    if path.is_file():
        return _load(path)
    torch.set_num_threads(config.workers.threads)
    settings = config.model
    model = read_placed(family, folder, settings)
    read = Examples.load(examples)
    hints = measured(family.stages(model), family.sites(model), read, settings.device)
    scores = _bit_scores(config, space, family, model, read)
    _save(path, Hints(hints.influence, hints.parts, hints.similarity, scores))
    return _load(path)


def parts_of(sites: Sequence[Site], n_blocks: int) -> dict[str, tuple[str, ...]]:
    """Returns by block the sites of one unit that lie in it, in order; itself if there are none.

    Raises:
        ModelError: the sites that lie in no other are not the blocks.
    """
    blocks = [site.name for site in sites if site.parent is None]
    if len(blocks) != n_blocks:
        raise ModelError(
            f"The network has {n_blocks} blocks and {len(blocks)} sites that lie in no other, so "
            "it is not known which is which.",
            "Use warm starts and controls that do not go by block states (`evoprune ls starts`).",
        )
    return {
        block: tuple(s.name for s in sites if s.parent == block and s.units == 1) or (block,)
        for block in blocks
    }


def measured(stages: Any, sites: Sequence[Site], examples: Examples, device: str) -> Hints:
    """Returns influences and similarities of a network's blocks and their parts.

    The parts of a block are run one after another, each as the block without the others. Means
    are over all real positions (cosines) and over examples (CKA), in float64.
    """
    import torch

    found = _Sums(parts_of(sites, stages.n_blocks))
    with torch.inference_mode():
        for _, batch in micro_batches(stages, examples.clean.arrays, device):
            found.add(stages, batch)
    return found.hints()


class _Sums:
    """Sums of cosines over positions, and of CKA over examples."""

    def __init__(self, parts: dict[str, tuple[str, ...]]) -> None:
        self._parts = parts
        self._order = tuple(part for block in parts.values() for part in block)
        self._cosines = dict.fromkeys((*self._order, *parts), 0.0)
        self._similarity = np.zeros((len(self._order), len(self._order)))
        self._positions = self._examples = 0

    def add(self, stages: Any, batch: Batch) -> None:
        """Runs a micro-batch."""
        state = stages.begin(batch)
        real = real_positions(batch, _hidden(state))  # (B, T)
        grams: list[list[np.ndarray]] = [[] for _ in real]  # by example, then by part
        for index, (block, parts) in enumerate(self._parts.items()):
            entered = _hidden(state)
            for part in parts:
                before = _hidden(state)
                others = frozenset(parts) - {part} if len(parts) > 1 else NO_SITES
                state = stages.block(index, state, others)
                self._cosines[part] += _cosine(before, _hidden(state), real)
                for example, here in enumerate(real):
                    grams[example].append(_gram(_hidden(state)[example][here]))
            if parts != (block,):
                self._cosines[block] += _cosine(entered, _hidden(state), real)
        self._positions += int(real.sum())
        for found in grams:
            self._compare(np.stack(found))

    def _compare(self, grams: np.ndarray) -> None:
        """Adds the linear CKA of an example's states, given their Gram matrices (S, n·n)."""
        norms = np.linalg.norm(grams, axis=1)
        if (norms > 0).all():  # a single position has no spread to compare
            self._similarity += (grams / norms[:, None]) @ (grams / norms[:, None]).T
            self._examples += 1

    def hints(self) -> Hints:
        """Returns the means."""
        influence = {site: 1.0 - total / self._positions for site, total in self._cosines.items()}
        similarity = self._similarity / max(self._examples, 1)
        if not (np.isfinite(similarity).all() and np.isfinite(list(influence.values())).all()):
            raise ModelError(
                "The states between the dense network's blocks are not finite.",
                "Check its weights and `model.dtype`.",
            )
        return Hints(influence, self._order, similarity)


def _hidden(state: Any) -> "torch.Tensor":
    """Returns the hidden states (B, T, H) of a state between two blocks."""
    hidden: torch.Tensor | None = getattr(state, "hidden", None)
    if hidden is None:
        raise ModelError(
            f"A {type(state).__name__} between two blocks has no `hidden`, so blocks cannot be "
            "compared.",
            "Use warm starts and controls that do not go by block states (`evoprune ls starts`).",
        )
    return hidden


def _cosine(before: "torch.Tensor", after: "torch.Tensor", real: "torch.Tensor") -> float:
    """Returns the sum of the cosines of states (B, T, H) over the real positions (B, T)."""
    import torch

    pairs = before[real].double(), after[real].double()
    return float(torch.nn.functional.cosine_similarity(*pairs, dim=-1, eps=1e-30).sum())


def _gram(states: "torch.Tensor") -> np.ndarray:
    """Returns the Gram matrix of an example's centred states (T, H), flat (n·n,)."""
    length = len(states)
    at = np.unique(np.linspace(0, length - 1, min(length, CKA_POSITIONS)).round().astype(np.int64))
    rows = states[at.tolist()].double()
    rows = rows - rows.mean(dim=0)
    return np.asarray((rows @ rows.T).flatten().cpu().numpy())


def _bit_scores(
    config: Config, space: Space, family: Any, model: Any, examples: Examples
) -> dict[str, np.ndarray]:
    """Returns the criterion's scores of the units that have a bit each, by site."""
    sites = tuple(space.sites[s] for gene in space.genes if gene.bits for s in gene.sites)
    if not sites:
        return {}
    subject = subject_of(config, space, family, model, examples, sites)
    scores = scored(config, subject)
    return {name: np.asarray(score, dtype=np.float64) for name, score in scores.items()}


def _save(path: Path, hints: Hints) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    sites = list(hints.influence)
    tensors = {"influence": np.array([hints.influence[site] for site in sites])}
    tensors["similarity"] = np.ascontiguousarray(hints.similarity)
    tensors |= {f"scores/{site}": score for site, score in hints.scores.items()}
    names = {"sites": json.dumps(sites), "parts": json.dumps(hints.parts)}
    try:
        with replacing(path) as temporary:
            save_file(tensors, temporary, names)
    except SafetensorError as error:  # a full disk, in words of its own
        raise unwritable(path, error) from error


def _load(path: Path) -> Hints:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            names = {key: json.loads(text) for key, text in file.metadata().items()}
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        influence = dict(zip(names["sites"], tensors["influence"].tolist(), strict=True))
        scores = {n.removeprefix("scores/"): t for n, t in tensors.items() if n[:7] == "scores/"}
        return Hints(influence, tuple(names["parts"]), tensors["similarity"], scores)
    except (OSError, SafetensorError, ValueError, KeyError, AttributeError) as error:
        raise RunFolderError(
            f"'{path}' cannot be read: {' '.join(str(error).split())}.",
            "Delete it; it is made again.",
        ) from error
