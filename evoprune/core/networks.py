"""What a network, its family and its task are to the rest of the house.

A **family** takes a network apart: which places can be pruned (``sites``), what every tensor costs
and how it is cut (``table``), and how it is run (``stages``). A **task** says what a network is
for: how examples become arrays (``pools``), what is kept of the dense network's outputs
(``reference``) and what is measured of a pruned one's (``measure``). Between them travel micro-
batches of named tensors, states whose insides only their stages know, and outputs that compute
nothing before they are asked.

One micro-batch goes through a network in stages like this::

    state = stages.begin(batch)                      # once, whatever patterns come
    for index in range(stages.n_blocks):
        state = stages.block(index, state, dropped)  # for a pattern that drops these sites
    outputs = HeadOutputs(stages, stages.features(state))
    columns = task.measure(outputs, batch)
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from evoprune.core.costs import CostTable
from evoprune.core.space import Site

if TYPE_CHECKING:
    import torch

# A micro-batch: tensors by name, each (B, …); what networks of transformers read goes by the names
# of their arguments (``input_ids``, ``attention_mask``, ``pixel_values`` …).
Batch = Mapping[str, "torch.Tensor"]
# What is measured of a micro-batch: columns of a table, each float64 (B,).
Columns = dict[str, np.ndarray]


class Stages(Protocol):
    """A network as a chain of stages; one single block is legal.

    With ``block_of(site)``, the index of the block that a site lies in, patterns that begin alike
    share the blocks they begin with; without it every pattern runs from the start. Where a state's
    ``hidden`` (B, T, H) is what runs through the blocks, they can be compared by what they do to
    it (``evaluation.blocks``).

    Attributes:
        n_blocks: how many blocks there are.
        inputs: the tensors of a batch that ``begin`` reads; states depend on nothing else.
        vocabulary: how many logits each position, or example, has.
    """

    n_blocks: int
    inputs: tuple[str, ...]
    vocabulary: int

    def positions(self, arrays: Mapping[str, np.ndarray]) -> int:
        """Returns the positions of an example (T), by which micro-batches are cut."""
        ...

    def begin(self, batch: Batch) -> Any:
        """Returns the state before the first block."""
        ...

    def block(self, index: int, state: Any, dropped: Collection[str]) -> Any:
        """Returns the state after a block, and leaves the one before it as it was.

        Args:
            index: of the block.
            state: after the block before it.
            dropped: sites that are not run and add nothing.
        """
        ...

    def features(self, state: Any) -> "torch.Tensor":
        """Returns what the head reads, (B, T, H) or (B, H)."""
        ...

    def logits(self, features: "torch.Tensor") -> "torch.Tensor":
        """Returns the logits (…, V) of features (…, H)."""
        ...


class Outputs(Protocol):
    """What a network says of a micro-batch; the head runs on what a task asks of it, no more.

    Attributes:
        features: what the head reads, (B, T, H) or (B, H).
        vocabulary: how many logits there are at each position.
    """

    @property
    def features(self) -> "torch.Tensor":
        """What the head reads."""
        ...

    @property
    def vocabulary(self) -> int:
        """The number of logits."""
        ...

    def logits(self, features: "torch.Tensor") -> "torch.Tensor":
        """Returns the logits (…, V) of some of the features (…, H)."""
        ...


@dataclass(frozen=True)
class HeadOutputs:
    """Outputs of a network in stages."""

    stages: Stages
    features: "torch.Tensor"

    @property
    def vocabulary(self) -> int:
        """The number of logits."""
        return int(self.stages.vocabulary)

    def logits(self, features: "torch.Tensor") -> "torch.Tensor":
        """Returns the logits (…, V) of some of the features (…, H)."""
        return self.stages.logits(features)


@dataclass(frozen=True)
class GivenLogits:
    """Outputs of a network that was run to its end: the features are the logits (B, C)."""

    features: "torch.Tensor"

    @property
    def vocabulary(self) -> int:
        """The number of logits."""
        return int(self.features.shape[-1])

    def logits(self, features: "torch.Tensor") -> "torch.Tensor":
        """Returns them as they are."""
        return features


class Pool(Protocol):
    """The examples of one split, before any is chosen."""

    @property
    def digest(self) -> str:
        """Of the content."""
        ...

    @property
    def keys(self) -> Sequence[str]:
        """What names each example (N)."""
        ...

    @property
    def kinds(self) -> Sequence[str]:
        """The label of each example, for people (N)."""
        ...

    def __len__(self) -> int: ...

    def take(self, indices: Any) -> "Pool":
        """Returns the pool of these examples, in this order."""
        ...


class Task(Protocol):
    """What networks are for; its fields are its options.

    Attributes:
        passes: the names of the passes whose tables it makes; ``clean`` reads the examples.
        quality: the objective that measures how good a network is.
        objectives: those that it can measure; a front shows all of them.
        costs: the counts that a front shows.
    """

    passes: tuple[str, ...]
    quality: str
    objectives: tuple[str, ...]
    costs: tuple[str, ...]

    def pools(self, data: Any, source: Any, processor: Any) -> Mapping[str, Any]:
        """Returns the pool of each split; no example is in two of them.

        Raises:
            DataError: the source has nothing of the sort, or a split is empty.
        """
        ...

    def reference(self, outputs: Outputs, batch: Batch) -> dict[str, np.ndarray]:
        """Returns what is kept of the dense network's outputs, each (B, …)."""
        ...

    def measure(self, outputs: Outputs, batch: Batch) -> Columns:
        """Returns the columns of a batch's table.

        Args:
            outputs: of a pruned network.
            batch: what it read, and the ``reference`` of the dense one.
        """
        ...

    def loss(self, outputs: Outputs, batch: Batch) -> "torch.Tensor":
        """Returns the loss to differentiate, summed over what is scored (a 0-d tensor)."""
        ...

    def known(self, batch: Batch) -> tuple[tuple["torch.Tensor", ...], dict[str, "torch.Tensor"]]:
        """Returns where features are scored, and with what.

        Returns:
            An index into features, ``(example,)`` or ``(example, position)``, each (M,), and at
            each place what ``scores`` needs (M, …); no ``target`` where there is no right answer.
        """
        ...

    def scores(
        self, logits: "torch.Tensor", known: Mapping[str, "torch.Tensor"]
    ) -> dict[str, "torch.Tensor"]:
        """Returns the columns of ``measure`` for each scored place (M,), from its logits (M, V)."""
        ...


class Family(Protocol):
    """How networks of one sort are taken apart.

    A family whose networks cannot be run in stages brings a ``runner(network, task, device)``
    (``evaluation.runner.Runner``) and ``runs(network, task, examples, device)`` for criteria.

    Attributes:
        name: as configurations name it.
        loader: who loads its networks, ``huggingface`` or ``factory``.
    """

    name: str
    loader: str

    def adopt(self, loaded: Any, settings: Any) -> Any:
        """Returns the network as this family works on it."""
        ...

    def fits(self, network: Any) -> bool:
        """Returns whether a network can be taken apart so."""
        ...

    def processor(self, settings: Any) -> Any:
        """Returns what turns raw examples into inputs; None where they are inputs already."""
        ...

    def check(self, network: Any, pools: Mapping[str, Any], device: str) -> None:
        """Checks network and data against each other.

        Raises:
            ModelError: they do not belong together, or the network is not what it seemed.
        """
        ...

    def sites(self, network: Any) -> list[Site]:
        """Returns the prunable places, parents before what lies in them."""
        ...

    def table(self, network: Any, context: int) -> CostTable:
        """Returns the cost table; FLOPs are per position of an example of ``context`` positions."""
        ...

    def stages(self, network: Any) -> Stages:
        """Returns the network as stages."""
        ...

    def embed(self, network: Any, pool: Any, device: str) -> np.ndarray:
        """Returns an embedding of every example, by which they are clustered (N, D)."""
        ...

    def examples(self, network: Any, pool: Any, groups: np.ndarray, device: str) -> Any:
        """Returns what is read of a pool whose examples belong to these clusters (N,)."""
        ...

    def write(self, network: Any, folder: Path, training: Any = None) -> None:
        """Writes the base that workers map."""
        ...

    def read(self, folder: Path, dtype: str, device: str, trust_remote_code: bool = False) -> Any:
        """Returns the network of a base; on the CPU its tensors stay mapped."""
        ...
