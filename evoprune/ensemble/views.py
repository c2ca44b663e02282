"""Members of a language model as models of transformers that hold views of one base."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evoprune.config.parts import build as make
from evoprune.config.sections import Part
from evoprune.core.costs import CostTable
from evoprune.core.errors import ModelError
from evoprune.core.export_rungs import UnfitError, kept_blocks
from evoprune.core.pattern import Pattern
from evoprune.core.registry import ADAPTS, FAMILIES
from evoprune.core.space import Space
from evoprune.ensemble.ensemble import Ensemble
from evoprune.evaluation.rank import ADAPT_FILE
from evoprune.evaluation.realise import Realised, Realiser
from evoprune.evaluation.worker import cost_table
from evoprune.export.heterogeneous import differ
from evoprune.export.subject import ExportSubject


@dataclass(frozen=True)
class Built:
    """Models that share memory.

    Attributes:
        base: the dense model.
        family: what takes it apart.
        members: in the order of the ensemble's.
    """

    base: Any
    family: Any
    members: tuple[Any, ...]


def build(ensemble: Ensemble, folder: Path, device: str = "cpu") -> Built:
    """Returns the members of an ensemble on one base.

    Args:
        ensemble: which.
        folder: with the base's config.json and base.safetensors.
        device: where all of it is put.

    Raises:
        ModelError: the base cannot be read, or there is no class whose layers could differ so.
    """
    origin = ensemble.origin
    family = FAMILIES.load(origin["family"])()
    base = family.read(folder, origin["dtype"], "cpu", origin["trust_remote_code"])
    space = Space.from_json(origin["space"])
    table = cost_table(family, base, 1, origin["adapt"])
    realiser = Realiser(base, table, _recovery(origin["adapt"], folder))
    made = []
    for member in ensemble.members:
        pattern = Pattern.from_json(member.pattern)  # type: ignore[arg-type]
        subject = _subject((base, family), space, pattern, realiser)
        made.append((_model(subject), subject))
    base.to(device)
    for model, subject in made:
        _share(model.to(device), subject)
    return Built(base, family, tuple(model for model, _ in made))


def _recovery(adapt: Any, folder: Path) -> Any:
    """Returns the recovery with what it stored; None without one."""
    from safetensors.numpy import load_file

    if adapt is None:
        return None
    path = folder / ADAPT_FILE
    return make(ADAPTS, Part.model_validate(dict(adapt))), load_file(path) if path.is_file() else {}


def _subject(
    base: tuple[Any, Any], space: Space, pattern: Pattern, realiser: Realiser
) -> ExportSubject:
    model, family = base
    table: CostTable = family.table(model, 1)
    realised = Realised.of(space.options(pattern))
    parents = {site.name: site.parent for site in space.sites.values()}
    added = realiser.delta(realised)
    return ExportSubject(model, family, table, space, pattern, realised, parents, added)


def _model(subject: ExportSubject) -> Any:
    try:
        return differ(subject)
    except UnfitError as error:
        raise ModelError(
            f"The member {subject.pattern.id} cannot be built: {error}",
            "Export it by itself instead.",
        ) from error


def _share(made: Any, subject: ExportSubject) -> None:
    """Puts views of the base in the place of a member's copies, where units are a prefix."""
    held = dict(subject.model.named_parameters())
    rows = {row.name: row for row in subject.table.tensors()}
    kept = kept_blocks(subject.space, subject.pattern)
    names = subject.family.block_tensors(subject.model, kept, list(held))
    for name, parameter in made.named_parameters():
        old = names.get(name)
        if old in held and old not in subject.added:
            whole = held[old].data
            parameter.data = subject.realised.cut(whole, rows[old]) if old in rows else whole
