"""Pools of images: what a classifier is scored on, and what lies outside its classes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np

from evoprune.core.errors import DataError
from evoprune.data.images import ImageSplits


@dataclass(frozen=True, eq=False)
class ImagePool:
    """Images of one split.

    Args:
        images: (N, …), as the backbone reads them.
        labels: the class of each (N,), int64.
        outside: what is out of distribution, by pass (``near``, ``far``), each (M, …).
        keys: a name for each image (N).
        kinds: the class name of each (N).
        split: the split's name.
    """

    images: np.ndarray
    labels: np.ndarray
    outside: Mapping[str, np.ndarray]
    keys: tuple[str, ...]
    kinds: tuple[str, ...]
    split: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def digest(self) -> str:
        """The SHA-256 of images and labels, in hexadecimal."""
        whole = sha256(np.ascontiguousarray(self.images).tobytes())
        whole.update(np.ascontiguousarray(self.labels).tobytes())
        for name in sorted(self.outside):
            whole.update(np.ascontiguousarray(self.outside[name]).tobytes())
        return whole.hexdigest()

    def take(self, indices: np.ndarray) -> "ImagePool":
        """Returns the pool of these images, in this order, with all that is outside."""
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            images=self.images[chosen],
            labels=self.labels[chosen],
            keys=tuple(self.keys[i] for i in chosen),
            kinds=tuple(self.kinds[i] for i in chosen),
        )

    def excerpts(
        self, processor: Any, indices: Iterable[int] | None = None, max_chars: int = 160
    ) -> list[str]:
        """Returns what an image is called; it cannot be shown as text."""
        rows = range(len(self)) if indices is None else indices
        return [f"{self.keys[row]}: {self.kinds[row]}"[:max_chars] for row in rows]


def image_pools(splits: ImageSplits) -> dict[str, ImagePool]:
    """Returns a pool for each split; no image is in two of them.

    Raises:
        DataError: a split is missing or empty, or two share an image.
    """
    found: dict[str, ImagePool] = {}
    owner: dict[str, str] = {}
    for split, inside in splits.inside.items():
        if len(inside) == 0:
            raise DataError(f"The {split} split holds no images.", "Give more images.")
        for number in inside.digests:
            if owner.setdefault(number, split) != split:
                raise DataError(
                    f"The splits {owner[number]} and {split} share an image.",
                    "Remove repeated images before they are split.",
                )
        names = tuple(splits.classes[label] for label in inside.labels)
        keys = tuple(f"{split}/{i}" for i in range(len(inside)))
        outside = dict(splits.outside.get(split, {}))
        found[split] = ImagePool(inside.images, inside.labels, outside, keys, names, split)
    missing = {"training", "search", "validation", "report"} - set(found)
    if missing:
        raise DataError(
            f"There are no images for {', '.join(sorted(missing))}.", "Give all four splits."
        )
    return found
