"""The search space: sites, the genes over them, and the arrays that the search works on."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from evoprune.core.errors import SpaceError
from evoprune.core.pattern import Bits, Drop, Keep, Option, Pattern, option_from_json, unpack


@dataclass(frozen=True)
class Site:
    """A prunable place of a model.

    Attributes:
        name: such as ``layers.3.attn``; unique in the model.
        kind: what it is in its family: ``block``, ``attn``, ``mlp``, ``heads``, ``channels`` …
        units: how many removable things it holds; 1 for a place that is kept or dropped whole.
        parent: the site it lies in, if any.
    """

    name: str
    kind: str
    units: int = 1
    parent: str | None = None


@dataclass(frozen=True)
class Gene:
    """A site, or sites tied together, with its ordered options.

    A gene with ``bits`` > 0 has no options: each of its units has a bit of its own.
    """

    name: str
    sites: tuple[str, ...]
    options: tuple[Option, ...] = ()
    bits: int = 0

    @property
    def width(self) -> int:
        """How many variables the gene takes in an array of candidates."""
        return self.bits or 1

    @property
    def levels(self) -> int:
        """How many values each of its variables has."""
        return 2 if self.bits else len(self.options)


@dataclass(frozen=True)
class Quorum:
    """Genes of which so many keep their sites, whatever a candidate says.

    Attributes:
        genes: their indices; each can drop its sites.
        least: how many stay.
    """

    genes: tuple[int, ...]
    least: int


@dataclass(frozen=True)
class Space:
    """All patterns over some genes, in canonical form.

    Arrays of candidates are integers (P, n_var). A level gene takes one column, 0 = dense. A bits
    gene takes a column per unit, where **0 = kept and 1 = removed**, so that zero is dense there
    too. Of the genes of a quorum so many stay.
    """

    sites: Mapping[str, Site]
    genes: tuple[Gene, ...]
    name: str = ""
    quorums: tuple[Quorum, ...] = ()
    _columns: tuple[slice, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.genes:
            raise SpaceError(
                f"The search space '{self.name}' has no genes.",
                "Widen `include`, shorten `exclude` or choose another space "
                "(`evoprune ls spaces`).",
            )
        governed = Counter(site for gene in self.genes for site in gene.sites)
        double, count = governed.most_common(1)[0]
        if count > 1:
            raise SpaceError(
                f"The site '{double}' has {count} genes in the space '{self.name}'.",
                "Let one rule of `genes` match it only.",
            )
        ends = np.cumsum([0, *(gene.width for gene in self.genes)])
        columns = tuple(slice(int(a), int(b)) for a, b in pairwise(ends))
        object.__setattr__(self, "_columns", columns)
        self._check_parents()
        self._check_quorums()

    def _check_quorums(self) -> None:
        for quorum in self.quorums:
            if not 0 < quorum.least <= len(quorum.genes):
                raise SpaceError(
                    f"Of {len(quorum.genes)} genes of the space '{self.name}' {quorum.least} are "
                    "to stay.",
                    "Lower `at_least`, or let its rule match more sites.",
                )
            for index in quorum.genes:
                gene = self.genes[index]
                if index in self._inside or not any(isinstance(o, Drop) for o in gene.options):
                    raise SpaceError(
                        f"`at_least` is set for '{gene.name}', which no gene drops for itself.",
                        "Use it in the rule that drops the outermost sites, such as blocks.",
                    )

    def _check_parents(self) -> None:
        strange = {site for gene in self.genes for site in gene.sites} - set(self.sites)
        if strange:
            raise SpaceError(
                f"The space '{self.name}' has a gene of the site '{min(strange)}', which the "
                "model does not have.",
                "Use the model that the space was made for.",
            )
        for site in self.sites.values():
            if site.units < 1:
                raise SpaceError(
                    f"The site '{site.name}' has {site.units} units.", "A site has at least one."
                )
            seen = {site.name}
            parent = site.parent
            while parent is not None:
                if parent in seen or parent not in self.sites:
                    what = "lies in itself" if parent in seen else f"has no parent '{parent}'"
                    raise SpaceError(
                        f"The site '{site.name}' {what}.", "Mend the family's `sites`."
                    )
                seen.add(parent)
                parent = self.sites[parent].parent

    @property
    def n_var(self) -> int:
        """How many variables a candidate has."""
        return sum(gene.width for gene in self.genes)

    @cached_property
    def upper(self) -> np.ndarray:
        """The largest value of each variable (n_var,)."""
        return np.concatenate(
            [np.full(gene.width, gene.levels - 1, dtype=np.int64) for gene in self.genes]
        )

    @property
    def size(self) -> int:
        """How many arrays of candidates there are; canonical patterns can be fewer."""
        return math.prod(gene.levels**gene.width for gene in self.genes)

    @property
    def size_text(self) -> str:
        """``size`` in four digits, also where it exceeds what a float holds."""
        if self.size < 10**300:
            return f"{self.size:.4g}"
        exponent = math.log10(self.size)
        return f"{10 ** (exponent % 1):.3f}e+{int(exponent)}"

    @property
    def dense(self) -> Pattern:
        """The pattern that removes nothing."""
        return self.pattern(np.zeros(self.n_var, dtype=np.int64))

    def columns(self, gene: int) -> slice:
        """Returns the columns of a gene in an array of candidates."""
        return self._columns[gene]

    def dropped(self, X: np.ndarray) -> np.ndarray:
        """Returns which genes drop their sites, boolean (P, genes + 1); the last column is False.

        ``droppers`` says which columns concern a site.
        """
        columns, drops = self._drops
        found = np.zeros((len(X), len(columns) + 1), dtype=bool)
        found[:, :-1] = drops[np.arange(len(columns)), X[:, columns]]
        return found

    def droppers(self, site: str) -> tuple[int, ...]:
        """Returns the genes that can drop a site or what it lies in."""
        return self._droppers[site]

    @cached_property
    def _drops(self) -> tuple[np.ndarray, np.ndarray]:
        """The first column of each gene (G,), and which of its levels drop its sites (G, L)."""
        drops = np.zeros((len(self.genes), int(self.upper.max()) + 1), dtype=bool)
        for row, gene in zip(drops, self.genes, strict=True):
            row[: len(gene.options)] = [isinstance(option, Drop) for option in gene.options]
        return np.array([columns.start for columns in self._columns], dtype=np.int64), drops

    @cached_property
    def _droppers(self) -> dict[str, tuple[int, ...]]:
        """The genes that can drop each site, its own first, then those of what it lies in."""
        direct: dict[str, list[int]] = {name: [] for name in self.sites}
        for index in np.flatnonzero(self._drops[1].any(axis=1)):
            for site in self.genes[index].sites:
                direct[site].append(int(index))
        found = {}
        for name in self.sites:
            genes, at = list(direct[name]), self.sites[name].parent
            while at is not None:
                genes += direct[at]
                at = self.sites[at].parent
            found[name] = tuple(genes)
        return found

    def alive(self, X: np.ndarray, site: str) -> np.ndarray:
        """Returns which candidates keep a site and all that it lies in, boolean (P,)."""
        alive = np.ones(len(X), dtype=bool)
        columns, drops = self._drops
        for gene in self._droppers[site]:
            alive &= ~drops[gene, X[:, columns[gene]]]
        return alive

    def whole(self, site: str) -> bool:
        """Returns whether no gene cuts a site: it keeps all its units, or is dropped."""
        gene, units = self._width_gene.get(site), self.sites[site].units
        if gene is None:
            return True
        options = [o for o in self.genes[gene].options if not isinstance(o, Drop)]
        return not self.genes[gene].bits and all(_count(o, range(units)) == units for o in options)

    def kept(self, X: np.ndarray, site: str, among: range | None = None) -> np.ndarray:
        """Returns how many units of a site each candidate keeps (P,), 0 where it is dropped.

        Args:
            X: candidates.
            site: the site's name.
            among: which units are counted; all by default.
        """
        among = range(self.sites[site].units) if among is None else among
        cut, gene = self.counts(site, among), self._width_gene.get(site)
        if cut is not None:
            column, counts = cut
            units = counts[X[:, column]]
        elif gene is not None:
            stays = X[:, self._columns[gene]] == 0
            stays[:, 0] |= ~stays.any(axis=1)  # see canonical
            units = stays[:, among.start : among.stop].sum(axis=1)
        else:
            units = np.full(len(X), len(among), dtype=np.int64)
        return np.where(self.alive(X, site), units, 0) if self._droppers[site] else units

    def counts(self, site: str, among: range) -> tuple[int, np.ndarray] | None:
        """Returns the column whose level cuts a site, and how many units each level keeps.

        None where no gene cuts it, or one of bits does.

        Args:
            site: the site's name.
            among: which of its units are counted.
        """
        gene = self._width_gene.get(site)
        if gene is None or self.genes[gene].bits:
            return None
        key = gene, among.start, among.stop
        if key not in self._counted:
            counts = [_count(option, among) for option in self.genes[gene].options]
            self._counted[key] = np.array(counts, dtype=np.int64)
        return self._columns[gene].start, self._counted[key]

    @cached_property
    def _counted(self) -> dict[tuple[int, int, int], np.ndarray]:
        return {}

    @cached_property
    def _width_gene(self) -> dict[str, int]:
        return {site: i for i, gene in enumerate(self.genes) for site in gene.sites}

    def canonical(self, X: np.ndarray) -> np.ndarray:
        """Returns a copy of ``X`` (P, n_var) in which whatever lies under a dropped parent is 0.

        A gene of bits always keeps a unit, its first if all are removed: what reads none is no
        network. To remove a whole site, give the space a gene that drops it. Where too few genes
        of a quorum stay, the first of those that go come back.
        """
        X = np.array(X, dtype=np.int64, copy=True).reshape(-1, self.n_var)
        for quorum in self.quorums:
            self._bring_back(X, quorum)
        for index in self._outer_first:
            columns = self._columns[index]
            if index in self._inside:
                X[self._covered(X, index), columns] = 0
            if self.genes[index].bits:
                X[(X[:, columns] == 1).all(axis=1), columns.start] = 0
        return X

    def _bring_back(self, X: np.ndarray, quorum: Quorum) -> None:
        """Keeps, in place, as many of a quorum's genes as it asks for."""
        columns, drops = self._drops
        genes = np.array(quorum.genes)
        at = columns[genes]
        gone = drops[genes, X[:, at]]  # (P, genes of the quorum)
        missing = quorum.least - (~gone).sum(axis=1, keepdims=True)
        X[:, at] = np.where(gone & (gone.cumsum(axis=1) <= missing), 0, X[:, at])

    @cached_property
    def corners(self) -> np.ndarray:
        """The dense candidate and the one that removes all it can (2, n_var)."""
        return self.canonical(np.stack([np.zeros_like(self.upper), self.upper]))

    def _covered(self, X: np.ndarray, gene: int) -> np.ndarray:
        """Returns which candidates drop what all sites of a gene lie in, boolean (P,)."""
        covered = np.ones(len(X), dtype=bool)
        for site in self.genes[gene].sites:
            parent = self.sites[site].parent
            covered &= ~self.alive(X, parent) if parent else np.zeros(len(X), dtype=bool)
        return covered

    def covered(self, X: np.ndarray) -> np.ndarray:
        """Returns which variables of canonical candidates mean nothing, boolean (P, n_var)."""
        found = np.zeros(X.shape, dtype=bool)
        for index in self._inside:
            found[self._covered(X, index), self._columns[index]] = True
        return found

    @cached_property
    def _inside(self) -> frozenset[int]:
        """Genes all of whose sites lie in something that a gene can drop."""
        parents = {
            i: [self.sites[site].parent for site in g.sites] for i, g in enumerate(self.genes)
        }
        return frozenset(
            index
            for index, found in parents.items()
            if all(parent is not None and self._droppers[parent] for parent in found)
        )

    @cached_property
    def _outer_first(self) -> list[int]:
        """Genes by depth of their sites: a parent must be canonical before what lies in it."""

        def depth(site: str | None) -> int:
            return 0 if site is None else 1 + depth(self.sites[site].parent)

        order = range(len(self.genes))
        return sorted(order, key=lambda i: min(depth(site) for site in self.genes[i].sites))

    def pattern(self, x: np.ndarray) -> Pattern:
        """Returns the canonical pattern of one candidate (n_var,)."""
        return self.patterns(np.asarray(x).reshape(1, -1))[0]

    def patterns(self, X: np.ndarray) -> list[Pattern]:
        """Returns the canonical patterns of candidates (P, n_var)."""
        made = []
        for row in self.canonical(X):
            choices: list[int | bytes] = []
            for gene, columns in zip(self.genes, self._columns, strict=True):
                if gene.bits:
                    choices.append(np.packbits(row[columns].astype(bool)).tobytes())
                else:
                    choices.append(int(row[columns.start]))
            made.append(Pattern(tuple(choices)))
        return made

    def encode(self, patterns: Iterable[Pattern]) -> np.ndarray:
        """Returns patterns as an array of candidates (P, n_var).

        Raises:
            SpaceError: a pattern belongs to another space.
        """
        rows = []
        for pattern in patterns:
            if len(pattern.choices) != len(self.genes):
                raise SpaceError(
                    f"The pattern {pattern.id} has {len(pattern.choices)} choices, the space "
                    f"'{self.name}' has {len(self.genes)} genes.",
                    "Use the space that the pattern was made in.",
                )
            row = np.zeros(self.n_var, dtype=np.int64)
            for gene, columns, choice in zip(
                self.genes, self._columns, pattern.choices, strict=True
            ):
                packed = (gene.bits + 7) // 8
                if packed != (len(choice) if isinstance(choice, bytes) else 0):
                    raise SpaceError(
                        f"The pattern {pattern.id} does not fit the gene '{gene.name}'.",
                        "Use the space that the pattern was made in.",
                    )
                row[columns] = unpack(choice, gene.bits) if isinstance(choice, bytes) else choice
            rows.append(row)
        X = np.array(rows, dtype=np.int64).reshape(len(rows), self.n_var)
        if ((X < 0) | (self.upper < X)).any():
            raise SpaceError(
                "A pattern names a level that its gene does not have.",
                "Use the space that the pattern was made in.",
            )
        return X

    def options(self, pattern: Pattern) -> dict[str, Option]:
        """Returns the option of every site that the pattern does not leave whole.

        Sites that lie in a dropped site are left out.
        """
        X = self.encode([pattern])
        found: dict[str, Option] = {}
        for gene, choice in zip(self.genes, pattern.choices, strict=True):
            for site in gene.sites:
                parent = self.sites[site].parent
                if parent and not self.alive(X, parent)[0]:
                    continue
                if isinstance(choice, int):
                    option = gene.options[choice]
                    whole = option == Keep(self.sites[site].units)
                else:
                    option = Bits.of(~unpack(choice, gene.bits))
                    whole = option.count == gene.bits
                if not whole:
                    found[site] = option
        return found

    def to_json(self) -> dict[str, Any]:
        """Returns the space as JSON."""
        quorums = [[list(quorum.genes), quorum.least] for quorum in self.quorums]
        # Left out where there is none, so that digests of spaces without stay what they were.
        return ({"quorums": quorums} if quorums else {}) | {
            "name": self.name,
            "sites": [[s.name, s.kind, s.units, s.parent] for s in self.sites.values()],
            "genes": [
                {
                    "name": gene.name,
                    "sites": list(gene.sites),
                    "bits": gene.bits,
                    "options": [option.to_json() for option in gene.options],
                }
                for gene in self.genes
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Space":
        """Returns the space that ``to_json`` wrote."""
        sites = [Site(*row) for row in data["sites"]]
        for name, count in Counter(site.name for site in sites).items():
            if count > 1:
                raise SpaceError(f"The site '{name}' stands {count} times.", "Name each site once.")
        genes = tuple(
            Gene(
                gene["name"],
                tuple(gene["sites"]),
                tuple(option_from_json(option) for option in gene["options"]),
                gene["bits"],
            )
            for gene in data["genes"]
        )
        quorums = tuple(Quorum(tuple(of), least) for of, least in data.get("quorums", ()))
        return cls({site.name: site for site in sites}, genes, data["name"], quorums)

    @property
    def digest(self) -> str:
        """A hash of sites and genes."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()


def _count(option: Option, among: range) -> int:
    """Returns how many of these units an option keeps."""
    if isinstance(option, Drop):
        return 0
    if isinstance(option, Keep):
        return min(max(option.units - among.start, 0), len(among))
    return int(option.mask[among.start : among.stop].sum())
