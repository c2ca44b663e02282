"""Examples handed over from Python: lists, and data sets and loaders of PyTorch or Hugging Face."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain
from typing import Any

import numpy as np

from evoprune.core.errors import DataError
from evoprune.data.documents import Document
from evoprune.data.images import FRACTIONS, ImageSplits, LabelledImages, split
from evoprune.data.sources import filled, text_of

REMEDY = (
    "Give a list, a Dataset or a DataLoader of texts, of mappings with 'text' or 'input_ids', or "
    "of (image, label) pairs."
)
# What a configuration calls a source whose examples were handed over.
IN_MEMORY = "memory"
IMAGES, LABELS = ("image", "img", "pixel_values"), ("label", "labels")


@dataclass(frozen=True)
class DocumentsInMemory:
    """Texts, or documents that are tokens already; the split of each is drawn from its content.

    Args:
        found: the documents in order of their keys.
    """

    found: tuple[Document, ...]

    @property
    def part(self) -> dict[str, Any]:
        """What a run's configuration says of the data."""
        return _part([f"{one.key} {one.kind} {one.digest}" for one in self.found])

    def documents(self) -> list[Document]:
        """Returns the documents in order of their keys."""
        return list(self.found)


@dataclass(frozen=True, eq=False)
class ImagesInMemory:
    """Labelled images; the split of each is drawn from its values.

    Args:
        found: the images in order of their digests, so that a shuffled loader gives the same.
    """

    found: LabelledImages

    @property
    def part(self) -> dict[str, Any]:
        """What a run's configuration says of the data."""
        pairs = zip(self.found.digests, self.found.labels, strict=True)
        return _part([f"{digest} {label}" for digest, label in pairs])

    def images(self) -> ImageSplits:
        """Returns the images of every split; nothing is known of what lies outside."""
        classes = tuple(str(label) for label in range(int(self.found.labels.max()) + 1))
        return ImageSplits(split(self.found, FRACTIONS), classes=classes)


def in_memory(data: Any) -> DocumentsInMemory | ImagesInMemory:
    """Returns the source that some data are.

    Args:
        data: a list, a PyTorch or Hugging Face data set, or a PyTorch loader, of texts, of
            mappings with ``text`` or ``input_ids`` (and, if there are, ``attention_mask``,
            ``kind``, ``key`` and ``label``), or of (image, label) pairs or mappings of these names.

    Raises:
        DataError: it is something else, empty, or its examples are not all of one sort.
    """
    examples = _examples(data)
    first = next(examples, None)
    if first is None:
        raise DataError("The data handed over hold no example.", REMEDY)
    every = chain([first], examples)
    if _pair(first) is not None:
        return ImagesInMemory(_labelled(every))
    return DocumentsInMemory(tuple(_documents(every)))


def _part(lines: list[str]) -> dict[str, Any]:
    digest = sha256("\n".join(sorted(lines)).encode("utf-8", "surrogatepass")).hexdigest()
    return {"type": IN_MEMORY, "examples": len(lines), "sha256": digest}


def _examples(data: Any) -> Iterator[Any]:
    """Yields one example after another, those of a loader's batches too."""
    if isinstance(data, (str, bytes, Mapping)):
        raise DataError(f"The data handed over are one {type(data).__name__}.", REMEDY)
    # Whoever hands over a loader has imported torch; text alone needs none.
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(data, torch.utils.data.DataLoader):
        if data.batch_size is None and data.batch_sampler is None:
            return iter(data)
        turned = data.collate_fn is torch.utils.data.default_collate
        return chain.from_iterable(_unbatched(batch, turned) for batch in data)
    if hasattr(type(data), "__iter__"):
        return iter(data)
    if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        return (data[i] for i in range(len(data)))  # a data set of PyTorch has no end otherwise
    raise DataError(f"The data handed over are {type(data).__name__}.", REMEDY)


def _unbatched(batch: Any, turned: bool) -> Iterable[Any]:
    """Returns the examples of a loader's batch: columns by name, (images, labels), or texts.

    Args:
        batch: what the loader gave.
        turned: whether lists were put together as PyTorch does, places first and examples second.
    """
    if isinstance(batch, Sequence) and all(isinstance(one, (str, Mapping)) for one in batch):
        return batch
    if isinstance(batch, Mapping) and batch:
        columns = dict(batch)
    elif isinstance(batch, Sequence) and len(batch) == 2:
        columns = {"image": batch[0], "label": batch[1]}
    else:
        raise DataError(f"A batch of the loader is {_named(batch)}.", REMEDY)
    for name, column in columns.items():
        if turned and isinstance(column, list) and hasattr(column[0], "ndim"):
            raise DataError(
                f"The loader's batches hold '{name}' as a list of tensors, a tensor a place.",
                "Let the data set give tensors (`set_format('torch')`), or hand it over itself.",
            )
    lengths = {name: _length(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"A batch of the loader has columns of unequal length: {lengths}.", REMEDY)
    rows = range(next(iter(lengths.values())))
    return ({name: column[i] for name, column in columns.items()} for i in rows)


def _length(column: Any) -> int:
    try:
        return len(column)
    except TypeError as error:
        raise DataError(
            f"A batch of the loader holds {_named(column)}, not one entry an example.", REMEDY
        ) from error


def _pair(example: Any) -> tuple[Any, Any] | None:
    """Returns an example's image and label; None if it has none."""
    if isinstance(example, Mapping):
        image = next((name for name in IMAGES if name in example), None)
        label = next((name for name in LABELS if name in example), None)
        return (example[image], example[label]) if image and label else None
    if isinstance(example, (tuple, list)) and len(example) == 2:
        return None if isinstance(example[0], str) else (example[0], example[1])
    return None


def _labelled(examples: Iterable[Any]) -> LabelledImages:
    images: list[np.ndarray] = []
    labels: list[int] = []
    for number, example in enumerate(examples):
        pair = _pair(example)
        if pair is None:
            raise DataError(
                f"Example {number} is {_named(example)}, no image with a label.", REMEDY
            )
        image = _array(pair[0])
        if image.dtype.kind not in "fiub" or image.ndim == 0:
            raise DataError(f"The image of example {number} is {_named(pair[0])}.", REMEDY)
        if images and image.shape != images[0].shape:
            raise DataError(
                f"The image of example {number} is {image.shape}, the first is {images[0].shape}.",
                "Bring all images to one shape.",
            )
        images.append(image)
        labels.append(_label(pair[1], number))
    whole = LabelledImages(np.stack(images), np.array(labels, dtype=np.int64))
    digests = whole.digests
    return whole.take(np.array(sorted(range(len(whole)), key=lambda i: (digests[i], labels[i]))))


def _label(value: Any, number: int) -> int:
    label = _array(value)
    if label.dtype.kind not in "iu" or label.size != 1 or int(label.reshape(())) < 0:
        raise DataError(
            f"The label of example {number} is {str(value)[:40]}.",
            "Give the number of its class, from 0.",
        )
    return int(label.reshape(()))


def _documents(examples: Iterable[Any]) -> list[Document]:
    found: dict[str, Document] = {}
    for number, example in enumerate(examples):
        document = _document(example, number)
        # Of examples with the same content the first is kept; keys that are given must differ.
        given = isinstance(example, Mapping) and "key" in example
        found[f"{number} {document.key}" if given else document.digest] = document
    return filled(found.values(), "The data handed over", "Give examples that are not blank.")


def _document(example: Any, number: int) -> Document:
    where = f"example {number}"
    if isinstance(example, str):
        made = Document("", "text", example)
    elif isinstance(example, Mapping) and "input_ids" in example:
        made = Document("", str(example.get("kind", "tokens")), "", _tokens(example, where))
    elif isinstance(example, Mapping) and "text" in example:
        made = Document("", str(example.get("kind", "text")), text_of(example, "text", where))
    else:
        raise DataError(f"Example {number} of the data is {_named(example)}.", REMEDY)
    told = example if isinstance(example, Mapping) else {}
    label = None if "label" not in told else str(told["label"])
    return replace(made, key=str(told.get("key") or made.digest[:16]), label=label)


def _tokens(example: Mapping[str, Any], where: str) -> tuple[int, ...]:
    """Returns the tokens of an example, without its padding."""
    ids = _array(example["input_ids"])
    if ids.ndim != 1 or (ids.size and (ids.dtype.kind not in "iu" or ids.min() < 0)):
        raise DataError(
            f"The input_ids of {where} are {_named(ids)}.",
            "Give one row of token numbers an example.",
        )
    mask = _array(example.get("attention_mask", np.ones(len(ids))))
    if mask.shape != ids.shape:
        raise DataError(
            f"The attention_mask of {where} is {mask.shape}, its input_ids are {ids.shape}.",
            "Give both in one length.",
        )
    return tuple(ids[mask != 0].tolist())


def _array(value: Any) -> np.ndarray:
    """Returns a number, list, array, picture or tensor as an array."""
    plain = value.detach().cpu() if hasattr(value, "detach") else value
    try:
        return np.asarray(plain)
    except (ValueError, TypeError) as error:
        raise DataError(f"{_named(value)} cannot be read as numbers.", REMEDY) from error


def _named(value: Any) -> str:
    """Returns what a value is, in few words."""
    if isinstance(value, Mapping):
        return f"a mapping with {', '.join(map(str, value)) or 'nothing'}"
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"{type(value).__name__} of shape {tuple(shape)}, {value.dtype}"
    return type(value).__name__
