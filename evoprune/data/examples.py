"""The examples of a split as the workers read them: one safetensors file, mapped, never copied."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from evoprune.core.metrics import Table


@dataclass(frozen=True)
class Pass:
    """What one forward pass of a split reads.

    Attributes:
        arrays: what the network and the task read, by name, each (N, …).
        groups: the calibration cluster of each example (N,) int64.
        sizes: the work in each example (N,) int64: its tokens, or 1 for an image.
    """

    arrays: Mapping[str, np.ndarray]
    groups: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.groups)

    def first(self, n: int) -> "Pass":
        """Returns the first ``n`` examples."""
        return self.part(slice(n))

    def part(self, rows: slice) -> "Pass":
        """Returns some examples: views, no copies."""
        arrays = {name: value[rows] for name, value in self.arrays.items()}
        return Pass(arrays, self.groups[rows], self.sizes[rows])

    def with_arrays(self, more: Mapping[str, np.ndarray]) -> "Pass":
        """Returns the pass with further arrays, each (N, …)."""
        return replace(self, arrays={**self.arrays, **more})


@dataclass(frozen=True)
class Examples:
    """A split, or the calibration set.

    Attributes:
        passes: what is read, by pass; ``clean`` holds the examples themselves.
        dense: the dense model's table for every pass.
        zero: that of a model that knows frequencies only (``evoprune.core.quality``), where known.
    """

    passes: Mapping[str, Pass]
    dense: Mapping[str, Table] = field(default_factory=dict)
    zero: Mapping[str, Table] = field(default_factory=dict)

    @property
    def clean(self) -> Pass:
        """The examples themselves."""
        return self.passes["clean"]

    def __len__(self) -> int:
        return len(self.clean)

    @property
    def work(self) -> int:
        """Tokens (or images) of all passes together."""
        return sum(int(one.sizes.sum()) for one in self.passes.values())

    def counts(self, n: int) -> dict[str, int]:
        """Returns how many examples of each pass the rung of ``n`` examples has: equal shares."""
        share = n / len(self)
        return {
            name: n if name == "clean" else int(np.ceil(share * len(one)))
            for name, one in self.passes.items()
        }

    def boundaries(self, rungs: Sequence[int]) -> dict[str, list[int]]:
        """Returns by pass where rungs of so many examples end."""
        ends = [self.counts(n) for n in rungs]
        return {name: [end[name] for end in ends] for name in self.passes}

    def first(self, n: int) -> "Examples":
        """Returns a rung: the first ``n`` examples, and the same share of every other pass."""
        counts = self.counts(n)
        return Examples(
            {name: one.first(counts[name]) for name, one in self.passes.items()},
            {name: table.take(np.arange(counts[name])) for name, table in self.dense.items()},
            {name: table.take(np.arange(counts[name])) for name, table in self.zero.items()},
        )

    def after(self, counts: Mapping[str, int]) -> "Examples":
        """Returns the examples without the first so many of each pass, and no dense tables."""
        return Examples(
            {name: one.part(slice(counts[name], None)) for name, one in self.passes.items()}
        )

    def scored_at(self, thin: "Examples") -> "Examples":
        """Returns the same examples scored at fewer positions.

        Args:
            thin: the array that says which (``thin_file``), and the dense tables there.
        """
        clean = self.clean.with_arrays(thin.clean.arrays)
        return Examples({**self.passes, "clean": clean}, {**self.dense, **thin.dense}, self.zero)

    def save(self, path: Path) -> None:
        """Writes the examples as safetensors."""
        from safetensors.numpy import save_file

        tensors: dict[str, np.ndarray] = {}
        for name, one in self.passes.items():
            tensors |= {f"{name}/groups": one.groups, f"{name}/sizes": one.sizes}
            tensors |= {f"{name}/array/{key}": value for key, value in one.arrays.items()}
        for sort, tables in (("dense", self.dense), ("zero", self.zero)):
            for name, table in tables.items():
                tensors |= {f"{name}/{sort}/{column}": v for column, v in table.columns.items()}
        save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)

    @classmethod
    def load(cls, path: Path) -> "Examples":
        """Returns the examples that ``save`` wrote."""
        from safetensors.numpy import load_file

        tensors = load_file(path)
        sorts = _by_sort(tensors)
        passes = {
            name: Pass(found, tensors[f"{name}/groups"], tensors[f"{name}/sizes"])
            for name, found in sorts["array"].items()
        }
        return cls(passes, _tables(sorts["dense"], tensors), _tables(sorts["zero"], tensors))


@dataclass(frozen=True)
class Scale:
    """Both ends of what patterns of a split are judged by, without the examples themselves.

    Attributes:
        dense: the dense model's table for every pass.
        zero: that of a model that knows frequencies only; empty in folders from before there was
            one, and of a task without.
    """

    dense: Mapping[str, Table]
    zero: Mapping[str, Table]

    @classmethod
    def load(cls, path: Path) -> "Scale":
        """Returns the tables in the file that ``Examples.save`` wrote; nothing else is read."""
        from safetensors import safe_open

        with safe_open(path, framework="numpy") as file:
            names = file.keys()
            wanted = [n for n in names if n.split("/")[1] in ("dense", "zero", "groups")]
            tensors = {name: file.get_tensor(name) for name in wanted}
        sorts = _by_sort(tensors)
        return cls(_tables(sorts["dense"], tensors), _tables(sorts["zero"], tensors))


Columns = dict[str, dict[str, np.ndarray]]


def _by_sort(tensors: Mapping[str, np.ndarray]) -> dict[str, Columns]:
    """Returns the arrays of a file by what they are, by pass and by name."""
    found: dict[str, Columns] = {"array": {}, "dense": {}, "zero": {}}
    # safetensors keeps no order of its own; names are sorted to have one.
    for name in sorted(tensors):
        owner, _, rest = name.partition("/")
        sort, _, key = rest.partition("/")
        if sort in found:
            found[sort].setdefault(owner, {})[key] = tensors[name]
    return found


def _tables(columns: Columns, tensors: Mapping[str, np.ndarray]) -> dict[str, Table]:
    return {name: Table(found, tensors[f"{name}/groups"]) for name, found in columns.items()}


def thin_file(positions: int) -> str:
    """Returns the file, in ``calibration/``, of the search split at so many positions of each
    example.
    """
    return f"search-{positions}-positions.safetensors"
