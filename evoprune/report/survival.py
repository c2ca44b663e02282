"""What patterns keep: in words, and as shares of each gene."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from evoprune.core.pattern import Drop, Keep, Pattern
from evoprune.core.space import Gene, Space

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
MOST_UNITS = 256

Choices = Sequence[int | str]


class Genes:
    """The genes of a run: those of its space, or what its patterns show of them.

    Args:
        space: the run's space, if it is known.
        patterns: as the journal stores them.
    """

    def __init__(self, space: Space | None, patterns: Sequence[Choices]) -> None:
        self.space = space
        self._top = _tops(patterns)
        count = len(space.genes) if space else len(self._top)
        self.names = (
            [gene.name for gene in space.genes] if space else [f"g{i}" for i in range(count)]
        )

    def options(self) -> list[list[str]]:
        """Returns for each gene what its levels mean; nothing for genes of bits."""
        if self.space:
            return [_options(self.space, gene) for gene in self.space.genes]
        return [["dense", *(f"level {i} of {top}" for i in range(1, top + 1))] for top in self._top]

    def shares(self, patterns: Sequence[Choices]) -> np.ndarray:
        """Returns the share of each gene's units that patterns keep (P, G).

        Without the space a level stands for its share: 1 is dense, 0 the furthest level seen.
        """
        if not self.space:
            rows = [
                [self._guess(c, t) for c, t in zip(p, self._top, strict=True)] for p in patterns
            ]
            return np.array(rows, dtype=np.float64).reshape(len(patterns), len(self.names))
        X = self.space.encode([Pattern.from_json(list(pattern)) for pattern in patterns])
        shares = np.zeros((len(patterns), len(self.names)))
        for column, gene in enumerate(self.space.genes):
            kept = sum(self.space.kept(X, site) for site in gene.sites)
            shares[:, column] = kept / sum(self.space.sites[site].units for site in gene.sites)
        return shares

    @staticmethod
    def _guess(choice: int | str, top: int) -> float:
        return 1.0 - _removed(choice) / max(top, 1)

    def words(self, pattern: Choices) -> list[str]:
        """Returns what a pattern does not leave whole, a line a gene."""
        options, lines = self.options(), []
        for i, choice in enumerate(pattern):
            if isinstance(choice, str):
                bits = self.space.genes[i].bits if self.space else 8 * len(_raw(choice))
                if removed := _removed(choice):
                    lines.append(f"{self.names[i]}: {bits - removed} of {bits} units kept")
            elif choice:
                lines.append(f"{self.names[i]}: {options[i][choice]}")
        return lines

    def units(self, patterns: Sequence[Choices]) -> list[dict[str, Any]]:
        """Returns for each gene of bits the share of the patterns that keep a unit, sorted."""
        found = []
        for i, gene in enumerate(self.space.genes if self.space else ()):
            if gene.bits and patterns:
                blocks = [np.frombuffer(_raw(str(p[i])), dtype=np.uint8) for p in patterns]
                removed = np.unpackbits(np.stack(blocks), axis=1, count=gene.bits)
                kept = np.sort(1.0 - removed.mean(axis=0))[::-1]
                at = np.unique(np.linspace(0, gene.bits - 1, MOST_UNITS).round().astype(int))
                found.append({"gene": gene.name, "unit": at.tolist(), "kept": kept[at].tolist()})
        return found


def compact(pattern: Choices) -> str | None:
    """Returns levels as one character each; None where a gene has bits or many levels."""
    if any(isinstance(c, str) or c >= len(DIGITS) for c in pattern):
        return None
    return "".join(DIGITS[int(choice)] for choice in pattern)


def _raw(choice: str) -> bytes:
    return base64.b64decode(choice)


def _removed(choice: int | str) -> int:
    """Returns a level, or how many bits of a block are set: 1 is removed."""
    return choice if isinstance(choice, int) else sum(byte.bit_count() for byte in _raw(choice))


def _tops(patterns: Sequence[Choices]) -> list[int]:
    """Returns for each gene the furthest level, or the most bits, of any pattern."""
    return [max(_removed(choice) for choice in column) for column in zip(*patterns, strict=True)]


def _options(space: Space, gene: Gene) -> list[str]:
    units = space.sites[gene.sites[0]].units
    texts = []
    for option in gene.options:
        if isinstance(option, Drop):
            texts.append("dropped")
        else:
            count = option.units if isinstance(option, Keep) else option.count
            texts.append(f"{count} of {units} units kept" if units > 1 else "kept")
    return texts
