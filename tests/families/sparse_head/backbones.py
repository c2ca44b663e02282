"""Small random backbones, each with something that a graph may have, and heads on them."""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from evoprune.core.genes import GeneSpec, build_space
from evoprune.core.space import Space
from evoprune.data.examples import Examples, Pass
from evoprune.export.head import HeadSubject
from evoprune.families.sparse_head.family import SparseHead
from evoprune.families.sparse_head.network import HeadNetwork

BOTH = [GeneSpec("features", bits=True), GeneSpec("neurons", bits=True)]


class Plain(nn.Module):
    """A convolution, averaged over places."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 12, 3)

    def forward(self, images):
        return F.relu(self.last(F.relu(self.first(images)))).mean((2, 3))


class Fire(nn.Module):
    """Two branches side by side, as SqueezeNet's fire modules have them."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(1, 3, 1)
        self.expand1x1, self.expand3x3 = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 4, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images):
        hidden = F.relu(self.squeeze(images))
        joined = torch.cat([F.relu(self.expand1x1(hidden)), F.relu(self.expand3x3(hidden))], 1)
        return self.pool(F.max_pool2d(joined, 2)).flatten(1)


class Deep(Fire):
    """A branch has a layer of its own, which nothing reads once the branch has no channel left."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(1, 3, 1)

    def forward(self, images):
        left = self.expand1x1(F.relu(self.squeeze(images)))
        right = self.expand3x3(F.relu(self.reduce(images)))
        return torch.cat([left, right], 1).relu().amax((2, 3))


class Normed(nn.Module):
    """Batch norm, a gate, dropout, and what changes its argument."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 12, 3, bias=False), nn.BatchNorm2d(12), nn.ReLU(inplace=True)
        )
        self.scale = nn.Parameter(torch.rand(12, 1, 1))
        self.register_buffer("mean", torch.tensor(0.4))
        self.body[1].running_mean.uniform_(-0.3, 0.1)
        self.body[1].running_var.uniform_(0.5, 1.5)

    def forward(self, images):
        hidden = self.body(images - self.mean)
        hidden = hidden * torch.sigmoid(hidden) * self.scale
        return F.dropout(hidden, 0.5, self.training).mean((2, 3)).view(images.shape[0], 12)


class Residual(nn.Module):
    """The last sum's other branch is read elsewhere, too."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(1, 12, 3), nn.Conv2d(12, 6, 3, padding=1)
        self.outer, self.norm = nn.Conv2d(6, 12, 3, padding=1), nn.BatchNorm2d(12)

    def forward(self, images):
        stem = F.relu(self.stem(images))
        return F.relu(self.norm(self.outer(F.relu(self.inner(stem)))) + stem).mean((2, 3))


class Flat(nn.Module):
    """A channel makes four features, so that none can be cut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)

    def forward(self, images):
        return F.adaptive_avg_pool2d(self.conv(images), 2).flatten(1)


class Attending(nn.Module):
    """Attention over rows of pixels, then a linear layer that makes the features."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.pooler = nn.Linear(8, 8), nn.Linear(8, 12)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, images):
        return torch.tanh(self.pooler(self.block(self.embed(images[:, 0]))[:, 0]))


class Grouped(nn.Module):
    """Channels that are made in groups, from a kernel that is also used elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 12, 1, groups=2)
        self.twice = nn.Linear(12, 12)

    def forward(self, images):
        hidden = self.last(self.first(images)).mean((2, 3))
        return self.twice(F.relu(self.twice(hidden)))


class Repeated(nn.Module):
    """The same value stands twice among the features, and a constant was made on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3)

    def forward(self, images):
        hidden = self.conv(images).mean((2, 3)) * torch.tensor(2.0)
        return torch.cat([hidden, hidden], dim=1)


class Pixels(nn.Module):
    """The pixels themselves are the features: it has no parameter."""

    def forward(self, images):
        return F.avg_pool2d(images, 2).flatten(1)[:, :12]


class Branching(nn.Module):
    """What it computes depends on the images: it has no graph."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 12, 3)

    def forward(self, images):
        found = self.conv(images).mean((2, 3))
        return found if found.sum() > 0 else -found


TRACED = (Plain, Fire, Deep, Normed, Residual, Flat, Attending, Grouped, Repeated, Pixels)


def made(kind: type[nn.Module], seed: int = 0) -> nn.Module:
    """Returns a random backbone of a kind, frozen; most of its features are alive."""
    torch.manual_seed(seed)
    backbone = kind().eval().requires_grad_(False)
    for name, parameter in backbone.named_parameters():
        if name.endswith("bias"):
            parameter.uniform_(0.5, 1.5)
    return backbone


def images(count: int = 24, seed: int = 1) -> np.ndarray:
    """Returns random grey images (N, 8, 8)."""
    return np.random.default_rng(seed).random((count, 8, 8))


def written(
    backbone: nn.Module,
    folder: Path,
    hidden: tuple[int, ...] = (5,),
    inputs: np.ndarray | None = None,
) -> HeadNetwork:
    """Returns the network of a base that was written and read again; heads are fitted roughly."""
    network = HeadNetwork(backbone, hidden, 0, {"steps": 3})
    family, inputs = SparseHead(), images() if inputs is None else inputs
    found = network.features(inputs)
    network.settle(found.shape[1], ("a", "b", "c"))
    network.samples = inputs[:6]
    arrays = {"features": found, "labels": np.arange(len(inputs)) % 3}
    ones = np.ones(len(inputs), dtype=np.int64)
    family.write(network, folder, Examples({"clean": Pass(arrays, ones * 0, ones)}))
    read: HeadNetwork = family.read(folder, "float32", "cpu")
    return read


def space_of(network: HeadNetwork) -> Space:
    """Returns the space of features and neurons of a network."""
    return build_space("both", SparseHead().sites(network), BOTH)


def subjects(network: HeadNetwork, count: int, seed: int = 0) -> list[HeadSubject]:
    """Returns random patterns: the first keep a single feature, the next a single neuron."""
    rng, space = np.random.default_rng(seed), space_of(network)
    width = network.architecture.features
    X = (rng.random((count, space.n_var)) < rng.random((count, 1))).astype(np.int64)
    X[0, :width] = np.arange(width) != width - 1
    X[1, :width] = np.arange(width) != 0
    X[2, width:] = 1
    X[3] = 0
    return [HeadSubject.of(SparseHead(), network, space, pattern) for pattern in space.patterns(X)]


def fire() -> nn.Module:
    """Returns the backbone of a configuration's ``factory``."""
    return made(Fire)
