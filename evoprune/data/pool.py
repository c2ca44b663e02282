"""Pools: the documents of one split as chunks of tokens."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np

from evoprune.core.errors import DataError
from evoprune.core.splits import SPLITS
from evoprune.data.documents import Document


@dataclass(frozen=True, eq=False)
class TextPool:
    """Chunks of tokens, each from one document.

    Args:
        tokens: token ids (N, T), int64, padded on the right with 0.
        lengths: how many tokens of a row are valid (N,), int64.
        keys: the document that each chunk is from (N).
        kinds: the kind of that document (N).
        split: the split the documents belong to.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    keys: tuple[str, ...]
    kinds: tuple[str, ...]
    split: str

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What networks and tasks read, each (N, …)."""
        return {"tokens": self.tokens, "lengths": self.lengths}

    @property
    def sizes(self) -> np.ndarray:
        """The work in each chunk: its tokens (N,)."""
        return self.lengths

    @property
    def digest(self) -> str:
        """The SHA-256 of tokens and lengths, in hexadecimal."""
        shape = repr(self.tokens.shape).encode()
        return sha256(shape + _bytes(self.tokens) + _bytes(self.lengths)).hexdigest()

    def chunk_digests(self) -> list[str]:
        """Returns the SHA-256 of the valid tokens of each chunk, in hexadecimal."""
        rows = zip(self.tokens, self.lengths, strict=True)
        return [sha256(_bytes(row[:length])).hexdigest() for row, length in rows]

    def take(self, indices: Sequence[int] | np.ndarray) -> "TextPool":
        """Returns the pool of these chunks, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            tokens=self.tokens[chosen],
            lengths=self.lengths[chosen],
            keys=tuple(self.keys[i] for i in chosen),
            kinds=tuple(self.kinds[i] for i in chosen),
        )

    def excerpts(
        self, tokenizer: Any, indices: Iterable[int] | None = None, max_chars: int = 160
    ) -> list[str]:
        """Returns the beginning of chunks as text on one line, by default of every chunk."""
        rows = range(len(self)) if indices is None else indices
        return [self._excerpt(tokenizer, row, max_chars) for row in rows]

    def _excerpt(self, tokenizer: Any, row: int, max_chars: int) -> str:
        ids = self.tokens[row, : self.lengths[row]].tolist()
        text = " ".join(str(tokenizer.decode(ids, skip_special_tokens=True)).split())
        return text if len(text) <= max_chars else text[: max_chars - 1] + "…"


def build_pool(
    documents: Iterable[Document],
    tokenizer: Any,
    split: str,
    chunk_tokens: int,
    *,
    max_chunks_per_document: int | None = None,
    min_tokens: int | None = None,
) -> TextPool:
    """Returns the documents as chunks of tokens; a chunk never crosses documents.

    Args:
        documents: what to tokenise, in this order; what is tokens already stays as it is.
        tokenizer: a Hugging Face tokenizer; its beginning-of-text token, if any, starts each text.
        split: the split the documents belong to.
        chunk_tokens: tokens of a full chunk.
        max_chunks_per_document: how many chunks of a document are kept, from its beginning.
        min_tokens: a shorter tail is left out; by default a quarter of a chunk.

    Raises:
        DataError: no document gives a chunk.
    """
    if chunk_tokens < 2:
        raise DataError(f"Chunks of {chunk_tokens} tokens predict nothing.", "Use at least 2.")
    shortest = max(2, chunk_tokens // 4 if min_tokens is None else min_tokens)
    rows: list[list[int]] = []
    owners: list[Document] = []
    most = read = 0
    for document in documents:
        given = document.tokens
        ids = encode(document.text, tokenizer) if given is None else list(given)
        most, read = max(most, len(ids)), read + 1
        chunks = [ids[start : start + chunk_tokens] for start in range(0, len(ids), chunk_tokens)]
        kept = [chunk for chunk in chunks if len(chunk) >= shortest][:max_chunks_per_document]
        rows.extend(kept)
        owners.extend([document] * len(kept))
    if not rows:
        raise DataError(
            f"No document of the {split} split has {shortest} tokens: of {read} the longest has "
            f"{most}.",
            f"Give longer documents, or lower data.chunk_tokens from {chunk_tokens}.",
        )
    tokens, lengths = _padded(rows, chunk_tokens)
    keys, kinds = tuple(one.key for one in owners), tuple(one.kind for one in owners)
    return TextPool(tokens, lengths, keys, kinds, split)


def encode(text: str, tokenizer: Any) -> list[int]:
    """Returns the token ids of a text, after the beginning-of-text token if there is one."""
    # verbose=False: a document longer than the model's context is meant, it is cut into chunks.
    ids = list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    first = getattr(tokenizer, "bos_token_id", None)
    return ids if first is None else [first, *ids]


def drop_shared_chunks(
    pools: Mapping[str, TextPool],
) -> tuple[dict[str, TextPool], dict[str, int]]:
    """Returns the pools without chunks that an earlier pool holds, and how many each lost.

    The order is search, validation, report, then any other split by name.

    Raises:
        DataError: a pool is left empty.
    """
    order = [name for name in SPLITS if name in pools]
    order += sorted(set(pools) - set(order))
    owned: set[str] = set()
    kept: dict[str, TextPool] = {}
    dropped: Counter[str] = Counter()
    for name in order:
        digests = pools[name].chunk_digests()
        fresh = [i for i, digest in enumerate(digests) if digest not in owned]
        if not fresh:
            raise DataError(
                f"Every chunk of the {name} pool also is in an earlier split.",
                "Give documents that do not repeat each other.",
            )
        owned.update(digests)
        dropped[name] = len(digests) - len(fresh)
        kept[name] = pools[name].take(fresh)
    return {name: kept[name] for name in pools}, dict(dropped)


def _padded(rows: Sequence[Sequence[int]], width: int) -> tuple[np.ndarray, np.ndarray]:
    tokens = np.zeros((len(rows), width), dtype=np.int64)
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row
    return tokens, lengths


def _bytes(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array, dtype="<i8").tobytes()
