"""What the fits are compared on: cached features of digits, and of an asset's images."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evoprune.data.image_sources import DigitsSource, NpzSource
from evoprune.data.images import ImageSplits
from evoprune.families.sparse_head.backbone import features, train_digits_backbone

HELD_OUT = ("search", "validation", "report")
# That of the vision quickstart.
NOISE = 0.4
CATARACT_SIZE = 128
CATARACT_OUTSIDE = 1200
REPRODUCTION = Path(__file__).resolve().parents[2] / "reproductions" / "moevoprune"


@dataclass(frozen=True, eq=False)
class Subject:
    """Features of one data set, scaled by one number.

    Args:
        name: what it is called.
        training: features (N, D) and labels (N,) that heads are fitted on.
        test: features (M, D) and labels (M,) that they are compared on.
        outside: name to features of what lies outside.
        searched: what an evaluation of a search scores: its split, and what lies outside of it.
    """

    name: str
    training: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    outside: dict[str, np.ndarray]
    searched: tuple[np.ndarray, ...]

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return int(self.training[1].max()) + 1


def digits_subject() -> Subject:
    """Returns the vision quickstart's digits, tested on all that no head is fitted on."""
    return _subject(
        "digits", DigitsSource(noise=NOISE).images(), train_digits_backbone(noise=NOISE)
    )


def cataract_subject(assets: Path) -> Subject:
    """Returns pooled SqueezeNet features of the cataract images; CIFAR-10 lies outside."""
    sys.path.insert(0, str(REPRODUCTION))
    from squeezenet import squeezenet

    source = NpzSource(
        file=str(assets / "cataract" / "cataract_train_96px_jpeg.npz"),
        report=str(assets / "cataract" / "cataract_test_96px_jpeg.npz"),
        size=CATARACT_SIZE,
        far=str(assets / "cifar10" / "cifar10_test.npz"),
        outside=CATARACT_OUTSIDE,
    )
    weights = assets / "squeezenet_imagenet" / "squeezenet1_0_dc_fp16.pt"
    return _subject("cataract", source.images(), squeezenet(str(weights)))


def _subject(name: str, data: ImageSplits, backbone: object) -> Subject:
    """Returns the features of a data set, divided by their root mean square in training."""
    inside = {split: features(backbone, part.images) for split, part in data.inside.items()}
    size = float(np.sqrt(np.mean(inside["training"].astype(np.float64) ** 2)))
    inside = {split: found / size for split, found in inside.items()}
    outside = {
        f"{split}_{kind}": features(backbone, images) / size
        for split in ("search", "report")
        for kind, images in data.outside[split].items()
    }
    test = np.concatenate([inside[split] for split in HELD_OUT])
    labels = np.concatenate([data.inside[split].labels for split in HELD_OUT])
    searched = [found for kind, found in outside.items() if kind.startswith("search_")]
    return Subject(
        name,
        (inside["training"], data.inside["training"].labels),
        (test, labels),
        outside,
        (inside["search"], *searched),
    )
