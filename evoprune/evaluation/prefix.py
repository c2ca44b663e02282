"""What patterns share at their beginning is run once.

Patterns that treat the first blocks alike have the same state after them. A walk over one
micro-batch goes back only as far as a pattern differs from the one before it; states that were
reached, those after few blocks above all, are kept for the patterns of later calls. A state that
is used again is the tensor that would be computed again: values are the same to the last bit.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from evoprune.core.networks import Batch, Stages
from evoprune.core.pattern import Option, Pattern
from evoprune.core.space import Space

if TYPE_CHECKING:
    import torch

Path = tuple[Any, ...]


def path_of(stages: Any, options: Mapping[str, Option], apart: bool = False) -> Path:
    """Returns for each block what a pattern does to it (n_blocks,), None where nothing.

    Args:
        stages: a network's.
        options: of the sites that are not whole.
        apart: whether only equal patterns may share anything, as where ``stages`` has no
            ``block_of``.
    """
    inside: dict[int, set[tuple[str, Option]]] = {}
    apart = apart or not hasattr(stages, "block_of")
    for site, option in options.items():
        inside.setdefault(0 if apart else stages.block_of(site), set()).add((site, option))
    return tuple(frozenset(inside[i]) if i in inside else None for i in range(stages.n_blocks))


def in_prefix_order(paths: Sequence[Path]) -> list[int]:
    """Returns the paths' indices, those with a common beginning one after another."""
    known: dict[Any, int] = {}
    ranked = [[known.setdefault(key, len(known)) for key in path] for path in paths]
    return sorted(range(len(paths)), key=lambda i: ranked[i])


def alike(paths: Sequence[Path], order: Sequence[int]) -> list[tuple[int, int]]:
    """Returns each path's index, in order, with how many first blocks the next one shares."""
    following = [*(paths[i] for i in order[1:]), ()]
    return [(i, _common(paths[i], path)) for i, path in zip(order, following, strict=True)]


def _common(one: Path, other: Path) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def together(space: Space, patterns: Sequence[Pattern]) -> list[int]:
    """Returns the patterns' indices, those that begin alike one after another."""
    options = [space.options(pattern) for pattern in patterns]
    return in_prefix_order([tuple(one.get(site) for site in space.sites) for one in options])


@dataclass(frozen=True)
class Reached:
    """A state after some blocks, and how many of them were really run to get there."""

    state: Any
    ran: int


class Shelf:
    """The states of one micro-batch by beginning.

    Over the bound the state after most blocks goes, of equals the longest unused: more patterns
    begin with few blocks than with many.

    Attributes:
        bound: bytes that they may take.
        bytes: that they take.
    """

    def __init__(self) -> None:
        # By the number of blocks.
        self._found: dict[int, OrderedDict[Path, tuple[Reached, int]]] = {}
        self.bound = self.bytes = 0

    def add(self, beginning: Path, reached: Reached) -> None:
        """Keeps a state."""
        size = size_of(reached.state)
        self._found.setdefault(len(beginning), OrderedDict())[beginning] = (reached, size)
        self.bytes += size
        self.fit()

    def fit(self) -> None:
        """Lets go of what is over the bound."""
        while self.bytes > self.bound:
            deepest = max(self._found)
            self.bytes -= self._found[deepest].popitem(last=False)[1][1]
            if not self._found[deepest]:
                del self._found[deepest]

    def get(self, beginning: Path) -> Reached | None:
        """Returns the state after a beginning, None if it is not kept."""
        alike = self._found.get(len(beginning))
        if alike is None or beginning not in alike:
            return None
        alike.move_to_end(beginning)
        return alike[beginning][0]


class Prefixes:
    """The shelves of all micro-batches, within one bound.

    Args:
        stages: the network's.
        bound: bytes that all kept states may take; 0 keeps none between calls.

    Attributes:
        executed: blocks that were run, a micro-batch each.
        asked: blocks that would have been, had every pattern begun at the start.
    """

    def __init__(self, stages: Stages, bound: int) -> None:
        self.stages, self.bound = stages, bound
        self.executed = self.asked = 0
        # By the content of what it reads, so that a state never answers for another text or mask.
        self._shelves: OrderedDict[bytes, Shelf] = OrderedDict()

    @property
    def bytes(self) -> int:
        """What the kept states take."""
        return sum(shelf.bytes for shelf in self._shelves.values())

    def walk(self, batch: Batch, among: int) -> "Walk":
        """Returns a walk over one micro-batch.

        Args:
            batch: what the network reads of it.
            among: how many micro-batches share the bound.
        """
        key = content_of({name: batch[name] for name in self.stages.inputs if name in batch})
        shelf = self._shelves[key] = self._shelves.pop(key, Shelf())
        shelf.bound = self.bound // among
        shelf.fit()
        # Those of other texts go first; this one may then fill its share.
        while self.bytes - shelf.bytes + shelf.bound > self.bound and len(self._shelves) > 1:
            self._shelves.popitem(last=False)
        return Walk(self, batch, shelf)


class Walk:
    """Runs patterns over one micro-batch, each from where it differs from what was run.

    Args:
        owner: counts what is run.
        batch: what the network reads.
        shelf: what is kept of this micro-batch.
    """

    def __init__(self, owner: Prefixes, batch: Batch, shelf: Shelf) -> None:
        self._owner, self._batch, self._shelf = owner, batch, shelf
        self._path: Path = ()
        # After the embedding and after each block of the path; None where a leap left it open.
        self._along: list[Reached | None] = []

    def features(self, path: Path, dropped: Collection[str], shared: int) -> "torch.Tensor":
        """Returns what the head reads of a pattern, (B, T, H) or (B, H).

        Args:
            path: what the pattern does to each block; it is realised in the network now.
            dropped: its dropped sites.
            shared: first blocks whose states the next pattern can use; later ones are let go.
        """
        stages, at = self._owner.stages, self._nearest(path)
        begin = len(self._path)
        self._path, self._along = path[: min(begin, shared)], self._along[: shared + 1]
        for index in range(begin, len(path)):
            state = stages.block(index, at.state, dropped)
            if state is not at.state:
                self._owner.executed += 1
                at = Reached(state, at.ran + 1)
                self._shelf.add(path[: index + 1], at)
            if index < shared:
                self._along.append(at)
                self._path = path[: index + 1]
        self._owner.asked += at.ran
        return stages.features(at.state)

    def _nearest(self, path: Path) -> Reached:
        """Goes back, or over to what is kept, to the last known state on the way to a path."""
        self._along = self._along[: _common(self._path, path) + 1]
        while self._along and self._along[-1] is None:
            self._along.pop()
        here = len(self._along) - 1
        for depth in range(len(path), here, -1):
            kept = self._shelf.get(path[:depth])
            if kept is not None:
                self._along += [*[None] * (depth - 1 - here), kept]
                break
        if not self._along:
            start = Reached(self._owner.stages.begin(self._batch), 0)
            self._along = [start]
            self._shelf.add((), start)
        self._path = path[: len(self._along) - 1]
        at = self._along[-1]
        assert at is not None  # the last is never open
        return at


def content_of(batch: Batch) -> bytes:
    """Returns a digest of tensors: their names, types, shapes and values."""
    whole = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(batch.items()):
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        whole.update(tensor.cpu().contiguous().numpy().tobytes())
    return whole.digest()


def size_of(state: Any) -> int:
    """Returns what the tensors of a state take."""
    if hasattr(state, "element_size"):
        return int(state.element_size() * state.nelement())
    if is_dataclass(state):
        return sum(size_of(getattr(state, field.name)) for field in fields(state))
    if isinstance(state, Mapping):
        return sum(size_of(value) for value in state.values())
    if isinstance(state, (list, tuple)):
        return sum(size_of(value) for value in state)
    return 0
