"""Lists what there is: parts of every kind, shipped files, the sites of a model."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from evoprune.config import DataConfig, ModelConfig, load_config
from evoprune.data.pool import TextPool
from evoprune.errors import ConfigError, did_you_mean
from evoprune.registry import BACKBONES, REGISTRIES, load_plugin
from evoprune.shipped import shipped

Rows = list[list[str]]


def listing(what: str, config: str | None, plugins: Sequence[str]) -> tuple[list[str], Rows]:
    """Returns the parts of a kind, with their options and first line of documentation.

    Raises:
        ConfigError: there is no such kind of part.
    """
    for plugin in plugins:
        load_plugin(plugin)
    if what == "sites":
        return ["site", "kind", "units", "parent", "parameters"], _sites(config)
    if what in ("spaces", "experiments"):
        pattern = "search_spaces/*/*.yaml" if what == "spaces" else "experiments/*/config.yaml"
        names = shipped(pattern)
        if what == "spaces":
            names = [n.removeprefix("search_spaces/").removesuffix(".yaml") for n in names]
        return [what.removesuffix("s")], [[name] for name in names]
    if what not in REGISTRIES:
        raise ConfigError(
            f"There is nothing called '{what}' to list.",
            did_you_mean(what, [*REGISTRIES, "sites", "spaces", "experiments"]),
        )
    registry = REGISTRIES[what]
    rows = []
    for name in registry.names():
        part = registry.load(name)
        text = " ".join((part.__doc__ or "").split("\n\n")[0].split())
        text = text.removeprefix(f"``{name}``: ")
        options = ""
        if is_dataclass(part):
            options = ", ".join(f.name for f in fields(part) if f.init)
        goal = getattr(part, "goal", "")
        rows.append([name, goal, options, text] if what == "objectives" else [name, options, text])
    header = ["name", "goal", "options", "what"] if what == "objectives" else ["name", "options"]
    if what == "starts":  # a configuration names them without options
        return ["name", "what"], [[name, text] for name, _, text in rows]
    return (header if what == "objectives" else [*header, "what"]), rows


def _sites(config: str | None) -> Rows:
    """Returns the sites of a model that a search would take, with the parameters in each.

    Raises:
        EvopruneError: a search would refuse the model; it says the same.
    """
    if config is None:
        raise ConfigError(
            "Whose sites?", "Name a configuration or a model folder: evoprune ls sites MODEL."
        )
    family, model = _of_config(config) if config.endswith(".yaml") else _of_model(config)
    table = family.table(model, 1)
    under: dict[str, float] = {}
    for row in table.tensors():
        size = float(np.prod([sum(part.size for part in dim) for dim in row.dims]))
        for gate in row.gates:
            under[gate] = under.get(gate, 0.0) + size
    sites = family.sites(model)
    for site in reversed(sites):
        if site.parent is not None and site.kind in ("attn", "mlp"):
            under[site.parent] = under.get(site.parent, 0.0) + under.get(site.name, 0.0)
    counts = {name: f"{count:,.0f}" for name, count in under.items()}
    return [[s.name, s.kind, str(s.units), s.parent or "", counts.get(s.name, "")] for s in sites]


def _of_config(config: str) -> tuple[Any, Any]:
    """Returns the family and the model of a configuration, checked with its data."""
    from evoprune.evaluation.prepare import open_experiment

    checked = load_config(config)
    for plugin in checked.plugins:
        load_plugin(plugin)
    opened = open_experiment(checked)
    return opened.family, opened.model


def _of_model(name: str) -> tuple[Any, Any]:
    """Returns the family and the model of a folder or hub id, checked with random tokens."""
    from evoprune.families.load import open_network

    if name in BACKBONES.names():
        raise ConfigError(
            f"'{name}' is a backbone, and its head's sites depend on the data.",
            "Name a configuration, such as experiments/quickstart_vision/config.yaml.",
        )
    settings = ModelConfig(name_or_path=name)
    family, model, _ = open_network(settings)
    if hasattr(model, "get_input_embeddings"):
        family.check(model, {"search": _random_chunk(model)}, settings.device)
    return family, model


def _random_chunk(model: Any) -> TextPool:
    """Returns a pool of one chunk of the default length, of tokens that the model knows."""
    length = int(DataConfig.model_fields["chunk_tokens"].default)
    known = model.get_input_embeddings().weight.shape[0]
    tokens = np.random.default_rng(0).integers(known, size=(1, length))
    return TextPool(tokens, np.array([length]), ("random",), ("random",), "search")
