"""The default fit: a head's own training objective, minimised in a few dozen steps at once.

The paper's recipe (``recipe.py``) is a long gradient descent with a small rate, so its result is
close to the minimum of the mean cross-entropy plus ``|θ - θ₀|² / (2 · time)``, where ``time`` is
the sum of its rates and θ₀ the initialisation. That minimum is looked for here, from the same
initialisation, on all examples at once (``descent.py``). What is fitted is a head of the paper's
architecture.

Every candidate is worked on by itself, on its kept features and neurons only, so that its values
do not depend on which others come with it, and a masked feature cannot have an effect. It runs on
one thread; candidates, not products, are what workers share out.
"""

from dataclasses import dataclass

import numpy as np
import torch

from evoprune.families.sparse_head.descent import Objective, minimise
from evoprune.families.sparse_head.heads import (
    Architecture,
    Fitted,
    Kept,
    Masks,
    State,
    forward,
    gathered,
    initial,
    kept,
    one_thread,
    state_of,
)
from evoprune.families.sparse_head.recipe import HeadRecipe

ROWS = 4096


@dataclass(frozen=True)
class Settings:
    """How heads are fitted.

    Args:
        time: how long the gradient descent is that the fit stands for; the recipe's if None.
            Features are meant to have a mean square of 1.
        steps: evaluations of the objective and its gradient, per candidate.
        rank: along how many directions of its inputs a hidden kernel moves.
    """

    time: float | None = None
    steps: int = 16
    rank: int = 48


@dataclass(frozen=True)
class _Start:
    kernels: list[torch.Tensor]
    probes: list[torch.Tensor]


@dataclass(frozen=True)
class _Moved:
    """How far a head is from its start: hidden kernels by B U, the output layer (C, h + 1)."""

    hidden: list[tuple[torch.Tensor, torch.Tensor]]
    output: torch.Tensor


def feature_scale(features: np.ndarray) -> float:
    """Returns the root mean square of features (N, D), by which they are to be divided.

    One number keeps their proportions and brings them to the size that rates are made for.
    """
    scale = float(np.sqrt(np.mean(np.square(features, dtype=np.float64))))
    return scale if scale > 0 else 1.0


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    masks: Masks,
    architecture: Architecture,
    settings: Settings | None = None,
) -> Fitted:
    """Returns the heads of P candidates, fitted from the same initialisation.

    Memory is that of one candidate's activations, and of how far P heads moved, which is kept at
    low rank.

    Args:
        features: (N, D).
        labels: integers from 0 (N,).
        masks: what the candidates keep.
        architecture: the full head.
        settings: how to fit.
    """
    settings = settings or Settings()
    start = _Start(initial(architecture), _probes(architecture, settings.rank))
    y = torch.from_numpy(np.asarray(labels, np.int64))
    targets = torch.nn.functional.one_hot(y, architecture.classes).float()
    keeps = tuple(kept(masks, p, architecture.hidden) for p in range(len(masks)))
    with one_thread():
        moves = [_solve(features, targets, start, keep, settings) for keep in keeps]

    @one_thread()
    def build(candidate: int) -> State:
        kernels, moved = gathered(start.kernels, keeps[candidate]), moves[candidate]
        for layer, (basis, part) in enumerate(moved.hidden):
            kernels[layer] += basis.double() @ part.double()
        kernels[-1] += moved.output[:, :-1].T
        return state_of(kernels, moved.output[:, -1].double())

    return Fitted(keeps, build)


@one_thread()
def logits(fitted: Fitted, features: np.ndarray) -> np.ndarray:
    """Returns the logits of P heads, float64 (P, M, C).

    Args:
        fitted: the heads.
        features: all features, kept or not (M, D).
    """
    found = []
    for candidate, keep in enumerate(fitted.keeps):
        state = fitted.state(candidate)
        blocks = [
            forward(state, _columns(features[start : start + ROWS], keep, np.float64))
            for start in range(0, len(features), ROWS)
        ]
        found.append(torch.cat(blocks).numpy())
    return np.stack(found)


def _probes(architecture: Architecture, rank: int) -> list[torch.Tensor]:
    """Returns random directions (in, rank) for each hidden layer, the same for all candidates."""
    generator = torch.Generator().manual_seed(architecture.seed)
    widths = (architecture.features, *architecture.hidden[:-1])
    return [torch.randn((width, rank), generator=generator) for width in widths]


def _columns(features: np.ndarray, keep: Kept, dtype: type) -> torch.Tensor:
    """Returns the kept columns in memory of torch's own, whose alignment never varies."""
    columns: np.ndarray = np.asarray(features[:, keep.features], dtype=dtype)
    return torch.from_numpy(columns).clone(memory_format=torch.contiguous_format)


def _solve(
    features: np.ndarray, targets: torch.Tensor, start: _Start, keep: Kept, settings: Settings
) -> _Moved:
    """Returns how far one candidate's head moves.

    Float32 is enough: the penalty bounds the condition number of what is solved.
    """
    kernels = [kernel.float() for kernel in gathered(start.kernels, keep)]
    rows = [keep.features, *keep.hidden[:-1]]
    probes = [probe[chosen] for probe, chosen in zip(start.probes, rows, strict=True)]
    time = settings.time or HeadRecipe().time(len(features))
    columns = _columns(features, keep, np.float32)
    objective = Objective(columns, targets, kernels, probes, time)
    best = minimise(objective, objective.start(), settings.steps)
    *hidden, last = objective.parts(best)
    moved = [
        (layer.basis, part.clone()) for layer, part in zip(objective.hidden, hidden, strict=True)
    ]
    return _Moved(moved, objective.moved(last))
