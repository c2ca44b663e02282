"""The part of a space whose patterns are all homogeneous, so that stock classes load them.

Every candidate of it has equal widths in all blocks and loses blocks as wholes, because its genes
can say nothing else: whatever searches it (algorithms, warm starts, controls) needs to know nothing
of rungs, and a move changes a width everywhere at once. A repair of candidates of the whole space
would undo every move of a single block.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce

from evoprune.core.errors import SpaceError
from evoprune.core.export_rungs import blocks_of, rung_of, sites_inside
from evoprune.core.pattern import Drop, Keep, Option
from evoprune.core.space import Gene, Quorum, Site, Space

# Returns why a stock class cannot have these units, by kind, in every block; empty where it can.
Refusal = Callable[[Mapping[str, int]], str]


def homogeneous_part(space: Space, refusal: Refusal = lambda widths: "") -> Space:
    """Returns the space of those patterns whose rung is homogeneous; it keeps the name.

    A block goes by the gene that drops it, or by those of all its parts made one. A width is a gene
    over all blocks, with the counts that every block offers; a gene of bits removes the same units
    everywhere, counted from the best-ranked. What else genes could do is left as it is. At least
    one block stays.

    Args:
        space: all that genes can do.
        refusal: asked of every width; a gene of bits keeps any number, so that all must suit.

    Raises:
        SpaceError: no pattern, or only the dense one, is homogeneous.
    """
    blocks = blocks_of(space)
    if not blocks:
        raise SpaceError(
            f"The sites of the space '{space.name}' lie in no blocks, so that no pattern has the "
            "rung 'homogeneous'.",
            "Leave constraints.rung out: it is for networks made of blocks, such as decoders.",
        )
    rung, why = rung_of(space, space.dense)
    if rung != "homogeneous":
        raise SpaceError(
            f"Not even the whole model is homogeneous: {why}", "Leave constraints.rung out."
        )
    drops = [tied(of, space) for of in _removals(space)]
    everything = {block for of in drops for block in _blocks_within(space, of)}
    if len(drops) == 1 and len(everything) == len(blocks):
        drops = []  # the only step would leave no block
    genes = (*drops, *_widths(space, refusal))
    if not genes:
        raise SpaceError(
            f"No pattern of the space '{space.name}' but the dense one is homogeneous: no block "
            "can go as a whole, and no width is offered in every block.",
            "Let the rules of `genes` reach all blocks alike, or leave constraints.rung out.",
        )
    return Space(space.sites, genes, space.name, _quorums(space, drops, len(blocks)))


def tied(genes: Sequence[Gene], space: Space) -> Gene:
    """Returns genes that drop their sites as one gene, which keeps or drops all of them."""
    if len(genes) == 1:
        return genes[0]
    order = {name: place for place, name in enumerate(space.sites)}
    sites = sorted((site for gene in genes for site in gene.sites), key=order.__getitem__)
    return Gene(_label(sites), tuple(sites), (Keep(1), Drop()))


def _label(sites: Sequence[str]) -> str:
    return sites[0] if len(sites) == 1 else f"{sites[0]}+{len(sites) - 1}"


def _removals(space: Space) -> list[list[Gene]]:
    """Returns sets of genes that together drop whole blocks and nothing but these."""
    droppers = [g for g in space.genes if any(isinstance(o, Drop) for o in g.options)]
    named = {block.name for block in blocks_of(space)}
    own = [gene for gene in droppers if set(gene.sites) <= named]
    gone = {site for gene in own for site in gene.sites}
    parts = {name: {s.name for s in space.sites.values() if s.parent == name} for name in named}
    whole = [[gene] for gene in own]
    for group in _connected([gene for gene in droppers if gene not in own], space):
        sites = {site for gene in group for site in gene.sites}
        touched = {space.sites[site].parent for site in sites}
        if touched <= named - gone and sites == set().union(*(parts[b] for b in touched if b)):
            whole.append(group)
    return whole


def _connected(genes: Iterable[Gene], space: Space) -> list[list[Gene]]:
    """Returns genes in groups: those that reach into one block belong together."""
    groups: list[tuple[set[str | None], list[Gene]]] = []
    for gene in genes:
        reach = {space.sites[site].parent for site in gene.sites}
        meeting = [group for group in groups if group[0] & reach]
        groups = [group for group in groups if not group[0] & reach]
        places = reduce(set.union, (group[0] for group in meeting), reach)
        groups.append((places, [*(g for group in meeting for g in group[1]), gene]))
    order = {gene.name: place for place, gene in enumerate(space.genes)}
    found = [sorted(members, key=lambda gene: order[gene.name]) for _, members in groups]
    return sorted(found, key=lambda members: order[members[0].name])


def _blocks_within(space: Space, gene: Gene) -> set[str]:
    """Returns the blocks that a gene drops."""
    named = {block.name for block in blocks_of(space)}
    above = {site: space.sites[site].parent for site in gene.sites}
    return {site if site in named else str(above[site]) for site in gene.sites}


def _widths(space: Space, refusal: Refusal) -> list[Gene]:
    """Returns a gene for each kind of site of which all blocks can keep equally few units."""
    governed = {site: gene for gene in space.genes for site in gene.sites}
    found = []
    for kind, sites in sites_inside(space, range(len(blocks_of(space)))).items():
        names = tuple(site.name for site in sites)
        genes = [governed.get(name) for name in names]
        if all(gene is not None and gene.bits for gene in genes):
            wrong = filter(None, (refusal({kind: n + 1}) for n in range(sites[0].units)))
            why = next(wrong, "")
            if why:
                raise SpaceError(
                    f"A gene of bits may leave any number of {kind}. {why}",
                    f"Give {kind} shares to keep instead of bits; those that suit are taken.",
                )
            found.append(Gene(_label(names), names, bits=sites[0].units))
            continue
        pairs = zip(sites, genes, strict=True)
        counts = set.intersection(*(_counts(site, gene) for site, gene in pairs))
        suiting = [n for n in counts if n == sites[0].units or not refusal({kind: n})]
        options: tuple[Option, ...] = tuple(Keep(n) for n in sorted(suiting, reverse=True))
        if len(options) > 1:
            found.append(Gene(_label(names), names, options))
    return found


def _counts(site: Site, gene: Gene | None) -> set[int]:
    """Returns how many units of a site, not none, a gene may leave; without one, all."""
    options = () if gene is None else gene.options
    kept = {option.units for option in options if isinstance(option, Keep)}
    return {count for count in kept if count > 0} or {site.units}


def _quorums(space: Space, drops: Sequence[Gene], n_blocks: int) -> tuple[Quorum, ...]:
    """Returns what stays of the dropping genes: a block, and what the space asks for already."""
    held = {site: index for index, gene in enumerate(drops) for site in gene.sites}
    found = []
    for quorum in space.quorums:
        inside = {held[s] for i in quorum.genes for s in space.genes[i].sites if s in held}
        fixed = sum(not set(space.genes[i].sites) & set(held) for i in quorum.genes)
        if inside and quorum.least > fixed:
            least = min(quorum.least - fixed, len(inside))
            found.append(Quorum(tuple(sorted(inside)), least))
    reached = {block for gene in drops for block in _blocks_within(space, gene)}
    everyone = tuple(range(len(drops)))
    if len(reached) == n_blocks and not any(quorum.genes == everyone for quorum in found):
        found.append(Quorum(everyone, 1))
    return tuple(found)
