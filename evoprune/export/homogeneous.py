"""The first rung: a smaller model of the base's own class, which loads without evoprune."""

from typing import TYPE_CHECKING, Any

from evoprune.core.errors import ExportError
from evoprune.core.export_rungs import UnfitError, equal_widths
from evoprune.export.subject import ExportSubject

if TYPE_CHECKING:
    import torch


def shrink(subject: ExportSubject) -> Any:
    """Returns the smaller model of a homogeneous pattern.

    Raises:
        UnfitError: the class of the model does not accept such a configuration.
        ExportError: the model does not have the parameters that the cost table counts.
    """
    model = subject.rebuild(smaller_config(subject), smaller_state(subject))
    check_params(subject, model)
    return model


def check_params(subject: ExportSubject, model: Any) -> None:
    """Checks that a smaller model has the parameters that the cost table counts.

    Raises:
        ExportError: it has more or fewer.
    """
    held, counted = sum(p.numel() for p in model.parameters()), subject.expected_params()
    if held != counted:
        raise ExportError(
            f"The smaller model has {held:,} parameters, the cost table counts {counted:,}.",
            "Report this: the family's cost table does not describe the model.",
        )


def smaller_config(subject: ExportSubject) -> Any:
    """Returns the configuration of the smaller model.

    Raises:
        UnfitError: the class of the model does not accept it, or lacks what a recovery adds.
    """
    if subject.new:
        raise UnfitError(
            f"The recovery adds {len(subject.new)} tensors such as '{subject.new[0]}', "
            f"which {type(subject.model).__name__} does not have."
        )
    config = subject.family.keep_blocks(subject.model.config, subject.kept)
    widths = equal_widths(subject.space, subject.pattern)
    why = subject.family.refusal(config, widths)
    if why:
        raise UnfitError(why)
    return subject.family.narrow(config, widths)


def smaller_state(subject: ExportSubject) -> dict[str, "torch.Tensor"]:
    """Returns the tensors that stay, cut, under the names that they have in the smaller model."""
    held = subject.model.state_dict()
    rows = {
        row.name: row
        for row in subject.table.tensors()
        if not subject.realised.gone(row, subject.parents)
    }
    found = {}
    names = dict.fromkeys([*rows, *subject.buffers(), *subject.added])
    for new, old in subject.family.block_tensors(subject.model, subject.kept, names).items():
        tensor = subject.added[old] if old in subject.added else held[old]
        if old in rows and old not in subject.added:
            tensor = subject.realised.cut(tensor, rows[old])
        found[new] = tensor.contiguous()
    return found
