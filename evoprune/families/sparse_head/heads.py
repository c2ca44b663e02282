"""Heads and their masks: Dense(hidden, ReLU, no bias) once or twice, then Dense(classes)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional as F

State = dict[str, torch.Tensor]


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs torch on one thread: sums, and so all values, depend on how many there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Masks:
    """What each of P candidates keeps.

    Args:
        features: the features kept, boolean (P, D).
        hidden: for each hidden layer the neurons kept, boolean (P, H); all where left out.
    """

    features: np.ndarray
    hidden: tuple[np.ndarray, ...] = ()

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Kept:
    """What one candidate keeps, as indices.

    Args:
        features: the features (d,).
        hidden: for each hidden layer the neurons (h,).
    """

    features: np.ndarray
    hidden: tuple[np.ndarray, ...]


@dataclass(frozen=True)
class Architecture:
    """A head's full widths.

    Args:
        features: how many features go in.
        hidden: the width of each hidden layer, from the first.
        classes: how many classes come out.
        seed: of the initialisation, which all candidates share.
    """

    features: int
    hidden: tuple[int, ...]
    classes: int
    seed: int = 0


def initial(architecture: Architecture) -> list[torch.Tensor]:
    """Returns the Glorot-uniform kernels, float64: each (in, out), the last the output layer's."""
    generator = torch.Generator().manual_seed(architecture.seed)
    widths = (architecture.features, *architecture.hidden, architecture.classes)
    kernels = []
    for before, after in pairwise(widths):
        limit = (6 / (before + after)) ** 0.5
        draw = torch.rand((before, after), generator=generator, dtype=torch.float64)
        kernels.append((2 * draw - 1) * limit)
    return kernels


def kept(masks: Masks, candidate: int, hidden: Sequence[int]) -> Kept:
    """Returns what a candidate keeps of a head with these hidden widths."""
    layers = masks.hidden or tuple(np.ones((len(masks), width), bool) for width in hidden)
    return Kept(
        np.flatnonzero(masks.features[candidate]),
        tuple(np.flatnonzero(layer[candidate]) for layer in layers),
    )


def gathered(kernels: Sequence[torch.Tensor], keep: Kept) -> list[torch.Tensor]:
    """Returns copies of the kernels with only the kept rows and columns."""
    cuts = [torch.from_numpy(rows) for rows in (keep.features, *keep.hidden)]
    inner = [
        kernel[rows][:, columns]
        for kernel, rows, columns in zip(kernels, cuts, cuts[1:], strict=False)
    ]
    return [*inner, kernels[-1][cuts[-1]]]


def state_of(kernels: Sequence[torch.Tensor], bias: torch.Tensor) -> State:
    """Returns a head's tensors by name, each weight (out, in) as in ``torch.nn.Linear``."""
    state = {f"hidden.{i}.weight": w.T.contiguous() for i, w in enumerate(kernels[:-1])}
    return state | {"output.weight": kernels[-1].T.contiguous(), "output.bias": bias}


def forward(state: State, features: torch.Tensor) -> torch.Tensor:
    """Returns the logits (M, C) of a head for its kept features (M, d)."""
    hidden, layer = features, 0
    while f"hidden.{layer}.weight" in state:
        hidden = F.relu(hidden @ state[f"hidden.{layer}.weight"].T)
        layer += 1
    return hidden @ state["output.weight"].T + state["output.bias"]


@dataclass(frozen=True)
class Fitted:
    """The fitted heads of P candidates.

    Args:
        keeps: what each keeps.
        build: makes a candidate's tensors.
    """

    keeps: tuple[Kept, ...]
    build: Callable[[int], State]

    def __len__(self) -> int:
        return len(self.keeps)

    def state(self, candidate: int) -> State:
        """Returns a candidate's tensors, of only what it keeps."""
        return self.build(candidate)
