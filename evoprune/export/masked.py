"""The last rung: the base's own shapes with zeros in them. It loads anywhere and saves nothing."""

from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune.core.costs import Row
from evoprune.core.export_rungs import UnfitError
from evoprune.evaluation.realise import entries
from evoprune.export.subject import ExportSubject

if TYPE_CHECKING:
    import torch


def mask(subject: ExportSubject) -> Any:
    """Returns a model of the base's shapes that computes what the realised pattern computes.

    Raises:
        UnfitError: the recovery adds tensors that the base's class does not have.
    """
    if subject.new:
        raise UnfitError(f"{type(subject.model).__name__} has no tensor '{subject.new[0]}'.")
    held = subject.model.state_dict()
    silent = {
        tensor for site in subject.realised.dropped for tensor in subject.family.silence(site)
    }
    state = dict(subject.buffers())
    for row in subject.table.tensors():
        whole = held[row.name]
        state[row.name] = whole.new_zeros(whole.shape) if row.name in silent else whole
        if row.name not in silent and not subject.realised.gone(row, subject.parents):
            state[row.name] = _without_units(whole, row, subject)
    state.update(subject.added)
    return subject.rebuild(subject.model.config, state)


def _without_units(tensor: "torch.Tensor", row: Row, subject: ExportSubject) -> "torch.Tensor":
    """Returns a row's tensor with zeros for the units that a pattern removes."""
    import torch

    kept = subject.realised.kept
    for axis, dim in enumerate(row.dims):
        if any(part.site in kept for part in dim):
            gone = np.setdiff1d(np.arange(tensor.shape[axis]), entries(dim, kept))
            tensor = tensor.index_fill(axis, torch.from_numpy(gone), 0.0)
    return tensor
