"""From what a space file says to genes over a model's sites."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from evoprune.core.errors import SpaceError, did_you_mean
from evoprune.core.pattern import Drop, Keep, Option
from evoprune.core.space import Gene, Quorum, Site, Space


@dataclass(frozen=True)
class GeneSpec:
    """One rule of a space file: which sites become genes, and with which options.

    Attributes:
        kind: the kind of site (``evoprune ls sites`` lists a model's).
        drop: whether the whole site may be removed.
        at_least: how many of the rule's genes keep their sites, whatever else goes.
        keep: shares of the units that may be kept, such as ``[0.75, 0.5]``; all is always offered.
        round_to: counts of kept units are rounded to a multiple of this.
        bits: give every unit a bit of its own instead of options.
        include: globs (or ``re:`` patterns) of site names; others are left dense.
        exclude: globs (or ``re:`` patterns) of site names that are left dense.
        tie: globs; the sites that one glob matches share one gene.
    """

    kind: str
    drop: bool = False
    at_least: int = 0
    keep: tuple[float, ...] = ()
    round_to: int = 1
    bits: bool = False
    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    tie: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if any(not 0 < share <= 1 for share in self.keep):
            raise ValueError(f"keep is {list(self.keep)}; shares lie in (0, 1]")
        if self.round_to < 1:
            raise ValueError(f"round_to is {self.round_to}; it must be at least 1")
        if self.at_least < 0:
            raise ValueError(f"at_least is {self.at_least}; it must be at least 0")
        if self.at_least and not self.drop:
            raise ValueError("at_least needs drop: without it every site stays")
        if self.bits and (self.drop or self.keep):
            raise ValueError("bits stands alone: a rule with it has no drop and no keep")


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Returns whether any glob, or regular expression after ``re:``, matches the whole name.

    Raises:
        SpaceError: a regular expression cannot be read.
    """
    for pattern in patterns:
        if not pattern.startswith("re:"):
            if fnmatchcase(name, pattern):
                return True
            continue
        try:
            if re.fullmatch(pattern[3:], name):
                return True
        except re.error as error:
            raise SpaceError(
                f"'{pattern}' is not a regular expression: {error}.", "Mend it or use a glob."
            ) from error
    return False


def build_space(
    name: str,
    sites: Sequence[Site],
    specs: Sequence[GeneSpec],
    include: Sequence[str] = ("*",),
    exclude: Sequence[str] = (),
) -> Space:
    """Returns the space that the rules make over a model's sites.

    Raises:
        SpaceError: a rule names an unknown kind, a glob matches nothing, or no gene remains.
    """
    kinds = {site.kind for site in sites}
    genes: list[Gene] = []
    quorums: list[Quorum] = []
    for spec in specs:
        if spec.kind not in kinds:
            raise SpaceError(
                f"The model has no sites of kind '{spec.kind}'.", did_you_mean(spec.kind, kinds)
            )
        of_kind = [site for site in sites if site.kind == spec.kind]
        _check_globs(of_kind, spec)
        chosen = [
            site
            for site in of_kind
            if matches(site.name, include)
            and matches(site.name, spec.include)
            and not matches(site.name, exclude)
            and not matches(site.name, spec.exclude)
        ]
        made = _genes(chosen, spec)
        if spec.at_least:
            first = len(genes)
            quorums.append(Quorum(tuple(range(first, first + len(made))), spec.at_least))
        genes += made
    return Space({site.name: site for site in sites}, tuple(genes), name, tuple(quorums))


def _check_globs(of_kind: Sequence[Site], spec: GeneSpec) -> None:
    names = [site.name for site in of_kind]
    for pattern in (*spec.include, *spec.exclude, *spec.tie):
        if not any(matches(name, [pattern]) for name in names):
            raise SpaceError(
                f"'{pattern}' matches none of the {len(names)} sites of kind '{spec.kind}'.",
                did_you_mean(pattern, names[:50]),
            )


def _genes(sites: Sequence[Site], spec: GeneSpec) -> list[Gene]:
    """Returns one gene a site, or one for each group of tied sites."""
    groups: list[list[Site]] = []
    tied: dict[str, list[Site]] = {}
    for site in sites:
        glob = next((glob for glob in spec.tie if matches(site.name, [glob])), None)
        if glob is None:
            groups.append([site])
        elif glob in tied:
            tied[glob].append(site)
        else:
            tied[glob] = [site]
            groups.append(tied[glob])
    made = []
    for group in groups:
        units = {site.units for site in group}
        if len(units) > 1:
            raise SpaceError(
                f"Sites with {sorted(units)} units cannot be tied.", "Tie sites of one size."
            )
        label = group[0].name if len(group) == 1 else f"{group[0].name}+{len(group) - 1}"
        names = tuple(site.name for site in group)
        if spec.bits and units == {1}:
            raise SpaceError(
                f"Sites of kind '{spec.kind}' have one unit, so bits say nothing of it.",
                "Write `drop: true` instead of `bits: true`.",
            )
        if spec.bits:
            made.append(Gene(label, names, bits=group[0].units))
        else:
            options = _options(group[0], spec)
            if len(options) > 1:
                made.append(Gene(label, names, options))
    return made


def _options(site: Site, spec: GeneSpec) -> tuple[Option, ...]:
    """Returns the options of a site, the dense one first, then fewer and fewer units."""
    if spec.drop and site.units > 1:
        raise SpaceError(
            f"'drop' is set for the {site.units} {site.kind} of '{site.name}'.",
            f"Drop the site that they lie in, '{site.parent}', instead.",
        )
    counts = {site.units}
    for share in spec.keep:
        rounded = round(share * site.units / spec.round_to) * spec.round_to
        counts.add(min(max(rounded, min(spec.round_to, site.units)), site.units))
    options: list[Option] = [Keep(count) for count in sorted(counts, reverse=True)]
    return (*options, Drop()) if spec.drop else tuple(options)
