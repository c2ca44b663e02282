"""The family of perceptrons: ``nn.Sequential`` of Linear, ReLU, Linear … Linear."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from evoprune.core.costs import CostTable, Extent, Row, fixed, of_site
from evoprune.core.errors import ModelError
from evoprune.core.metrics import Table
from evoprune.core.networks import GivenLogits
from evoprune.core.pattern import Option
from evoprune.core.space import Site
from evoprune.data.examples import Examples, Pass
from evoprune.data.image_pool import ImagePool
from evoprune.evaluation.realise import Realiser
from evoprune.evaluation.runner import NO_BOUNDARIES
from evoprune.families.stages import batch_of, batches
from evoprune.tasks.outputs import PatternLogits


class Mlp:
    """The family ``mlp``: hidden neurons are kept or removed."""

    name = "mlp"
    loader = "factory"

    def adopt(self, loaded: Any, settings: Any) -> Any:
        """Returns a perceptron in the dtype that is asked for; anything else as it is."""
        return loaded.to(getattr(torch, settings.dtype)) if self.fits(loaded) else loaded

    def fits(self, model: Any) -> bool:
        """Returns whether the model is a perceptron with a hidden layer."""
        if not isinstance(model, nn.Sequential) or len(model) < 3 or len(model) % 2 == 0:
            return False
        kinds = [nn.Linear if i % 2 == 0 else nn.ReLU for i in range(len(model))]
        return all(type(part) is kind for part, kind in zip(model, kinds, strict=True))

    def processor(self, settings: Any) -> None:
        """Images need no processor."""

    def check(self, model: nn.Sequential, pools: Mapping[str, ImagePool], device: str) -> None:
        """Checks that the model reads the images and knows their classes.

        Raises:
            ModelError: it does not.
        """
        size, classes = model[0].in_features, model[-1].out_features
        pixels = int(np.prod(pools["search"].images.shape[1:]))
        known = 1 + max(int(pool.labels.max()) for pool in pools.values())
        if pixels != size or known > classes:
            raise ModelError(
                f"The perceptron reads {size} values and knows {classes} classes, the images have "
                f"{pixels} values and {known} classes.",
                "Give it its own data.",
            )

    def embed(self, model: nn.Sequential, pool: ImagePool, device: str) -> np.ndarray:
        """Returns what the last layer reads (N, D)."""
        return _features(model, _flat(pool.images), device)

    def examples(
        self, model: nn.Sequential, pool: ImagePool, groups: np.ndarray, device: str
    ) -> Examples:
        """Returns the images of a pool, flat, and of what lies outside it."""
        count = len(pool)
        arrays = {"inputs": _flat(pool.images), "labels": pool.labels}
        passes = {"clean": Pass(arrays, groups, np.ones(count, dtype=np.int64))}
        for name, images in pool.outside.items():
            zeros, ones = (make(len(images), dtype=np.int64) for make in (np.zeros, np.ones))
            passes[name] = Pass({"inputs": _flat(images)}, zeros, ones)
        return Examples(passes)

    def write(self, model: nn.Sequential, folder: Path, training: Examples | None = None) -> None:
        """Writes the base."""
        folder.mkdir(parents=True, exist_ok=True)
        widths = [model[0].in_features, *(part.out_features for part in model[::2])]
        (folder / "config.json").write_text(json.dumps({"widths": widths}), encoding="utf-8")
        tensors = {name: tensor.data.contiguous() for name, tensor in model.named_parameters()}
        save_file(tensors, folder / "base.safetensors")

    def read(self, folder: Path, dtype: str, device: str, trust_remote_code: bool = False) -> Any:
        """Returns the model of a base, its tensors mapped."""
        widths = json.loads((folder / "config.json").read_text(encoding="utf-8"))["widths"]
        with torch.device("meta"):
            layers = [part for pair in pairwise(widths) for part in (nn.Linear(*pair), nn.ReLU())]
        model = nn.Sequential(*layers[:-1])
        model.load_state_dict(load_file(folder / "base.safetensors"), assign=True)
        kind = getattr(torch, dtype)
        return model.to(device=device, dtype=kind).eval().requires_grad_(False)

    def sites(self, model: nn.Sequential) -> list[Site]:
        """Returns the neurons of each hidden layer."""
        hidden = model[:-1:2]
        return [Site(f"layers.{i}", "neurons", part.out_features) for i, part in enumerate(hidden)]

    def table(self, model: nn.Sequential, context: int = 1) -> CostTable:
        """Returns the cost table; FLOPs are per image."""
        size = model[0].weight.element_size()
        rows = []
        before = fixed(model[0].in_features)
        for i, part in enumerate(model[::2]):
            last = 2 * i == len(model) - 1
            width = part.out_features
            after: tuple[Extent, ...] = fixed(width) if last else of_site(f"layers.{i}", width)
            weights = {"params": 1.0, "bytes": float(size)}
            multiplied = {**weights, "flops": 2.0}
            rows.append(Row(f"{2 * i}.weight", (after, before), weights=multiplied))
            rows.append(Row(f"{2 * i}.bias", (after,), weights=weights))
            before = after
        return CostTable(tuple(rows))

    def runner(self, model: nn.Sequential, task: Any, device: str) -> "MlpRunner":
        """Returns what measures patterns."""
        return MlpRunner(model, task, Realiser(model, self.table(model)), device)

    def runs(self, model: nn.Sequential, task: Any, examples: Examples, device: str) -> Any:
        """Returns a function that runs the dense model over the examples, for criteria."""

        def run() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            clean = examples.clean.arrays
            for rows in batches(len(examples), WIDTH):
                inputs = _tensor(model, clean["inputs"][rows], device)
                labels = torch.from_numpy(clean["labels"][rows]).to(device)
                loss = nn.functional.cross_entropy(model(inputs), labels, reduction="sum")
                yield loss, torch.ones(len(labels), dtype=torch.bool)

        return run


# An image counts like so many tokens: the batches are of 64 images.
WIDTH = 32


class MlpRunner:
    """Runs one pattern after another, in batches whose shapes never depend on the pattern."""

    batch = 1
    shared: tuple[str, ...] = ("",)
    frozen: tuple[str, ...] = ()

    def __init__(self, model: nn.Sequential, task: Any, realiser: Realiser, device: str) -> None:
        self.model, self.task, self.realiser, self.device = model, task, realiser, device

    def reference(
        self, examples: Examples, boundaries: Mapping[str, Sequence[int]] = NO_BOUNDARIES
    ) -> Examples:
        """Returns the examples as they are: nothing of the dense outputs is needed."""
        return examples

    def tables(
        self,
        options: Sequence[Mapping[str, Option]],
        examples: Examples,
        boundaries: Mapping[str, Sequence[int]] = NO_BOUNDARIES,
    ) -> list[dict[str, Table] | Exception]:
        """Returns the tables of each pattern, or the exception that it raised."""
        found: list[dict[str, Table] | Exception] = []
        for pattern in options:
            try:
                with self.realiser.apply(pattern):
                    found.append(
                        {
                            name: self._table(one, boundaries.get(name, ()))
                            for name, one in examples.passes.items()
                        }
                    )
            except Exception as error:
                found.append(error)
        return found

    def _table(self, one: Pass, boundaries: Sequence[int]) -> Table:
        outputs = GivenLogits(self._logits(one, boundaries))
        columns = self.task.measure(outputs, batch_of(one.arrays, slice(None), "cpu"))
        return Table(dict(sorted(columns.items())), one.groups)

    def _logits(self, one: Pass, boundaries: Sequence[int] = ()) -> torch.Tensor:
        found = []
        with torch.inference_mode():
            for rows in batches(len(one), WIDTH, boundaries):
                inputs = _tensor(self.model, one.arrays["inputs"][rows], self.device)
                found.append(self.model(inputs).cpu())
        return torch.cat(found)

    def outputs(
        self, options: Sequence[Mapping[str, Option]], examples: Examples
    ) -> Iterator[PatternLogits]:
        """Yields the logits of all patterns, a pass at a time."""
        for name, one in examples.passes.items():
            found = []
            for each in options:
                with self.realiser.apply(each):
                    found.append(self._logits(one))
            labels = one.arrays.get("labels")
            known = {} if labels is None else {"target": torch.from_numpy(labels)}
            yield PatternLogits(name, torch.arange(len(one)), torch.stack(found), known)

    def embedding(self, one: Pass) -> np.ndarray:
        """Returns what the last layer reads (N, D)."""
        return _features(self.model, one.arrays["inputs"], self.device)


def _flat(images: np.ndarray) -> np.ndarray:
    return np.asarray(images, dtype=np.float64).reshape(len(images), -1)


def _tensor(model: nn.Sequential, inputs: np.ndarray, device: str) -> torch.Tensor:
    return torch.from_numpy(inputs).to(device=device, dtype=model[0].weight.dtype)


def _features(model: nn.Sequential, inputs: np.ndarray, device: str) -> np.ndarray:
    with torch.inference_mode():
        return model[:-1](_tensor(model, inputs, device)).double().cpu().numpy()
