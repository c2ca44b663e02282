"""A head's training objective, and its minimum by limited-memory BFGS in well-scaled variables.

The objective is the mean cross-entropy plus ``|θ - θ₀|² / (2 · time)`` over all kernels and the
bias: what gradient descent from θ₀ comes to after so long, nearly. A hidden kernel moves only along
the leading directions of its inputs, ``W = W₀ + B U``, since gradients lie in their span; so a step
costs products with a few dozen columns instead of all features.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

# The Hessian of the cross-entropy in the logits is at most 1/2 (Böhning, 1992).
CURVATURE = 0.5
HISTORY = 10
SUFFICIENT = 1e-4
SHRINK = 0.4

Loss = Callable[[torch.Tensor], tuple[float, torch.Tensor]]


@dataclass(frozen=True)
class Hidden:
    """A hidden kernel's start and how it may move.

    Args:
        start: W₀ (in, out).
        basis: B (in, r), scaled so that all columns of U are about as curved.
        penalty: what a row of U pays per half of its square (r,).
    """

    start: torch.Tensor
    basis: torch.Tensor
    penalty: torch.Tensor


class Objective:
    """The objective of one candidate's head in variables that are all about as curved.

    Args:
        features: the kept features (N, d).
        targets: one-hot (N, C).
        kernels: where the kernels start (in, out), the last the output layer's.
        probes: for each hidden layer random directions (in, r).
        time: how long the descent is that the minimum stands for.
    """

    def __init__(
        self,
        features: torch.Tensor,
        targets: torch.Tensor,
        kernels: list[torch.Tensor],
        probes: list[torch.Tensor],
        time: float,
    ) -> None:
        self.targets, self.pull = targets.T.contiguous(), 1 / time
        self.hidden: list[Hidden] = []
        inputs = features
        for layer, (kernel, probe) in enumerate(zip(kernels[:-1], probes, strict=True)):
            gain = _gain(kernels[layer + 1 :])
            self.hidden.append(Hidden(kernel, *_directions(inputs, probe, gain, self.pull)))
            inputs = inputs @ kernel
            if layer == 0:
                # The features enter only through these two products, computed once.
                self.fixed, self.moving = inputs, features @ self.hidden[0].basis
            inputs = inputs.relu()
        bound = _gram(torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1), CURVATURE)
        bound.diagonal().add_(self.pull)
        self.factor = torch.linalg.cholesky(bound)
        bias = torch.zeros(1, len(self.targets))
        self.output = torch.cat([kernels[-1], bias]).T.contiguous()
        shapes = [(layer.basis.shape[1], layer.start.shape[1]) for layer in self.hidden]
        self.shapes = [*shapes, tuple(self.output.shape)]

    def start(self) -> torch.Tensor:
        """Returns the variables of the initialisation: zeros."""
        return torch.zeros(sum(rows * columns for rows, columns in self.shapes))

    def parts(self, variables: torch.Tensor) -> list[torch.Tensor]:
        """Returns the variables of each layer: U (r, out), then the output layer's (C, h + 1)."""
        pieces = variables.split([rows * columns for rows, columns in self.shapes])
        return [piece.view(shape) for piece, shape in zip(pieces, self.shapes, strict=True)]

    def moved(self, part: torch.Tensor) -> torch.Tensor:
        """Returns how far the output layer (C, h + 1) is from its start."""
        return torch.linalg.solve_triangular(self.factor.T, part.T, upper=True).T

    def __call__(self, variables: torch.Tensor) -> tuple[float, torch.Tensor]:
        """Returns the objective and its gradient."""
        *hidden, last = self.parts(variables)
        activations = self._forward(hidden)
        shift = self.moved(last)
        output = self.output + shift
        log_p = torch.log_softmax(output[:, :-1] @ activations[-1].T + output[:, -1:], dim=0)
        loss = -float((log_p * self.targets).sum()) / log_p.shape[1]
        loss += self.pull / 2 * float(shift.square().sum())
        error = log_p.exp_().sub_(self.targets).div_(log_p.shape[1])
        slope = torch.cat([error @ activations[-1], error.sum(1, keepdim=True)], dim=1)
        slope.add_(shift, alpha=self.pull)
        gradients = self._backward(hidden, activations, error.T @ output[:, :-1])
        gradients.append(torch.linalg.solve_triangular(self.factor, slope.T, upper=False).T)
        for kernel, part in zip(self.hidden, hidden, strict=True):
            loss += float((kernel.penalty[:, None] * part * part).sum()) / 2
        return loss, torch.cat([gradient.reshape(-1) for gradient in gradients])

    def _forward(self, hidden: list[torch.Tensor]) -> list[torch.Tensor]:
        """Returns the activations (N, h) of every hidden layer."""
        activations = [torch.addmm(self.fixed, self.moving, hidden[0]).relu_()]
        for kernel, part in zip(self.hidden[1:], hidden[1:], strict=True):
            now = activations[-1]
            activations.append((now @ kernel.start).addmm_(now @ kernel.basis, part).relu_())
        return activations

    def _backward(
        self, hidden: list[torch.Tensor], activations: list[torch.Tensor], back: torch.Tensor
    ) -> list[torch.Tensor]:
        """Returns the gradient of each hidden layer's variables; ``back`` is the last layer's."""
        gradients: list[torch.Tensor] = []
        for layer in range(len(hidden) - 1, -1, -1):
            back = torch.ops.aten.threshold_backward(back, activations[layer], 0)
            kernel, part = self.hidden[layer], hidden[layer]
            seen = activations[layer - 1] @ kernel.basis if layer else self.moving
            gradients.insert(0, (seen.T @ back).add_(kernel.penalty[:, None] * part))
            if layer:
                back = back @ kernel.start.T + (back @ part.T) @ kernel.basis.T
        return gradients


@dataclass(frozen=True)
class Point:
    """Variables, and the loss and its gradient there."""

    variables: torch.Tensor
    value: float
    slope: torch.Tensor


def minimise(loss: Loss, start: torch.Tensor, evaluations: int) -> torch.Tensor:
    """Returns the best variables found in so many evaluations of the loss and its gradient."""
    now, left = Point(start, *loss(start)), evaluations - 1
    steps: list[torch.Tensor] = []
    bends: list[torch.Tensor] = []
    while left > 0:
        found, used = _search(loss, now, _descent(now.slope, steps, bends), left)
        left -= used
        if found is None:
            break
        step, bend = found.variables - now.variables, found.slope - now.slope
        if float(step @ bend) > 0:
            steps, bends = [*steps[1 - HISTORY :], step], [*bends[1 - HISTORY :], bend]
        now = found
    return now.variables


def _search(loss: Loss, now: Point, direction: torch.Tensor, left: int) -> tuple[Point | None, int]:
    """Returns the first point down the direction that is low enough, and the evaluations used."""
    fall, size = float(direction @ now.slope), 1.0
    for used in range(1, left + 1):
        variables = now.variables - size * direction
        found = Point(variables, *loss(variables))
        if found.value <= now.value - SUFFICIENT * size * fall:
            return found, used
        size *= SHRINK
    return None, left


def _descent(
    slope: torch.Tensor, steps: list[torch.Tensor], bends: list[torch.Tensor]
) -> torch.Tensor:
    """Returns the slope times the inverse Hessian that the last steps tell of (two loops)."""
    direction = slope.clone()
    shares = []
    for step, bend in zip(reversed(steps), reversed(bends), strict=True):
        share = float(step @ direction) / float(step @ bend)
        direction.sub_(bend, alpha=share)
        shares.append(share)
    if steps:
        direction.mul_(float(steps[-1] @ bends[-1]) / float(bends[-1] @ bends[-1]))
    for step, bend, share in zip(steps, bends, reversed(shares), strict=True):
        direction.add_(step, alpha=share - float(bend @ direction) / float(step @ bend))
    return direction


def _directions(
    inputs: torch.Tensor, probes: torch.Tensor, gain: float, pull: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the leading directions of inputs (N, in), scaled, and the penalties on them."""
    basis = torch.eye(inputs.shape[1])
    if probes.shape[1] < inputs.shape[1]:
        basis = torch.linalg.qr(inputs.T @ (inputs @ probes))[0]
    sizes, turn = torch.linalg.eigh(_gram(inputs @ basis, 1.0))
    squared = 1 / (gain * sizes.clamp_min(0) + pull)
    return (basis @ turn) * squared.sqrt(), pull * squared


def _gain(kernels: list[torch.Tensor]) -> float:
    """Returns about how curved the cross-entropy is in what enters these layers."""
    through = kernels[0]
    for kernel in kernels[1:]:
        through = through @ kernel
    active = 0.5 ** len(kernels)
    return CURVATURE * active * float(through.square().mean(1).sum())


def _gram(inputs: torch.Tensor, weight: float) -> torch.Tensor:
    return (inputs.T @ inputs).mul_(weight / len(inputs))
