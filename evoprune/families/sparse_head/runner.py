"""Fits heads and measures them, many candidates at a time."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from evoprune.core.metrics import Table
from evoprune.core.networks import GivenLogits
from evoprune.core.pattern import Bits, Drop, Keep, Option
from evoprune.data.examples import Examples, Pass
from evoprune.families.sparse_head.fit import Settings, feature_scale, fit, logits
from evoprune.families.sparse_head.heads import Fitted, Masks
from evoprune.families.sparse_head.network import HeadNetwork
from evoprune.families.sparse_head.recipe import fit_recipe
from evoprune.families.stages import batch_of
from evoprune.tasks.outputs import PatternLogits


class HeadRunner:
    """The runner of the family ``sparse_head``.

    Args:
        network: with its training examples attached.
        task: what is measured of the logits.
    """

    batch = 16
    # The backbone is the same for all candidates, and reads the same images.
    shared: tuple[str, ...] = ("backbone.",)
    frozen: tuple[str, ...] = ("backbone.",)

    def __init__(self, network: HeadNetwork, task: Any) -> None:
        self.network, self.task = network, task
        self._scale = feature_scale(network.training_features)

    def reference(
        self, examples: Examples, boundaries: Mapping[str, Sequence[int]] | None = None
    ) -> Examples:
        """Returns the examples as they are: nothing of the dense head's outputs is needed."""
        return examples

    def tables(
        self,
        options: Sequence[Mapping[str, Option]],
        examples: Examples,
        boundaries: Mapping[str, Sequence[int]] | None = None,
    ) -> list[dict[str, Table] | Exception]:
        """Returns the tables of each pattern, or the exception that it raised."""
        found: list[dict[str, Table] | Exception] = []
        try:
            fitted = self.fit(options)
            by_pass = {
                name: logits(fitted, one.arrays["features"] / self._scale)
                for name, one in examples.passes.items()
            }
        except Exception as error:  # whatever a fit may raise, of one mask or of all
            if len(options) == 1:
                return [error]
            # Alone each fails or not by itself, whoever shared the batch.
            return [self.tables([one], examples, boundaries)[0] for one in options]
        for candidate in range(len(options)):
            made = {}
            for name, one in examples.passes.items():
                outputs = GivenLogits(torch.from_numpy(by_pass[name][candidate]))
                columns = self.task.measure(outputs, batch_of(one.arrays, slice(None), "cpu"))
                made[name] = Table(dict(sorted(columns.items())), one.groups)
            found.append(made)
        return found

    def outputs(
        self, options: Sequence[Mapping[str, Option]], examples: Examples
    ) -> Iterator[PatternLogits]:
        """Yields the logits of all patterns, a pass at a time."""
        fitted = self.fit(options)
        for name, one in examples.passes.items():
            found = torch.from_numpy(logits(fitted, one.arrays["features"] / self._scale))
            labels = one.arrays.get("labels")
            known = {} if labels is None else {"target": torch.from_numpy(labels)}
            yield PatternLogits(name, torch.arange(len(one)), found, known)

    def embedding(self, one: Pass) -> np.ndarray:
        """Returns the features (N, D)."""
        return np.asarray(one.arrays["features"], dtype=np.float64)

    def states(self, options: Sequence[Mapping[str, Option]]) -> list[dict[str, torch.Tensor]]:
        """Returns for each pattern its fitted head: what ``heads.forward`` takes, and beside it
        ``features``, the indices that it reads, and ``scale``, which divides them.
        """
        fitted = self.fit(options)
        found = []
        for i, keep in enumerate(fitted.keeps):
            scale = torch.tensor(self._scale, dtype=torch.float64)
            reads = torch.from_numpy(keep.features)
            found.append({**fitted.state(i), "features": reads, "scale": scale})
        return found

    def fit(self, options: Sequence[Mapping[str, Option]]) -> Fitted:
        """Returns the heads of patterns, fitted from the one initialisation."""
        network = self.network
        architecture, settings = network.architecture, dict(network.fit_options)
        names = ["features", *(f"hidden.{i}" for i in range(len(architecture.hidden)))]
        widths = [architecture.features, *architecture.hidden]
        layers = [
            np.stack([_mask(one.get(name), width) for one in options])
            for name, width in zip(names, widths, strict=True)
        ]
        masks = Masks(layers[0], tuple(layers[1:]))
        features = network.training_features / self._scale
        if settings.pop("fit", "solve") == "recipe":
            return fit_recipe(features, network.training_labels, masks, architecture)
        return fit(features, network.training_labels, masks, architecture, Settings(**settings))


def _mask(option: Option | None, units: int) -> np.ndarray:
    """Returns which units an option keeps, boolean (units,)."""
    if option is None:
        return np.ones(units, dtype=bool)
    if isinstance(option, Bits):
        return option.mask
    if isinstance(option, Keep):
        return np.arange(units) < option.units
    assert isinstance(option, Drop)
    return np.zeros(units, dtype=bool)
