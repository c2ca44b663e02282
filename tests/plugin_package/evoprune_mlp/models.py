"""A perceptron to prune."""

from itertools import pairwise

import torch
from torch import nn

from evoprune.data.images import digits

RATE = 0.3


def digits_mlp(widths: tuple[int, ...] = (24, 16, 8), seed: int = 0, steps: int = 600) -> nn.Module:
    """Returns a perceptron trained on scikit-learn's digits, in less than a second.

    Args:
        widths: of its hidden layers.
        seed: of its initialisation.
        steps: of gradient descent on the whole training split.
    """
    training = digits().inside["training"]
    inputs = torch.from_numpy(training.images).float().flatten(1)
    labels = torch.from_numpy(training.labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = (inputs.shape[1], *widths, int(labels.max()) + 1)
        layers = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.ReLU())]
        network = nn.Sequential(*layers[:-1])
    for _ in range(steps):
        loss = nn.functional.cross_entropy(network(inputs), labels)
        slopes = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for parameter, slope in zip(network.parameters(), slopes, strict=True):
                parameter -= RATE * slope
    return network
