"""Pools of labelled examples as networks read them: texts as padded tokens, pictures as pixels."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import numpy as np

from evoprune.core.errors import DataError, ModelError, did_you_mean
from evoprune.core.splits import SPLITS
from evoprune.data.documents import Document
from evoprune.data.images import ImageSplits


@dataclass(frozen=True, eq=False)
class LabelledPool:
    """Examples of one split.

    Args:
        inputs: what the network reads, by the names of its arguments, each (N, …).
        sizes: the work in each example: its tokens, or 1 for a picture (N,), int64.
        kinds: the label of each as it was written (N).
        keys: what names each example (N).
        split: the split's name.
        labels: the class of each (N,), int64; none before the network has said what its classes
            are (``labelled``).
        outside: what is out of distribution, by pass (``near``, ``far``): what the network reads
            of it, each (M, …).
    """

    inputs: Mapping[str, np.ndarray]
    sizes: np.ndarray
    kinds: tuple[str, ...]
    keys: tuple[str, ...]
    split: str
    labels: np.ndarray | None = None
    outside: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What networks and tasks read, each (N, …)."""
        return {**self.inputs, **({} if self.labels is None else {"labels": self.labels})}

    @property
    def digest(self) -> str:
        """The SHA-256 of all arrays and labels, in hexadecimal."""
        whole = sha256("\n".join(self.kinds).encode("utf-8", "surrogatepass"))
        held = {"": self.inputs, **self.outside}
        for place, arrays in sorted(held.items()):
            for name, array in sorted(arrays.items()):
                whole.update(f"{place} {name} {array.dtype} {array.shape}".encode())
                whole.update(np.ascontiguousarray(array).tobytes())
        return whole.hexdigest()

    def take(self, indices: Sequence[int] | np.ndarray) -> "LabelledPool":
        """Returns the pool of these examples, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            inputs={name: array[chosen] for name, array in self.inputs.items()},
            sizes=self.sizes[chosen],
            kinds=tuple(self.kinds[i] for i in chosen),
            keys=tuple(self.keys[i] for i in chosen),
            labels=None if self.labels is None else self.labels[chosen],
        )

    def excerpts(
        self, processor: Any, indices: Iterable[int] | None = None, max_chars: int = 160
    ) -> list[str]:
        """Returns the beginning of examples on one line, behind their labels."""
        rows = range(len(self)) if indices is None else indices
        return [self._excerpt(processor, row)[:max_chars] for row in rows]

    def _excerpt(self, processor: Any, row: int) -> str:
        if "input_ids" not in self.inputs:
            return f"{self.kinds[row]}: {self.keys[row]}"
        ids = self.inputs["input_ids"][row, : self.sizes[row]].tolist()
        text = " ".join(str(processor.decode(ids, skip_special_tokens=True)).split())
        return f"{self.kinds[row]}: {text}"


def text_pool(
    documents: Sequence[Document], tokenizer: Any, split: str, longest: int
) -> LabelledPool:
    """Returns documents with labels as tokens, one example each.

    Texts are cut to so many tokens and padded at the right, as the tokenizer does it.

    Args:
        documents: with a label each.
        tokenizer: of Hugging Face's.
        split: they belong to.
        longest: tokens of an example, at most.

    Raises:
        DataError: a document has no label, or the tokenizer cannot pad.
    """
    bare = next((one.key for one in documents if one.label is None), None)
    if bare is not None:
        raise DataError(
            f"The document '{bare}' has no label, which a classifier is scored by.",
            "Name the column that holds it: data.label_field.",
        )
    if getattr(tokenizer, "pad_token_id", None) is None:
        raise DataError(
            "The tokenizer has no token for padding, and examples differ in length.",
            "Give it one (`tokenizer.pad_token = tokenizer.eos_token`) and save it again.",
        )
    read = tokenizer(
        [one.text for one in documents],
        padding="longest",
        padding_side="right",
        truncation=True,
        max_length=longest,
        return_tensors="np",
    )
    inputs = {name: np.asarray(array, dtype=np.int64) for name, array in read.items()}
    return LabelledPool(
        inputs,
        inputs["attention_mask"].sum(axis=1),
        tuple(str(one.label) for one in documents),
        tuple(one.key for one in documents),
        split,
    )


def pixel_pools(splits: ImageSplits, processor: Any) -> dict[str, LabelledPool]:
    """Returns images as a model's own image processor makes them its inputs, by split.

    Args:
        splits: images of every split; what a network would be trained on is left out.
        processor: of Hugging Face's: it resizes and normalises.

    Raises:
        DataError: a split holds no images.
    """
    found = {}
    for split in SPLITS:
        inside = splits.inside.get(split)
        if inside is None or len(inside) == 0:
            raise DataError(f"The {split} split holds no images.", "Give more images.")
        names = [splits.classes[i] if splits.classes else str(i) for i in inside.labels]
        found[split] = LabelledPool(
            {"pixel_values": _pixels(inside.images, processor)},
            np.ones(len(inside), dtype=np.int64),
            tuple(names),
            tuple(f"{split}/{i}" for i in range(len(inside))),
            split,
            inside.labels,
            {
                name: {"pixel_values": _pixels(images, processor)}
                for name, images in splits.outside.get(split, {}).items()
            },
        )
    return found


def _pixels(images: np.ndarray, processor: Any) -> np.ndarray:
    """Returns images as a network reads them, float32 (N, C, H, W).

    Args:
        images: bytes (N, H, W, 3), or values in [0, 1] (N, H, W).
        processor: of Hugging Face's.
    """
    if images.dtype != np.uint8:
        images = np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=-1)
    made = processor(images=list(images), return_tensors="np", input_data_format="channels_last")
    return np.asarray(made["pixel_values"], dtype=np.float32)


def labelled(pool: LabelledPool, classes: Mapping[str, int], network: str) -> LabelledPool:
    """Returns a pool whose labels are the classes of a network.

    Args:
        pool: whose labels are names of classes, or their numbers.
        classes: number by name.
        network: what it is called, for the message.

    Raises:
        ModelError: a label is no class of the network.
    """
    if pool.labels is not None:
        largest = int(pool.labels.max())
        if largest >= len(classes):
            raise ModelError(
                f"The {pool.split} split has the label {largest}, and {network} knows "
                f"{len(classes)} classes.",
                "Give it the data that it was trained for.",
            )
        return pool
    numbers = {str(number): number for number in classes.values()}
    known = {**numbers, **{str(name): number for name, number in classes.items()}}
    strange = sorted(set(pool.kinds) - set(known))
    if strange:
        raise ModelError(
            f"The {pool.split} split has the label '{strange[0]}', and {network} knows "
            f"{', '.join(map(str, classes))}.",
            did_you_mean(strange[0], classes),
        )
    labels = np.array([known[kind] for kind in pool.kinds], dtype=np.int64)
    return replace(pool, labels=labels)
