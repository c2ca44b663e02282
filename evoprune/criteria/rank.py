"""Brings the units of a network into the order of their rank, so that any count is a prefix."""

from collections.abc import Mapping

import numpy as np

from evoprune.core.costs import entries
from evoprune.criteria.subject import Subject


def permute(subject: Subject, orders: Mapping[str, np.ndarray]) -> None:
    """Reorders the units of sites in all coupled tensors of the model, in place.

    The network's function stays the same but for the order of summation.

    Args:
        subject: the network.
        orders: for each site its units in their new order (units,).
    """
    import torch

    for row in subject.table.tensors():
        for axis, dim in enumerate(row.dims):
            if not any(part.site in orders for part in dim):
                continue
            tensor = subject.tensor(row)
            index = torch.from_numpy(entries(dim, orders)).to(tensor.device)
            tensor.data = tensor.data.index_select(axis, index)
