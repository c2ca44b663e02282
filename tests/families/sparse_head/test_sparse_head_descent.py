"""The objective that the default fit minimises, and how it does."""

import pytest
import torch
from torch.nn import functional as F

from evoprune.families.sparse_head.descent import Objective, minimise
from evoprune.families.sparse_head.heads import Architecture, initial

TIME, ROWS = 20.0, 40


def problem(hidden: tuple[int, ...], rank: int) -> tuple[Objective, torch.Tensor, torch.Tensor]:
    """Returns an objective, its features and its one-hot targets."""
    generator = torch.Generator().manual_seed(0)
    architecture = Architecture(9, hidden, 3)
    features = torch.rand((ROWS, 9), generator=generator)
    targets = F.one_hot(torch.randint(3, (ROWS,), generator=generator), 3).float()
    kernels = [kernel.float() for kernel in initial(architecture)]
    widths = (9, *hidden[:-1])
    probes = [torch.randn((width, rank), generator=generator) for width in widths]
    return Objective(features, targets, kernels, probes, TIME), features, targets


def by_definition(
    objective: Objective, features: torch.Tensor, targets: torch.Tensor, variables: torch.Tensor
) -> torch.Tensor:
    """Returns the mean cross-entropy plus how far all kernels moved, squared, per 2 · time."""
    *parts, last = objective.parts(variables)
    moved = [layer.basis @ part for layer, part in zip(objective.hidden, parts, strict=True)]
    shift = objective.moved(last)
    for layer, move in zip(objective.hidden, moved, strict=True):
        features = torch.relu(features @ (layer.start + move))
    output = objective.output + shift
    outputs = features @ output[:, :-1].T + output[:, -1]
    squares = sum(move.square().sum() for move in (*moved, shift))
    return F.cross_entropy(outputs, targets) + squares / (2 * TIME)


@pytest.mark.parametrize("hidden", [(12,), (12, 10)])
@pytest.mark.parametrize("rank", [4, 20])
def test_value_and_gradient_are_those_of_the_definition(hidden, rank):
    objective, features, targets = problem(hidden, rank)
    variables = objective.start()
    variables += 0.1 * torch.randn(variables.shape, generator=torch.Generator().manual_seed(1))
    variables.requires_grad_()

    expected = by_definition(objective, features, targets, variables)
    expected.backward()
    value, gradient = objective(variables.detach())

    assert value == pytest.approx(float(expected.detach()), rel=1e-5)
    assert torch.allclose(gradient, variables.grad, rtol=1e-3, atol=1e-6)


def test_every_step_is_downhill_and_evaluations_are_counted():
    objective, *_ = problem((12,), 4)
    values = []

    def counted(variables):
        value, gradient = objective(variables)
        values.append(value)
        return value, gradient

    ends = [objective(minimise(objective, objective.start(), n))[0] for n in (1, 4, 8, 16, 60)]
    minimise(counted, objective.start(), 16)

    assert len(values) == 16
    assert ends == sorted(ends, reverse=True)


def test_a_quadratic_is_minimised():
    curved = torch.tensor([1.0, 3.0, 10.0])
    wanted = torch.tensor([1.0, -2.0, 0.5])

    def quadratic(point):
        gap = point - wanted
        return float((curved * gap * gap).sum() / 2), curved * gap

    assert torch.allclose(minimise(quadratic, torch.zeros(3), 40), wanted, atol=1e-4)
