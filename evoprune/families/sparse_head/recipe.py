"""The reference fit: MO-EvoPruneDeepTL's training of a head, step by step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from evoprune.families.sparse_head.heads import (
    Architecture,
    Fitted,
    Kept,
    Masks,
    State,
    gathered,
    initial,
    kept,
    one_thread,
    state_of,
)


@dataclass(frozen=True)
class HeadRecipe:
    """How a head is trained: the defaults are those of MO-EvoPruneDeepTL.

    Args:
        lr: the learning rate at the first step.
        decay: the rate at step t is ``lr / (1 + decay · t)``.
        momentum: Nesterov's.
        batch_size: examples a step.
        max_epochs: where training ends at the latest.
        min_delta: by how much an epoch's training loss must fall below the best to be better.
        patience: epochs without a better one after which training stops.
        seed: of the order of the examples, the same for all candidates.
    """

    lr: float = 1e-3
    decay: float = 1e-6
    momentum: float = 0.9
    batch_size: int = 32
    max_epochs: int = 600
    min_delta: float = 1e-5
    patience: int = 10
    seed: int = 1

    def time(self, examples: int) -> float:
        """Returns the sum of all steps' rates, momentum counted, if training ends at the latest."""
        steps = self.max_epochs * math.ceil(examples / self.batch_size)
        rates = math.log1p(self.decay * steps) / self.decay if self.decay else steps
        return self.lr * rates / (1 - self.momentum)


@dataclass(frozen=True)
class Trained:
    """What came of one training.

    Args:
        state: the tensors of the best epoch, float64.
        losses: the training loss of each epoch run, the mean over its batches as they came.
        best: the epoch whose tensors were kept, from 0.
    """

    state: State
    losses: tuple[float, ...]
    best: int


def fit_recipe(
    features: np.ndarray,
    labels: np.ndarray,
    masks: Masks,
    architecture: Architecture,
    recipe: HeadRecipe | None = None,
) -> Fitted:
    """Returns the heads of P candidates, each trained by the recipe from the same initialisation.

    Args:
        features: (N, D).
        labels: integers from 0 (N,).
        masks: what the candidates keep.
        architecture: the full head.
        recipe: how to train; the paper's if left out.
    """
    keeps = tuple(kept(masks, p, architecture.hidden) for p in range(len(masks)))
    states = [train(features, labels, keep, architecture, recipe).state for keep in keeps]
    return Fitted(keeps, states.__getitem__)


@one_thread()
def train(
    features: np.ndarray,
    labels: np.ndarray,
    keep: Kept,
    architecture: Architecture,
    recipe: HeadRecipe | None = None,
) -> Trained:
    """Returns one candidate's head, trained in float32 on its kept features and neurons only.

    A masked weight gets no gradient, so this equals training the full head under its mask.
    Arguments are those of ``fit_recipe``.

    Raises:
        FloatingPointError: it diverged before its first epoch was over.
    """
    recipe = recipe or HeadRecipe()
    x = torch.from_numpy(np.ascontiguousarray(features[:, keep.features], dtype=np.float32))
    y = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    kernels = [kernel.float() for kernel in gathered(initial(architecture), keep)]
    training = _Training(recipe, [*kernels, torch.zeros(architecture.classes)])
    order = torch.Generator().manual_seed(recipe.seed)
    losses: list[float] = []
    best, floor = 0, float("inf")
    saved = training.copy()
    for epoch in range(recipe.max_epochs):
        losses.append(training.epoch(x, y, torch.randperm(len(x), generator=order)))
        if losses[-1] < floor - recipe.min_delta:
            best, floor, saved = epoch, losses[-1], training.copy()
        elif epoch - best >= recipe.patience:
            break
    if not losses or not math.isfinite(floor):
        raise FloatingPointError("no epoch of the training had a finite loss")
    return Trained(state_of(saved[:-1], saved[-1]), tuple(losses), best)


class _Training:
    """Parameters under way: kernels (in, out), then the output layer's bias."""

    def __init__(self, recipe: HeadRecipe, parameters: Sequence[torch.Tensor]) -> None:
        self.recipe = recipe
        self.parameters = list(parameters)
        self.velocities = [torch.zeros_like(parameter) for parameter in parameters]
        self.steps = 0

    def copy(self) -> list[torch.Tensor]:
        return [parameter.double() for parameter in self.parameters]

    def epoch(self, x: torch.Tensor, y: torch.Tensor, order: torch.Tensor) -> float:
        """Returns the mean training loss of one pass over the examples in this order."""
        total = 0.0
        for rows in order.split(self.recipe.batch_size):
            total += self.step(x[rows], y[rows]) * len(rows)
        return total / len(x)

    def step(self, x: torch.Tensor, y: torch.Tensor) -> float:
        """Returns the batch's mean cross-entropy before the step that it takes."""
        kernels, bias = self.parameters[:-1], self.parameters[-1]
        inputs = [x]
        for kernel in kernels[:-1]:
            inputs.append((inputs[-1] @ kernel).relu_())
        log_p = torch.log_softmax(torch.addmm(bias, inputs[-1], kernels[-1]), dim=1)
        rows = torch.arange(len(y))
        loss = -float(log_p[rows, y].mean())
        error = log_p.exp_()
        error[rows, y] -= 1
        error /= len(y)
        gradients = [error.sum(0)]
        for layer in range(len(kernels) - 1, -1, -1):
            gradients.insert(0, inputs[layer].T @ error)
            if layer:
                error = (error @ kernels[layer].T) * (inputs[layer] > 0)
        self._descend(gradients)
        return loss

    def _descend(self, gradients: Sequence[torch.Tensor]) -> None:
        rate = self.recipe.lr / (1 + self.recipe.decay * self.steps)
        momentum = self.recipe.momentum
        for parameter, velocity, gradient in zip(
            self.parameters, self.velocities, gradients, strict=True
        ):
            velocity.mul_(momentum).sub_(gradient, alpha=rate)
            parameter.add_(velocity, alpha=momentum).sub_(gradient, alpha=rate)
        self.steps += 1
