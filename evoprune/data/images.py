"""Images and features with labels: the splits, and what lies outside them near and far."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from evoprune.core.errors import DataError
from evoprune.core.splits import WITH_TRAINING

FRACTIONS = {"training": 0.5, "search": 0.2, "validation": 0.1, "report": 0.2}
CROP = 32
CELLS = 8
GREY_LEVELS = 16
# A flat crop would be stretched into noise.
MIN_CONTRAST = 0.05
# Rec. 601 luma.
LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with their labels.

    Args:
        images: values in [0, 1] (N, H, W), or bytes (N, H, W, 3).
        labels: the class of each image, an integer from 0 (N,).
    """

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise DataError(
                f"There are {len(self.images)} images and {len(self.labels)} labels.",
                "Give one label for each image.",
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def digests(self) -> list[str]:
        """The SHA-256 of each image's values, in hexadecimal (N,)."""
        return [sha256(np.ascontiguousarray(image).tobytes()).hexdigest() for image in self.images]

    def take(self, rows: np.ndarray) -> "LabelledImages":
        """Returns the rows asked for: indices or a mask (N,)."""
        return LabelledImages(self.images[rows], self.labels[rows])


@dataclass(frozen=True, eq=False)
class ImageSplits:
    """What a network is trained, searched and reported on.

    Args:
        inside: split name to the images of the classes that the network knows.
        outside: split name to kind (``near``, ``far``) to images of what it does not know (M,
            H, W). No image, no photograph's region and no class of the report split's outside is
            in another split's.
        classes: names of the classes, in order of their labels.
    """

    inside: Mapping[str, LabelledImages]
    outside: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()


def digits(near: tuple[int, int] = (8, 9), noise: float = 0.0) -> ImageSplits:
    """Returns scikit-learn's handwritten digits, split, with what lies outside them.

    Two digits are held out of every inside split. The first is near out-of-distribution for the
    search and validation splits (two thirds and one third of its images), the second for the
    report split. Far out-of-distribution are crops of scikit-learn's sample photographs: of
    ``china.jpg`` the left two thirds for search and the right third for validation, all of
    ``flower.jpg`` for report. Crops are reduced as the digits were: 32 x 32 to 8 x 8 by area,
    then stretched to 16 grey levels.

    Args:
        near: the digits held out, for search and validation, and for report.
        noise: standard deviation of the normal noise that is added to every value of every
            image, inside and outside, after all else; each image's is drawn from a seed of its
            own. Without it the task is so easy that heads can hardly be told apart.

    Raises:
        DataError: the digits named are not two of 0 to 9, the noise is negative, or Pillow is
            not installed.
    """
    from sklearn.datasets import load_digits

    if not 0 <= noise < np.inf:
        raise DataError(f"The noise is {noise}.", "Give a standard deviation, such as 0.4.")

    if len(set(near)) != 2 or not set(near) <= set(range(10)):
        raise DataError(f"The held-out digits are {near}.", "Name two of 0 to 9.")
    raw = load_digits()
    whole = LabelledImages(_stretch(raw.images), raw.target.astype(np.int64))
    known = [digit for digit in range(10) if digit not in near]
    inside = whole.take(np.isin(whole.labels, known))
    inside = LabelledImages(inside.images, np.searchsorted(known, inside.labels))
    seen, unseen = (_unique(whole.images[whole.labels == digit]) for digit in near)
    china, flower = (_photograph(name) for name in ("china.jpg", "flower.jpg"))
    cut = china.shape[1] * 2 // 3 // CROP * CROP
    outside = {
        "search": {"near": seen[: len(seen) * 2 // 3], "far": patches(china[:, :cut])},
        "validation": {"near": seen[len(seen) * 2 // 3 :], "far": patches(china[:, cut:])},
        "report": {"near": unseen, "far": patches(flower)},
    }
    parts = {
        name: LabelledImages(_noisy(part.images, noise), part.labels)
        for name, part in split(inside, FRACTIONS).items()
    }
    around = {
        name: {kind: _noisy(images, noise) for kind, images in kinds.items()}
        for name, kinds in outside.items()
    }
    return ImageSplits(parts, around, tuple(str(digit) for digit in known))


def split(data: LabelledImages, fractions: Mapping[str, float]) -> dict[str, LabelledImages]:
    """Returns the images of each split, each class shared out in the same proportions.

    Images are drawn in order of a hash of their values, so the splits depend on no seed and not
    on the order of the images. Of images with the same values only the first is kept.

    Args:
        data: what to split.
        fractions: split name to its share; the shares sum to one.

    Raises:
        DataError: an unknown split, or shares that do not sum to one.
    """
    unknown = set(fractions) - set(WITH_TRAINING)
    if unknown or abs(sum(fractions.values()) - 1) > 1e-6:
        raise DataError(
            f"The shares are {dict(fractions)}.",
            f"Name splits of {', '.join(WITH_TRAINING)}, with shares that sum to 1.",
        )
    edges = np.cumsum([0.0, *fractions.values()])
    rows: dict[str, list[int]] = {name: [] for name in fractions}
    ranked = _ranked(data.digests)
    for label in np.unique(data.labels):
        members = [row for row in ranked if data.labels[row] == label]
        bounds = np.rint(edges * len(members)).astype(int)
        for name, low, high in zip(fractions, bounds, bounds[1:], strict=False):
            rows[name].extend(members[low:high])
    return {name: data.take(np.sort(np.array(chosen, int))) for name, chosen in rows.items()}


def patches(photograph: np.ndarray) -> np.ndarray:
    """Returns the crops of a photograph as the digits are: values in [0, 1] (N, 8, 8).

    Crops are 32 x 32 and do not overlap; crops of one tone, and repeated ones, are left out.

    Args:
        photograph: bytes (H, W, 3).
    """
    grey = photograph.astype(np.float64) @ LUMA / 255
    rows, columns = grey.shape[0] // CROP, grey.shape[1] // CROP
    cell = CROP // CELLS
    cells = grey[: rows * CROP, : columns * CROP]
    cells = cells.reshape(rows, CELLS, cell, columns, CELLS, cell).mean(axis=(2, 5))
    crops = cells.transpose(0, 2, 1, 3).reshape(-1, CELLS, CELLS)
    return _unique(_stretch(crops[np.ptp(crops, axis=(1, 2)) >= MIN_CONTRAST]))


def npz(path: str | Path, size: int | None = None, most: int | None = None) -> LabelledImages:
    """Returns the images of a NumPy archive.

    The archive holds ``images`` (N, H, W) or (N, H, W, 3) and ``labels`` (N,), or the same as ``x``
    and ``y``; or ``jpeg``, the bytes of all JPEG files one after the other, ``offsets`` (N + 1,)
    into them and ``y`` (N,).

    Args:
        path: the archive.
        size: height and width that images of bytes are resized to.
        most: of how many images at most, the first, or of all.

    Raises:
        DataError: the archive cannot be read or has other keys, or Pillow is not installed.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files if key in _KEYS}
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path} cannot be read: {error}.", "Name an .npz archive.") from error
    for name, labels in (("images", "labels"), ("x", "y")):
        if {name, labels} <= set(arrays):
            found = arrays[name][:most]
            if size is not None and found.dtype != np.uint8:
                raise DataError(
                    f"{path} holds images of {found.dtype}, which are not resized.",
                    "Store bytes, or leave `size` out.",
                )
            if size is not None:
                found = np.stack([_resized(_pillow().fromarray(image), size) for image in found])
            return LabelledImages(found, arrays[labels][:most].astype(np.int64))
    if {"jpeg", "offsets", "y"} <= set(arrays):
        offsets = arrays["offsets"] if most is None else arrays["offsets"][: most + 1]
        images = _decode(arrays["jpeg"], offsets, size)
        return LabelledImages(images, arrays["y"][:most].astype(np.int64))
    raise DataError(
        f"{path} has none of the expected arrays.",
        "Store 'images' and 'labels' (or 'x' and 'y'), or 'jpeg', 'offsets' and 'y'.",
    )


_KEYS = ("images", "labels", "x", "y", "jpeg", "offsets")


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("Pillow is not installed.", "Run: pip install pillow") from error
    return Image


def _decode(packed: np.ndarray, offsets: np.ndarray, size: int | None) -> np.ndarray:
    pillow = _pillow()
    images = []
    for low, high in pairwise(offsets):
        image = pillow.open(io.BytesIO(packed[low:high].tobytes())).convert("RGB")
        images.append(np.asarray(image) if size is None else _resized(image, size))
    return np.stack(images)


def _resized(image: Any, size: int) -> np.ndarray:
    return np.asarray(image.resize((size, size), _pillow().Resampling.BILINEAR))


def _photograph(name: str) -> np.ndarray:
    from sklearn.datasets import load_sample_image

    _pillow()
    return np.asarray(load_sample_image(name))


def _stretch(images: np.ndarray) -> np.ndarray:
    """Returns images (N, H, W) stretched to [0, 1] each, in steps of a sixteenth."""
    low = images.min(axis=(1, 2), keepdims=True)
    span = np.ptp(images, axis=(1, 2), keepdims=True)
    scaled = (images - low) / np.where(span == 0, 1, span)
    return np.asarray(np.rint(scaled * GREY_LEVELS) / GREY_LEVELS, dtype=np.float64)


def _noisy(images: np.ndarray, noise: float) -> np.ndarray:
    """Returns images (N, H, W) with noise of this standard deviation, cut off at 0 and 1."""
    if noise == 0:
        return images
    digests = LabelledImages(images, np.zeros(len(images), int)).digests
    drawn = [
        np.random.default_rng(int(digest, 16)).standard_normal(image.shape)
        for digest, image in zip(digests, images, strict=True)
    ]
    return np.clip(images + noise * np.stack(drawn), 0, 1)


def _ranked(digests: list[str]) -> list[int]:
    """Returns the first row of each digest, in order of the digests."""
    first: dict[str, int] = {}
    for row, digest in enumerate(digests):
        first.setdefault(digest, row)
    return [first[digest] for digest in sorted(first)]


def _unique(images: np.ndarray) -> np.ndarray:
    """Returns images without repeated ones, in order of a hash of their values."""
    return images[_ranked(LabelledImages(images, np.zeros(len(images), int)).digests)]
