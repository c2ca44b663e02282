"""Options, and the pattern: one option per gene, frozen and hashable."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Keep:
    """Keeps the ``units`` best-ranked units of a site."""

    units: int

    def to_json(self) -> dict[str, Any]:
        """Returns the option as JSON."""
        return {"keep": self.units}


@dataclass(frozen=True, slots=True)
class Drop:
    """Removes a site and whatever lies in it."""

    def to_json(self) -> dict[str, Any]:
        """Returns the option as JSON."""
        return {"drop": True}


@dataclass(frozen=True, slots=True)
class Bits:
    """Keeps the units whose bit is set; bit i belongs to unit i."""

    packed: bytes
    units: int

    @classmethod
    def of(cls, mask: np.ndarray) -> "Bits":
        """Returns the option that keeps the true entries of ``mask`` (units,)."""
        return cls(np.packbits(np.asarray(mask, dtype=bool)).tobytes(), len(mask))

    @property
    def mask(self) -> np.ndarray:
        """The units kept, boolean (units,)."""
        return unpack(self.packed, self.units)

    @property
    def count(self) -> int:
        """How many units are kept."""
        return int(self.mask.sum())

    def to_json(self) -> dict[str, Any]:
        """Returns the option as JSON."""
        return {"bits": base64.b64encode(self.packed).decode(), "units": self.units}


Option = Keep | Drop | Bits


def unpack(packed: bytes, units: int) -> np.ndarray:
    """Returns the boolean mask (units,) of a packed bit block."""
    return np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=units).astype(bool)


@dataclass(frozen=True)
class Pattern:
    """A candidate: for each gene of its space a level, or a packed block of bits.

    Patterns are made by ``Space``, which brings them into canonical form; two patterns that
    remove the same things are equal.
    """

    choices: tuple[int | bytes, ...]

    @cached_property
    def key(self) -> str:
        """The pattern as one line of JSON; equal for equal patterns only."""
        return json.dumps(self.to_json(), separators=(",", ":"))

    @cached_property
    def id(self) -> str:
        """A short name, unique among the patterns of a run: twelve hex digits."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:12]

    def to_json(self) -> list[int | str]:
        """Returns levels as integers and bit blocks as base64 strings."""
        return [
            base64.b64encode(choice).decode() if isinstance(choice, bytes) else int(choice)
            for choice in self.choices
        ]

    @classmethod
    def from_json(cls, choices: Sequence[int | str]) -> "Pattern":
        """Returns the pattern that ``to_json`` wrote."""
        return cls(
            tuple(
                base64.b64decode(choice) if isinstance(choice, str) else int(choice)
                for choice in choices
            )
        )


def option_from_json(option: Mapping[str, Any]) -> Option:
    """Returns the option that an option's ``to_json`` wrote."""
    if "keep" in option:
        return Keep(int(option["keep"]))
    if "bits" in option:
        return Bits(base64.b64decode(option["bits"]), int(option["units"]))
    return Drop()
