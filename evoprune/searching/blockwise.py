"""Rules that go by what the dense network's blocks do to the states that pass through them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from evoprune.core.errors import SpaceError
from evoprune.core.pattern import Drop, Keep, Option
from evoprune.core.protocols import Hints
from evoprune.core.space import Gene, Space
from evoprune.searching.problem import Problem
from evoprune.searching.rules import Rule, by_share

# Adapt-Pruner's scripts: by how much a layer gets sparser in a step, and how far layers differ.
STEP = 1.0 / 50
AMPLITUDE = 0.02
# Its clip: no layer gets sparser than this.
MOST_SPARSE = 0.99
# MPruner removes every first, second or third of the layers that repeat another.
EVERY = (1, 2, 3)


@dataclass(frozen=True)
class BlockInfluence(Rule):
    """``block_influence``: what changes its input least goes first (ShortGPT; Men et al., 2024).

    Influence is 1 − the mean cosine of what enters and leaves. Only the outermost genes are used:
    blocks where blocks can be dropped, else their parts. A gene of several levels goes all the way
    before the next begins.
    """

    needs_blocks: ClassVar[bool] = True

    def rising(self, problem: Problem, count: int) -> np.ndarray:
        """Returns ``count`` candidates of evenly rising sparsity (count, n_var)."""
        space, hints, placed = problem.space, problem.hints, _placed(problem)
        means = [np.mean([hints.influence[place] for place in places]) for _, places in placed]
        order = [placed[i][0] for i in np.argsort(means, kind="stable")]
        moves = np.concatenate([_moves(space, hints, gene) for gene in order])
        return by_share(moves, space.n_var, count)


@dataclass(frozen=True)
class AdaptPruner(Rule):
    """``adapt_pruner``: each layer loses its own share, the more the less it changes its input.

    Adapt-Pruner (Wang et al., 2025, §3): in each step every layer's share grows by Δ − A·Ĩ, where
    Ĩ is its importance (minus the mean cosine), centred and divided by its largest deviation, and
    Δ = A = 0.02 as in its scripts. Here importance is that of the dense network throughout, since
    nothing is pruned or trained between the steps. A gene takes the level nearest to its layer's
    share; where levels are whole layers, they go in the order of their influence.
    """

    needs_blocks: ClassVar[bool] = True

    def rising(self, problem: Problem, count: int) -> np.ndarray:
        """Returns ``count`` candidates of evenly rising sparsity (count, n_var)."""
        space, hints = problem.space, problem.hints
        placed = _placed(problem, outermost=False)
        blocks = [[_top(space, place) for place in places] for _, places in placed]
        names = sorted({block for some in blocks for block in some})
        pace = dict(zip(names, paces([hints.influence[name] for name in names]), strict=True))
        moves, times = [], []
        for (gene, _), some in zip(placed, blocks, strict=True):
            shares = _thresholds(space, gene)
            with np.errstate(divide="ignore"):
                when = shares / np.mean([pace[block] for block in some])
            moves.append(_moves(space, hints, gene))
            times.append(np.where(shares <= MOST_SPARSE, when, np.inf))
        order = np.argsort(np.concatenate(times), kind="stable")
        reached = order[np.isfinite(np.concatenate(times)[order])]
        return by_share(np.concatenate(moves)[reached], space.n_var, count)


@dataclass(frozen=True)
class Cka(Rule):
    """``cka``: of layers whose outputs are alike the later ones go (MPruner; Lin et al., 2024).

    From the first layer on, a cluster grows while the linear CKA between its first layer's output
    and the next one's is at least a threshold; its first stays, every k-th of the others goes.
    For each number of layers removed the highest threshold that removes so many is taken, with
    k = 1, 2, 3. CKA is measured on the search split (MPruner's code reads the test set), and the
    search judges the result (its accuracy limit accepts everything).
    """

    needs_blocks: ClassVar[bool] = True

    def rising(self, problem: Problem, count: int) -> np.ndarray:
        """Returns ``count`` candidates of evenly rising sparsity (count, n_var)."""
        space, hints, placed = problem.space, problem.hints, _placed(problem)
        at = {place: _output(space, hints, place) for _, places in placed for place in places}
        order = sorted(at, key=lambda place: at[place])
        index = [at[place] for place in order]
        sets = removals(hints.similarity[np.ix_(index, index)])
        X = np.zeros((len(sets), space.n_var), dtype=np.int64)
        for row, removed in enumerate(sets):
            gone = {order[i] for i in removed}
            for gene, places in placed:
                if gone.issuperset(places):
                    X[row] += np.bincount(_moves(space, hints, gene), minlength=space.n_var)
        sizes = np.array([len(removed) for removed in sets])
        wanted = sizes.max() * (np.arange(count) + 1) / (count + 1)
        return X[np.abs(sizes[None, :] - wanted[:, None]).argmin(axis=1)]


def paces(influence: Sequence[float]) -> np.ndarray:
    """Returns how much sparser each layer gets in a step of Adapt-Pruner's (L,)."""
    centred = np.asarray(influence) - np.mean(influence)
    relative = centred / (np.abs(centred).max() or 1.0)
    return np.asarray(STEP - AMPLITUDE * relative)


def removals(similarity: np.ndarray) -> list[tuple[int, ...]]:
    """Returns for each number of layers the removal that MPruner's walk finds, few to many.

    Args:
        similarity: the linear CKA of the outputs of any two layers (L, L).
    """
    found: dict[int, tuple[int, ...]] = {0: ()}
    above = similarity[np.triu_indices(len(similarity), 1)]
    for threshold in np.unique(above)[::-1]:
        clusters = _clusters(similarity, threshold)
        for every in EVERY:
            removed = tuple(i for others in clusters for i in others[every - 1 :: every])
            found.setdefault(len(removed), removed)
    return [found[size] for size in sorted(found)]


def _clusters(similarity: np.ndarray, threshold: float) -> list[list[int]]:
    """Returns each cluster without its first layer."""
    found: list[list[int]] = []
    first = 0
    for layer in range(1, len(similarity)):
        if layer == first + 1:
            found.append([])
        if similarity[first, layer] >= threshold:
            found[-1].append(layer)
        else:
            first = layer
    return found


def _above(space: Space, site: str) -> Iterator[str]:
    """Yields a site and all that it lies in, inner first."""
    at: str | None = site
    while at is not None:
        yield at
        at = space.sites[at].parent


def _top(space: Space, site: str) -> str:
    return list(_above(space, site))[-1]


def _placed(problem: Problem, outermost: bool = True) -> list[tuple[int, tuple[str, ...]]]:
    """Returns the genes that lie in blocks, each with the blocks, or parts of them, of its sites.

    Args:
        problem: what is searched.
        outermost: leave out what lies in a site that another gene can drop.

    Raises:
        SpaceError: nothing was measured, or no gene lies in a block.
    """
    space, hints = problem.space, problem.hints
    dropped = {
        site for gene in space.genes for site in gene.sites if any(map(_drops, gene.options))
    }
    found = []
    for index, gene in enumerate(space.genes):
        places = [
            next((s for s in _above(space, site) if s in hints.influence), None)
            for site in gene.sites
        ]
        outer = {s for site in gene.sites for s in list(_above(space, site))[1:]}
        known = tuple(place for place in places if place is not None)
        if len(known) == len(places) and not (outermost and outer & dropped):
            found.append((index, known))
    if not found:
        what = "no gene in a block" if hints.influence else "no measured blocks"
        raise SpaceError(
            f"The space '{space.name}' has {what}, which this rule goes by.",
            "Use rules that do not go by blocks (`evoprune ls starts`).",
        )
    return found


def _output(space: Space, hints: Hints, place: str) -> int:
    """Returns which of the compared states leaves a block or a part of it."""
    within = [i for i, part in enumerate(hints.parts) if place in _above(space, part)]
    return within[-1]


def _drops(option: Option) -> bool:
    return isinstance(option, Drop)


def _moves(space: Space, hints: Hints, gene: int) -> np.ndarray:
    """Returns the moves that take a gene from whole to its least; of bits the best one stays."""
    first = space.columns(gene).start
    if space.genes[gene].bits:
        return first + _by_score(space.genes[gene], hints)[:-1]
    return np.full(space.genes[gene].levels - 1, first)


def _by_score(gene: Gene, hints: Hints) -> np.ndarray:
    """Returns the units of a bits gene, the least important first (units,).

    Raises:
        SpaceError: no criterion scored them.
    """
    if not set(gene.sites) <= set(hints.scores):
        raise SpaceError(
            f"No criterion scored the units of '{gene.name}', so it is not known which go first.",
            "Use rules that do not go by scores: greedy, additive, uniform or last_k.",
        )
    return np.argsort(np.sum([hints.scores[s] for s in gene.sites], axis=0), kind="stable")


def _thresholds(space: Space, gene: int) -> np.ndarray:
    """Returns for each move of a gene the share from which the level after it is nearest (S,)."""
    one = space.genes[gene]
    if one.bits:
        return (np.arange(one.bits - 1) + 0.5) / one.bits
    lost = np.array([_lost(space, one, option) for option in one.options])
    # Dropping what can also be made narrow is the step after its narrowest.
    lost[0] = max((_narrowest(space, other) for other in _nested(space, one)), default=0.0)
    return (lost[:-1] + lost[1:]) / 2


def _lost(space: Space, gene: Gene, option: Option) -> float:
    """Returns the share of its units that a gene loses."""
    kept = option.units if isinstance(option, Keep) else 0
    return 1.0 - kept / space.sites[gene.sites[0]].units


def _narrowest(space: Space, gene: Gene) -> float:
    """Returns the largest share of its units that a gene can lose."""
    return 1.0 - 1.0 / gene.bits if gene.bits else _lost(space, gene, gene.options[-1])


def _nested(space: Space, gene: Gene) -> list[Gene]:
    """Returns the genes that lie in a gene's sites."""
    return [
        other
        for other in space.genes
        if other is not gene
        and all(set(list(_above(space, s))[1:]) & set(gene.sites) for s in other.sites)
    ]
