"""A small convolutional network whose pooled features a sparse head is fitted on."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from evoprune.data.images import LabelledImages, digits
from evoprune.families.sparse_head.heads import one_thread

# Features of an image do not depend on its neighbours when every batch has this shape.
BATCH = 64
CHANNELS = (32, 64)
EPOCHS = 20
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-4
TRAINING_BATCH = 48


class DigitsBackbone(nn.Module):
    """Three convolutions over grey images (N, 1, 8, 8), averaged over places (N, features)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        first, second = CHANNELS
        self.conv1 = nn.Conv2d(1, first, 3, padding=1)
        self.conv2 = nn.Conv2d(first, second, 3, padding=1)
        self.conv3 = nn.Conv2d(second, features, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the pooled features (N, features)."""
        hidden = F.relu(self.conv2(F.relu(self.conv1(images))))
        return F.relu(self.conv3(F.max_pool2d(hidden, 2))).mean((2, 3))


def train_digits_backbone(
    seed: int = 0,
    features: int = 512,
    noise: float = 0.0,
    training: LabelledImages | None = None,
) -> DigitsBackbone:
    """Returns a backbone trained to tell the known digits apart, frozen.

    It is trained with a linear classifier, which is thrown away, by AdamW on the *training* split
    only: no image that a search, validation or report reads, and no held-out digit. Heads are
    fitted on the same split. It runs on one thread, so a seed gives one network on one machine.

    Args:
        seed: of the initialisation and of the order of the images.
        features: how many pooled features it has.
        noise: on the digits that it is trained on (``digits``).
        training: what to train on instead; the digits' training split if left out.
    """
    data = digits(noise=noise).inside["training"] if training is None else training
    images, labels = as_batch(data.images), torch.from_numpy(data.labels)
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = DigitsBackbone(features)
        classifier = nn.Linear(features, int(labels.max()) + 1)
        _train(nn.Sequential(backbone, classifier), images, labels)
    return backbone.eval().requires_grad_(False)


def features(backbone: nn.Module, images: np.ndarray) -> np.ndarray:
    """Returns the backbone's features, float32 (N, D).

    Images pass on one thread in batches of one shape, the last filled up with zeros.

    Args:
        backbone: maps (B, 1, H, W) to (B, D).
        images: values in [0, 1] (N, H, W).
    """
    tensor = as_batch(images)
    found = []
    with one_thread(), torch.no_grad():
        for start in range(0, len(tensor), BATCH):
            batch = tensor[start : start + BATCH]
            filled = F.pad(batch, (0, 0, 0, 0, 0, 0, 0, BATCH - len(batch)))
            found.append(backbone(filled)[: len(batch)])
    return torch.cat(found).numpy()


def _train(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    steps = EPOCHS * -(-len(images) // TRAINING_BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images)).split(TRAINING_BATCH):
            optimizer.zero_grad()
            F.cross_entropy(network(images[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()


def as_batch(images: np.ndarray) -> torch.Tensor:
    """Returns images as a backbone reads them, float32: grey ones (N, H, W) get a channel axis."""
    tensor = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))
    return tensor[:, None] if tensor.ndim == 3 else tensor
