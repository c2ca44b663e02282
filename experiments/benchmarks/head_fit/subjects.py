"""What the fits are compared on: cached features of digits, and of an asset's images."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from evoprune.data.images import digits, npz
from evoprune.families.sparse_head.backbone import features, train_digits_backbone

HELD_OUT = ("search", "validation", "report")
CATARACT_TRAINING = 1000
CATARACT_SIZE = 128


@dataclass(frozen=True, eq=False)
class Subject:
    """Features of one data set, scaled by one number.

    Args:
        name: what it is called.
        training: features (N, D) and labels (N,) that heads are fitted on.
        test: features (M, D) and labels (M,) that they are compared on.
        outside: name to features of what lies outside.
    """

    name: str
    training: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    outside: dict[str, np.ndarray]

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.training[1].max()) + 1


def digits_subject(seed: int = 0) -> Subject:
    """Returns the digits: tested on all that is held out, which no fit is tuned on."""
    data, backbone = digits(), train_digits_backbone(seed)
    inside = {name: features(backbone, part.images) for name, part in data.inside.items()}
    outside = {
        f"{split}_{kind}": features(backbone, images)
        for split in ("search", "report")
        for kind, images in data.outside[split].items()
    }
    test = np.concatenate([inside[name] for name in HELD_OUT])
    labels = np.concatenate([data.inside[name].labels for name in HELD_OUT])
    training = data.inside["training"].labels
    return _scaled("digits", (inside["training"], training), (test, labels), outside)


def cataract_subject(assets: Path) -> Subject:
    """Returns pooled SqueezeNet features of the cataract images; CIFAR-10 lies outside."""
    sys.path.insert(0, str(assets / "tools"))
    from load_assets import squeezenet

    network = squeezenet().features
    train, test = (
        npz(assets / "cataract" / f"cataract_{name}_96px_jpeg.npz", CATARACT_SIZE)
        for name in ("train", "test")
    )
    rows = np.random.default_rng(0).permutation(len(train))[:CATARACT_TRAINING]
    train = train.take(np.sort(rows))
    with np.load(assets / "cifar10" / "cifar10_test.npz") as archive:
        cifar = archive["x"][: len(test)]
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(cifar).permute(0, 3, 1, 2).float(), CATARACT_SIZE, mode="bilinear"
    )
    outside = {"cifar10": _pooled(network, resized.permute(0, 2, 3, 1).round().numpy())}
    pairs = [(_pooled(network, part.images), part.labels) for part in (train, test)]
    return _scaled("cataract", pairs[0], pairs[1], outside)


def _pooled(network: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    """Returns pooled features of RGB images (N, H, W, 3), prepared as SqueezeNet's were."""
    means = torch.tensor([104.0, 117.0, 123.0]).view(1, 3, 1, 1)
    found = []
    with torch.no_grad():
        for start in range(0, len(images), 50):
            batch = torch.from_numpy(images[start : start + 50]).permute(0, 3, 1, 2).float()
            found.append(network(batch.flip(1) - means).mean((2, 3)))
    return torch.cat(found).numpy()


def _scaled(
    name: str,
    training: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    outside: dict[str, np.ndarray],
) -> Subject:
    size = float(np.sqrt(np.mean(training[0].astype(np.float64) ** 2)))
    return Subject(
        name,
        (training[0] / size, training[1]),
        (test[0] / size, test[1]),
        {kind: values / size for kind, values in outside.items()},
    )
