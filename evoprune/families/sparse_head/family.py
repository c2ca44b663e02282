"""The family ``sparse_head``: a frozen backbone, and a masked head fitted for every candidate.

The setting of MO-EvoPruneDeepTL (Poyatos et al., 2023): the backbone's features are computed
once; what is searched is which features the head reads, and which hidden neurons it has.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune.core.costs import CostTable, Extent, Row, fixed, of_site
from evoprune.core.errors import ConfigError, ModelError, did_you_mean
from evoprune.core.space import Site
from evoprune.data.examples import Examples, Pass
from evoprune.data.image_pool import ImagePool

if TYPE_CHECKING:
    from evoprune.families.sparse_head.network import Blueprint, HeadNetwork

FORMAT = "evoprune head base 1"
OPTIONS = {"hidden", "seed", "fit", "time", "steps", "factory"}
FITS = ("solve", "recipe")


class SparseHead:
    """See the module. ``model.options``: ``hidden`` (widths), ``seed``, ``fit`` (solve, recipe)."""

    name = "sparse_head"
    loader = "factory"
    exporter = "evoprune.export.head:HeadExporter"

    def adopt(self, loaded: Any, settings: Any) -> "HeadNetwork":
        """Returns a backbone with a head of the widths that the configuration asks for.

        Raises:
            ConfigError: an option is unknown or makes no sense.
        """
        from evoprune.families.sparse_head.network import HeadNetwork

        options = dict(settings.options)
        unknown = sorted(set(options) - OPTIONS)
        if unknown:
            raise ConfigError(
                f"The family 'sparse_head' has no option '{unknown[0]}'.",
                did_you_mean(unknown[0], OPTIONS),
            )
        hidden = options.get("hidden", [512])
        if not (
            isinstance(hidden, list)
            and 1 <= len(hidden) <= 2
            and all(type(width) is int and width > 0 for width in hidden)
        ):
            raise ConfigError(
                f"'model.options.hidden' is {hidden!r}.", "Give one or two widths, such as [512]."
            )
        seed = options.get("seed", 0)
        if type(seed) is not int or seed < 0:
            raise ConfigError(f"'model.options.seed' is {seed!r}.", "Give a whole number from 0.")
        return HeadNetwork(loaded, tuple(hidden), seed, _fit_options(options))

    def fits(self, network: Any) -> bool:
        """Returns whether the network is one of this family's."""
        from evoprune.families.sparse_head.network import HeadNetwork

        return isinstance(network, HeadNetwork)

    def processor(self, settings: Any) -> None:
        """Images need no processor."""

    def check(self, network: "HeadNetwork", pools: Mapping[str, ImagePool], device: str) -> None:
        """Checks that the backbone reads the images, and notes how many classes there are.

        Raises:
            ModelError: it gives no features (N, D), or they are not finite.
        """
        from evoprune.families.sparse_head.network import SAMPLES

        try:
            found = network.features(pools["training"].images[:2])
        except Exception as error:  # whatever a backbone may raise, or give in place of a tensor
            raise ModelError(
                f"The backbone does not read the images: {' '.join(str(error).split())[:200]}.",
                "Check that images and backbone belong together.",
            ) from error
        if found.ndim != 2:
            raise ModelError(
                f"The backbone gives features of shape {found.shape}.",
                "It must map images to features (N, D): pool or flatten what it gives.",
            )
        if not np.isfinite(found).all():
            raise ModelError(
                "The backbone gives features that are not finite.",
                "Check its weights, and how the images are scaled.",
            )
        training = pools["training"]
        kinds = dict(zip(training.labels.tolist(), training.kinds, strict=True))
        names = [kinds.get(i, str(i)) for i in range(int(training.labels.max()) + 1)]
        network.settle(found.shape[1], names)
        network.samples = pools["search"].images[:SAMPLES]

    def embed(self, network: "HeadNetwork", pool: ImagePool, device: str) -> np.ndarray:
        """Returns the backbone's features (N, D)."""
        return network.features(pool.images).astype(np.float64)

    def examples(
        self, network: "HeadNetwork", pool: ImagePool, groups: np.ndarray, device: str
    ) -> Examples:
        """Returns the features of a pool, and of what lies outside it."""
        clean = {"features": network.features(pool.images), "labels": pool.labels}
        passes = {"clean": Pass(clean, groups, np.ones(len(pool), dtype=np.int64))}
        for name, images in pool.outside.items():
            count = len(images)
            passes[name] = Pass(
                {"features": network.features(images)},
                np.zeros(count, dtype=np.int64),
                np.ones(count, dtype=np.int64),
            )
        return Examples(passes)

    def write(self, network: "HeadNetwork", folder: Path, training: Examples | None) -> None:
        """Writes the base: the training features that heads are fitted to, and the backbone."""
        from safetensors.torch import save_file

        if training is None:
            raise ModelError(
                "A head cannot be fitted without training examples.",
                "Use data with a training split.",
            )
        network.attach(training.clean.arrays["features"], training.clean.arrays["labels"])
        folder.mkdir(parents=True, exist_ok=True)
        record = {"format": FORMAT, "hidden": network.hidden, "seed": network.seed}
        record |= {"fit": network.fit_options, "classes": network.classes}
        record |= {"architecture": asdict(network.architecture)}
        record |= {"backbone": network.blueprint.to_json()}
        (folder / "config.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        save_file(network.tensors(), folder / "base.safetensors")

    def read(self, folder: Path, dtype: str, device: str, trust_remote_code: bool = False) -> Any:
        """Returns the network of a base; it fits heads, and has no backbone of its own.

        Raises:
            ModelError: another version of evoprune wrote the base.
        """
        from safetensors.torch import load_file

        from evoprune.families.sparse_head.network import Blueprint, HeadNetwork

        record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if record.get("format") != FORMAT:
            raise ModelError(
                f"The base in '{folder}' was written by another version of evoprune.",
                "Search again in another `output`.",
            )
        network = HeadNetwork(None, tuple(record["hidden"]), record["seed"], record["fit"])
        tensors = load_file(folder / "base.safetensors")
        network.settle(record["architecture"]["features"], record["classes"])
        network.attach(tensors["training.features"].numpy(), tensors["training.labels"].numpy())
        network.know(Blueprint.from_json(record["backbone"]), tensors)
        return network

    def sites(self, network: "HeadNetwork") -> list[Site]:
        """Returns the features, and the neurons of each hidden layer."""
        architecture = network.architecture
        return [Site("features", "features", architecture.features)] + [
            Site(f"hidden.{i}", "neurons", width) for i, width in enumerate(architecture.hidden)
        ]

    def table(self, network: "HeadNetwork", context: int = 1) -> CostTable:
        """Returns the cost table; FLOPs are per image, the backbone's included.

        Backbone tensors whose entries make one feature each are cut with the features, as far as
        its graph allows (``channels``).
        """
        architecture = network.architecture
        blueprint = network.blueprint
        rows = [
            Row(row.name, dims(blueprint, row.name, row.shape), weights=_weights(row.flops))
            for row in blueprint.rows
        ]
        other = {"flops": blueprint.other_flops}
        rows.append(Row("backbone.other", (), weights=other, tensor=False))
        before = of_site("features", architecture.features)
        for i, width in enumerate(architecture.hidden):
            now = of_site(f"hidden.{i}", width)
            rows.append(Row(f"hidden.{i}.weight", (now, before), weights=_weights(2.0)))
            before = now
        out = fixed(architecture.classes)
        rows.append(Row("output.weight", (out, before), weights=_weights(2.0)))
        rows.append(Row("output.bias", (out,), weights=_weights(0.0)))
        return CostTable(tuple(rows))

    def runner(self, network: "HeadNetwork", task: Any, device: str) -> Any:
        """Returns what fits and measures heads, many at a time."""
        from evoprune.families.sparse_head.runner import HeadRunner

        return HeadRunner(network, task)


def _fit_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how heads are fitted.

    Raises:
        ConfigError: an option makes no sense, or has no effect.
    """
    found = {key: options[key] for key in ("fit", "time", "steps") if key in options}
    fit, steps, time = found.get("fit", "solve"), found.get("steps"), found.get("time")
    if fit not in FITS:
        raise ConfigError(f"'model.options.fit' is {fit!r}.", did_you_mean(str(fit), FITS))
    if fit == "recipe" and len(found) > 1:
        raise ConfigError(
            "The fit 'recipe' takes neither 'time' nor 'steps'.", "Leave them out, or fit by solve."
        )
    if steps is not None and (type(steps) is not int or steps < 1):
        raise ConfigError(
            f"'model.options.steps' is {steps!r}.", "Give a whole number from 1, such as 16."
        )
    if time is not None and not (type(time) in (int, float) and 0 < time < math.inf):
        raise ConfigError(f"'model.options.time' is {time!r}.", "Give a positive number.")
    return found


def _weights(flops: float) -> dict[str, float]:
    return {"params": 1.0, "flops": flops, "bytes": 4.0}


def dims(blueprint: "Blueprint", name: str, shape: Sequence[int]) -> tuple[tuple[Extent, ...], ...]:
    """Returns the dimensions of a backbone's tensor, made of features where it is cut with them."""
    found = [fixed(extent) for extent in shape]
    channels = blueprint.channels(name)
    if channels is not None:
        found[channels.axis] = of_site("features", shape[channels.axis], first=channels.first)
    return tuple(found)
