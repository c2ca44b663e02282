"""The rungs of the export ladder, and which of them a pattern allows."""

from collections.abc import Iterable
from typing import Literal

import numpy as np

from evoprune.core.pattern import Drop, Pattern
from evoprune.core.space import Site, Space

# Of decoders, then of heads.
ExportRung = Literal["homogeneous", "heterogeneous", "dense-masked", "standalone", "head-only"]

LADDER: tuple[ExportRung, ...] = ("homogeneous", "heterogeneous", "dense-masked")


class UnfitError(Exception):
    """A rung turns out not to hold a pattern; the message is a sentence for the user."""


def rung_of(space: Space, pattern: Pattern) -> tuple[ExportRung, str]:
    """Returns the highest rung that a pattern allows, and one sentence that says why."""
    X = space.encode([pattern])
    left = kept_blocks(space, pattern)
    if not left:
        return "dense-masked", "No block is left, and a smaller model needs at least one."
    odd = _odd(space, X, left)
    if odd:
        return "heterogeneous", f"{odd}, which no stock class can hold."
    if not space.options(pattern):
        return "homogeneous", "Nothing is removed, so the stock class loads it."
    narrowed = ", ".join(f"{n} {kind}" for kind, n in equal_widths(space, pattern).items())
    if narrowed:
        why = f"Every block that is left keeps the same widths ({narrowed})"
    else:
        why = "Only whole blocks are removed"
    return "homogeneous", f"{why}, so the stock class loads it."


def kept_blocks(space: Space, pattern: Pattern) -> list[int]:
    """Returns the numbers of the blocks that stay.

    A block whose parts are all dropped is a dropped block.
    """
    X = space.encode([pattern])
    left = []
    for index, block in enumerate(blocks_of(space)):
        parts = [site for site in space.sites.values() if site.parent == block.name]
        alive = any(space.alive(X, part.name)[0] for part in parts) if parts else True
        if alive and space.alive(X, block.name)[0]:
            left.append(index)
    return left


def equal_widths(space: Space, pattern: Pattern) -> dict[str, int]:
    """Returns how many units every kept block keeps, for the kinds of site that lose units.

    Only meaningful for a homogeneous pattern.
    """
    X = space.encode([pattern])
    found = {}
    for kind, sites in sites_inside(space, kept_blocks(space, pattern)).items():
        kept = int(space.kept(X, sites[0].name)[0])
        if any(kept != site.units for site in sites):
            found[kind] = kept
    return found


def block_widths(space: Space, pattern: Pattern, block: int) -> tuple[dict[str, int], set[str]]:
    """Returns what a block keeps of its parts.

    Returns:
        The units kept, by kind of site, where some are lost; and the kinds of site that are gone.
    """
    X = space.encode([pattern])
    widths, gone = {}, set()
    for kind, sites in sites_inside(space, [block]).items():
        kept = sum(int(space.kept(X, site.name)[0]) for site in sites)
        if kept < sum(site.units for site in sites):
            widths[kind] = kept
        if not any(space.alive(X, site.name)[0] for site in sites):
            gone.add(kind)
    return widths, gone


def blocks_of(space: Space) -> list[Site]:
    """Returns the sites that are blocks, in order."""
    return [site for site in space.sites.values() if site.kind == "block"]


def sites_inside(space: Space, blocks: Iterable[int]) -> dict[str, list[Site]]:
    """Returns the sites that lie in some of the blocks, by kind."""
    names = [block.name for block in blocks_of(space)]
    wanted = {names[index] for index in blocks}
    found: dict[str, list[Site]] = {}
    for site in space.sites.values():
        at = site.parent
        while at is not None and at not in wanted:
            at = space.sites[at].parent
        if at is not None:
            found.setdefault(site.kind, []).append(site)
    return found


def _odd(space: Space, X: np.ndarray, left: list[int]) -> str:
    """Returns what makes the kept blocks unlike each other or unlike a stock block, or ''."""
    for kind, sites in sites_inside(space, left).items():
        counts = [int(space.kept(X, site.name)[0]) for site in sites]
        if 0 in counts:
            site = sites[counts.index(0)]
            return f"'{site.name}' is removed from a block that stays"
        if len(set(counts)) > 1:
            return f"The blocks keep from {min(counts)} to {max(counts)} {kind}"
    inside = {
        site.name
        for sites in sites_inside(space, list(range(len(blocks_of(space))))).values()
        for site in sites
    }
    for site in space.sites.values():
        if site.name in inside or site.kind == "block":
            continue
        if space.kept(X, site.name)[0] != site.units:
            return f"'{site.name}' lies outside the blocks and is cut"
    return ""


def in_words(space: Space, pattern: Pattern) -> list[str]:
    """Returns what a pattern removes, one line for each kind of removal."""
    lines: dict[str, list[str]] = {}
    for name, option in space.options(pattern).items():
        site = space.sites[name]
        if isinstance(option, Drop):
            what = f"{site.kind} removed"
        else:
            kept = int(space.kept(space.encode([pattern]), name)[0])
            what = f"{kept} of {site.units} {site.kind} kept"
        lines.setdefault(what, []).append(name)
    return [f"{what} ({len(names)}): {', '.join(names)}" for what, names in lines.items()]
