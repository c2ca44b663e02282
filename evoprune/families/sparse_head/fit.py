"""The default fit: the hidden layers stay as initialised, the output layer is solved for.

The paper's recipe (``recipe.py``) moves a head little from its initialisation: a small rate, few
epochs. Most of what it learns is in the output layer. Here that layer alone is solved for, as the
minimiser of the mean cross-entropy plus ``|θ - θ₀|² / (2 · time)``: what gradient descent from θ₀
reaches after so long, nearly. What is fitted is a head of the paper's architecture.

Every candidate is worked on by itself, on its kept features and neurons only, so that its values
do not depend on which others come with it, and a masked feature cannot have an effect.
"""

from dataclasses import dataclass

import numpy as np
import torch

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
    state_of,
)

# The Hessian of the cross-entropy in the logits is at most 1/2 (Böhning, 1992).
CURVATURE = 0.5
ROWS = 4096


@dataclass(frozen=True)
class Settings:
    """How output layers are solved for.

    Args:
        time: how long the gradient descent is that the solution stands for; larger follows the
            training examples more closely. Features are meant to have a mean square of 1.
        steps: accelerated Newton steps with a fixed bound on the Hessian.
    """

    time: float = 300.0
    steps: int = 16


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

    Memory is that of one candidate's hidden activations (N, H) and of P output layers.

    Args:
        features: (N, D).
        labels: integers from 0 (N,).
        masks: what the candidates keep.
        architecture: the full head.
        settings: how to solve.
    """
    settings = settings or Settings()
    kernels = initial(architecture)
    x, y = np.asarray(features, dtype=np.float32), torch.from_numpy(np.asarray(labels, np.int64))
    targets = torch.nn.functional.one_hot(y, architecture.classes).float()
    keeps = tuple(kept(masks, p, architecture.hidden) for p in range(len(masks)))
    layers = [_solve(x, targets, gathered(kernels, keep), keep, settings) for keep in keeps]

    def build(candidate: int) -> State:
        hidden = gathered(kernels, keeps[candidate])[:-1]
        weight, bias = layers[candidate]
        return state_of([*hidden, weight], bias)

    return Fitted(keeps, build)


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


def _columns(features: np.ndarray, keep: Kept, dtype: type) -> torch.Tensor:
    """Returns the kept columns in memory of torch's own, whose alignment never varies."""
    columns: np.ndarray = np.asarray(features[:, keep.features], dtype=dtype)
    return torch.from_numpy(columns).clone(memory_format=torch.contiguous_format)


def _solve(
    features: np.ndarray,
    targets: torch.Tensor,
    kernels: list[torch.Tensor],
    keep: Kept,
    settings: Settings,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the output layer's weight (h, C) and bias (C,), float64.

    Float32 is enough: the penalty bounds the condition number, and each step corrects the last.
    """
    hidden = _columns(features, keep, np.float32)
    for kernel in kernels[:-1]:
        hidden = (hidden @ kernel.float()).relu_()
    inputs = torch.cat([hidden, torch.ones(len(hidden), 1)], dim=1)
    start = torch.cat([kernels[-1].float(), torch.zeros(1, targets.shape[1])])
    solved = _minimise(inputs, targets, start, settings).double()
    return solved[:-1], solved[-1]


def _minimise(
    inputs: torch.Tensor, targets: torch.Tensor, start: torch.Tensor, settings: Settings
) -> torch.Tensor:
    """Returns the weights (h + 1, C) of a softmax regression, drawn towards their start.

    Nesterov's accelerated steps, each through the Cholesky factor of the bound on the Hessian.
    Products have the few classes as rows: the other way round they take four times as long.

    Args:
        inputs: (N, h + 1).
        targets: one-hot (N, C).
        start: (h + 1, C).
        settings: how to solve.
    """
    count, pull = len(inputs), 1 / settings.time
    bound = (inputs.T @ inputs).mul_(CURVATURE / count)
    bound.diagonal().add_(pull)
    factor = torch.linalg.cholesky(bound)
    wanted, begin = targets.T.contiguous(), start.T.contiguous()
    now, last, weight = begin, begin, 1.0
    for _ in range(settings.steps):
        after = (1 + (1 + 4 * weight * weight) ** 0.5) / 2
        ahead = now + (weight - 1) / after * (now - last)
        error = torch.softmax(ahead @ inputs.T, dim=0).sub_(wanted).div_(count)
        gradient = (error @ inputs).add_(ahead - begin, alpha=pull)
        last, weight = now, after
        now = ahead - torch.cholesky_solve(gradient.T, factor).T
    return now.T
