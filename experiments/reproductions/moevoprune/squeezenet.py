"""A plug-in: the frozen SqueezeNet v1.0 (Iandola et al., 2016) as a backbone of sparse heads.

    evoprune search … --plugin experiments/reproductions/moevoprune/squeezenet.py

``model: {family: sparse_head, factory: squeezenet, options: {factory: {weights: FILE}}}``; the file
holds torchvision's ``squeezenet1_0`` state of the Caffe network, whose input is BGR less its means.
"""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from evoprune.core.registry import BACKBONES

MEANS = (104.0, 117.0, 123.0)
# Squeeze and expand widths of the eight fire modules, and where the network pools.
FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
POOLED_BEFORE = (0, 3, 7)


class Fire(nn.Module):
    """A squeeze to few channels, then 1×1 and 3×3 convolutions side by side."""

    def __init__(self, before: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(before, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns (B, 2 · expand, H, W)."""
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    """RGB images with values from 0 to 255 (B, H, W, 3) to pooled features (B, 512)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 96, 7, 2), nn.ReLU()]
        before = 96
        for number, (squeeze, expand) in enumerate(FIRES):
            if number in POOLED_BEFORE:
                layers.append(nn.MaxPool2d(3, 2, ceil_mode=True))
            layers.append(Fire(before, squeeze, expand))
            before = 2 * expand
        self.features = nn.Sequential(*layers)
        self.register_buffer("means", torch.tensor(MEANS).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the features, averaged over places."""
        return self.features(images.permute(0, 3, 1, 2).flip(1) - self.means).mean((2, 3))


def squeezenet(weights: str) -> SqueezeNet:
    """Returns the frozen backbone; the classifier in the file is left out."""
    network = SqueezeNet()
    state = torch.load(Path(weights), map_location="cpu", weights_only=True)
    kept = {name: t.float() for name, t in state.items() if name.startswith("features.")}
    network.load_state_dict(kept)
    return network.eval().requires_grad_(False)


BACKBONES.register("squeezenet", squeezenet)
