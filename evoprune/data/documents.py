"""Documents, and the splits that never share one."""

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from evoprune.core.errors import DataError, did_you_mean
from evoprune.core.splits import WITH_TRAINING


@dataclass(frozen=True)
class Document:
    """A text with a name and a label.

    Args:
        key: what names it, unique in its source. What precedes a ``#`` is its origin: documents
            made from one origin (a module's code, its docstrings) always share a split.
        kind: the label of the text it is, e.g. ``"prose"``.
        text: the text.
        tokens: the text as token ids, where it comes so; the text itself then is not read.
        label: the class it belongs to, as it was written; None where nobody says.
    """

    key: str
    kind: str
    text: str
    tokens: tuple[int, ...] | None = None
    label: str | None = None

    @property
    def digest(self) -> str:
        """The SHA-256 of the text (or of its tokens), in hexadecimal."""
        if self.tokens is not None:
            return sha256(struct.pack(f"<{len(self.tokens)}q", *self.tokens)).hexdigest()
        return sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def origin(self) -> str:
        """What the document was made from: its key up to the first ``#``."""
        return self.key.partition("#")[0]


def assign_splits(
    documents: Iterable[Document], fractions: Mapping[str, float]
) -> dict[str, list[Document]]:
    """Returns the documents of each split, in order of their keys.

    The split is drawn from a hash of the document's origin alone, so that documents added later
    move no other. Of documents with the same text only the first is kept.

    Args:
        documents: what to split.
        fractions: split name to its share; the shares sum to one.

    Raises:
        DataError: an unknown split, shares that do not sum to one, or a split that stays empty.
    """
    _check_fractions(fractions)
    splits: dict[str, list[Document]] = {name: [] for name in WITH_TRAINING if fractions.get(name)}
    seen: set[str] = set()
    for document in sorted(documents, key=lambda one: one.key):
        if document.digest in seen:
            continue
        seen.add(document.digest)
        splits[_draw(document.origin, fractions)].append(document)
    for name, members in splits.items():
        if not members:
            raise DataError(_too_few(name, fractions[name], len(seen)), _needed(fractions))
    check_disjoint(splits)
    return splits


def _too_few(split: str, share: float, count: int) -> str:
    found = "one document was" if count == 1 else f"{count} documents were"
    return f"The {split} split has no document: {found} found, its share is {share:g}."


def _needed(fractions: Mapping[str, float]) -> str:
    # Each of n documents misses a split of share s with 1 - s; e^-3 is one time in twenty.
    enough = math.ceil(3 / min(share for share in fractions.values() if share))
    return f"Give {enough} documents or more (one text file is cut into some), or other fractions."


def check_disjoint(splits: Mapping[str, Sequence[Document]]) -> None:
    """Checks that no text is in two splits.

    Raises:
        DataError: two splits share a text; both keys are named.
    """
    owners: dict[str, tuple[str, str]] = {}
    for name, members in splits.items():
        for document in members:
            split, key = owners.setdefault(document.digest, (name, document.key))
            if split != name:
                raise DataError(
                    f"'{key}' of the {split} split and '{document.key}' of the {name} split"
                    " hold the same text.",
                    "Remove one of them, or let assign_splits draw the splits.",
                )


def _check_fractions(fractions: Mapping[str, float]) -> None:
    for name, share in fractions.items():
        if name not in WITH_TRAINING:
            raise DataError(f"There is no split '{name}'.", did_you_mean(name, WITH_TRAINING))
        if not 0 <= share <= 1:
            raise DataError(
                f"The share of the {name} split is {share!r}.", "Give a number from 0 to 1."
            )
    total = sum(fractions.values())
    if abs(total - 1) > 1e-6:
        raise DataError(f"The shares of the splits sum to {total:g}.", "Make them sum to 1.")


def _draw(origin: str, fractions: Mapping[str, float]) -> str:
    point = int.from_bytes(sha256(origin.encode()).digest()[:8], "big") / 2**64
    names = [name for name in WITH_TRAINING if fractions.get(name)]
    edge = 0.0
    for name in names:
        edge += fractions[name]
        if point < edge:
            return name
    return names[-1]
