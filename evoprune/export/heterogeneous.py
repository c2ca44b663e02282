"""The second rung: a smaller model whose layers differ, with the file that builds it beside it."""

from collections.abc import Mapping
from typing import Any

from evoprune.core.export_rungs import UnfitError, block_widths
from evoprune.export.homogeneous import check_params, smaller_state
from evoprune.export.subject import ExportSubject


def differ(subject: ExportSubject) -> Any:
    """Returns the smaller model of a pattern, of a class of its own.

    Its ``save_pretrained`` writes the modelling file too.

    Raises:
        UnfitError: no class can be made of the base's.
        ExportError: the model does not have the parameters that the cost table counts.
    """
    from evoprune.export import modeling_evoprune

    stock = _stock_classes(subject)
    config_class, model_class = (
        getattr(modeling_evoprune, modeling_evoprune.PREFIX + name) for name in stock
    )
    kept = subject.kept
    config = subject.family.keep_blocks(subject.model.config, kept).to_dict()
    config["per_layer_config"] = layer_overrides(subject, kept)
    # Absent tensors are empty ones in the base's terms: of no heads there is no projection.
    state = {name: tensor for name, tensor in smaller_state(subject).items() if tensor.numel()}
    model = subject.rebuild(config_class.from_dict(config), state, model_class)
    check_params(subject, model)
    return model


def layer_overrides(subject: ExportSubject, kept: list[int]) -> dict[str, Mapping[str, Any]]:
    """Returns what each layer that is unlike the base's says of itself, by its new number.

    Raises:
        UnfitError: the recovery adds something that is no bias.
    """
    odd = [name for name in subject.new if not name.endswith(".bias")]
    if odd:
        raise UnfitError(f"The recovery adds '{odd[0]}', and only added biases can be exported.")
    found = {}
    for number, block in enumerate(kept):
        widths, gone = block_widths(subject.space, subject.pattern, block)
        here = set(subject.family.block_tensors(subject.model, [block], subject.new).values())
        said = subject.family.layer_override(subject.model.config, widths, gone, here)
        if said:
            found[str(number)] = said
    return found


def _stock_classes(subject: ExportSubject) -> tuple[str, str]:
    """Returns the names of the configuration and model classes in transformers.

    Raises:
        UnfitError: they are not there, or not of the kind that the modelling file builds upon.
    """
    import transformers

    if not hasattr(subject.family, "layer_override"):
        raise UnfitError(f"The family '{subject.family.name}' has no layers that could differ.")
    names = type(subject.model.config).__name__, type(subject.model).__name__
    for name, thing in zip(names, (subject.model.config, subject.model), strict=True):
        if getattr(transformers, name, None) is not type(thing):
            raise UnfitError(f"'{name}' is no class of transformers, so layers cannot differ.")
    if not hasattr(subject.model.config, "hidden_act"):
        raise UnfitError(f"'{names[0]}' names no hidden_act, so stock classes could not refuse.")
    return names


def layer_table(subject: ExportSubject) -> list[dict[str, str]]:
    """Returns a row for each layer: its number, that in the base, and what it keeps."""
    space, pattern = subject.space, subject.pattern
    rows = []
    for number, block in enumerate(subject.kept):
        widths, gone = block_widths(space, pattern, block)
        row = {"layer": str(number), "in the base": str(block)}
        for kind, (units, parents) in _units(subject, block).items():
            dropped = bool(parents & gone)
            row[kind] = "–" if dropped else f"{widths.get(kind, units):,} of {units:,}"
        new = subject.family.block_tensors(subject.model, [block], subject.new).values()
        if subject.new:
            row["added biases"] = ", ".join(sorted(n.split(".")[-2] for n in new)) or "none"
        rows.append(row)
    return rows


def _units(subject: ExportSubject, block: int) -> dict[str, tuple[int, set[str]]]:
    """Returns a block's units by kind, and in what kinds of site they lie."""
    sites = subject.space.sites
    name = [site.name for site in sites.values() if site.kind == "block"][block]
    found: dict[str, tuple[int, set[str]]] = {}
    for site in sites.values():
        at, parents = site.parent, set()
        while at is not None and at != name:
            parents.add(sites[at].kind)
            at = sites[at].parent
        if at == name and parents:
            found[site.kind] = (site.units, parents)
    return found
