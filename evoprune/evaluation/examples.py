"""The examples of a split as the workers read them: one safetensors file, mapped, never copied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from evoprune.metrics import Table

# Tokens in one forward. Fixed, so that values never depend on who shares a batch.
BATCH_TOKENS = 2048


@dataclass(frozen=True)
class Examples:
    """A split, or the calibration set.

    Attributes:
        tokens: (N, T) int64, padded at the right.
        lengths: (N,) int64.
        groups: the calibration cluster of each example (N,) int64.
        extras: what the task keeps of the dense model, each (N, …).
        dense: the dense model's table for every pass.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    groups: np.ndarray
    extras: Mapping[str, np.ndarray]
    dense: Mapping[str, Table]

    def __len__(self) -> int:
        return len(self.tokens)

    @cached_property
    def n_tokens(self) -> int:
        """How many tokens are not padding."""
        return int(self.lengths.sum())

    def first(self, n: int) -> "Examples":
        """Returns the first ``n`` examples: a rung."""
        rows = np.arange(n)
        return replace(
            self,
            tokens=self.tokens[:n],
            lengths=self.lengths[:n],
            groups=self.groups[:n],
            extras={name: value[:n] for name, value in self.extras.items()},
            dense={name: table.take(rows) for name, table in self.dense.items()},
        )

    def batches(self, boundaries: Sequence[int] = ()) -> list[slice]:
        """Returns the micro-batches.

        They never cross a boundary between rungs, so that an example sits in the same batch
        whatever the rung, and its values are the same to the last bit.
        """
        size = max(1, BATCH_TOKENS // self.tokens.shape[1])
        ends = sorted({end for end in boundaries if 0 < end < len(self)} | {len(self)})
        found, start = [], 0
        for end in ends:
            found += [slice(at, min(at + size, end)) for at in range(start, end, size)]
            start = end
        return found

    def save(self, path: Path) -> None:
        """Writes the examples as safetensors."""
        from safetensors.numpy import save_file

        tensors = {"tokens": self.tokens, "lengths": self.lengths, "groups": self.groups}
        tensors |= {f"extra.{name}": value for name, value in self.extras.items()}
        for name, table in self.dense.items():
            tensors |= {f"dense.{name}.{column}": v for column, v in table.columns.items()}
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)

    @classmethod
    def load(cls, path: Path) -> "Examples":
        """Returns the examples that ``save`` wrote."""
        from safetensors.numpy import load_file

        tensors = load_file(path)
        groups = tensors["groups"]
        columns: dict[str, dict[str, np.ndarray]] = {}
        for name, value in tensors.items():
            if name.startswith("dense."):
                _, table, column = name.split(".", 2)
                columns.setdefault(table, {})[column] = value
        return cls(
            tokens=tensors["tokens"],
            lengths=tensors["lengths"],
            groups=groups,
            extras={
                name.removeprefix("extra."): value
                for name, value in tensors.items()
                if name.startswith("extra.")
            },
            # safetensors keeps no order of its own; columns are sorted to have one.
            dense={
                name: Table({column: found[column] for column in sorted(found)}, groups)
                for name, found in columns.items()
            },
        )
