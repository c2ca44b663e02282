"""Lists what there is: parts of every kind, shipped files, the sites of a model."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from evoprune.config.keys import keys
from evoprune.config.schema import load_config
from evoprune.config.sections import DataConfig, ModelConfig
from evoprune.config.shipped import shipped
from evoprune.core.errors import ConfigError, did_you_mean
from evoprune.core.registry import ALGORITHMS, BACKBONES, REGISTRIES, kinds, load_plugin
from evoprune.data.pool import TextPool

Rows = list[list[str]]


def listing(
    what: str | None, subject: str | None, plugins: Sequence[str]
) -> tuple[list[str], Rows]:
    """Returns the header and the rows of what there is of a kind; without one, the kinds.

    Args:
        what: the kind.
        subject: of sites the model or configuration, of keys how they begin.
        plugins: files that register parts.

    Raises:
        ConfigError: there is no such kind, or its subject is missing, wrong or one too many.
    """
    for plugin in plugins:
        load_plugin(plugin)
    if what is None:
        return ["kind", "what"], [[name, line] for name, line in kinds().items()]
    if what not in kinds():
        raise ConfigError(f"There is nothing called '{what}' to list.", did_you_mean(what, kinds()))
    if subject is not None and what not in ("sites", "keys"):
        raise ConfigError(
            f"Of {what} all are listed, and '{subject}' is one word too many.",
            f"Leave it out: evoprune ls {what}.",
        )
    if what == "sites":
        return _sites(subject)
    if what == "keys":
        return ["key", "type", "default", "meaning"], _keys(subject or "")
    if what in SHIPPED:
        return [what.removesuffix("s")], [[name] for name in SHIPPED[what]()]
    return _parts(what)


def markdown(what: str | None, header: Sequence[str], rows: Rows) -> str:
    """Returns a listing as a page; that of keys has a chapter for each section."""
    if what != "keys":
        return _table(header, rows)
    chapters: dict[str, Rows] = {}
    for row in rows:
        top = row[0].partition(".")[0].removesuffix("[]")
        chapters.setdefault(top, []).append([f"`{row[0]}`", *row[1:]])
    text = [PREFACE]
    text += [f"## {name}\n\n{_table(header, chapters[name])}" for name in chapters]
    return "\n".join(text)


PREFACE = """# The keys of a configuration

Written by `evoprune ls keys --markdown`. A *part* is a name, or a mapping of its `type` and its
options: `{type: nsga2, pop_size: 16}`; `evoprune ls` says where names are listed. On the command
line a key is changed by `key=value`, such as `search.n_eval=500`; values are YAML.
"""


def _table(header: Sequence[str], rows: Rows) -> str:
    lines = [header, ["---"] * len(header), *rows]
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def _spaces() -> list[str]:
    found = shipped("search_spaces/*/*.yaml")
    return [name.removeprefix("search_spaces/").removesuffix(".yaml") for name in found]


# What ships as files, by kind.
SHIPPED = {"spaces": _spaces, "experiments": lambda: shipped("experiments/*/config.yaml")}


def _keys(prefix: str) -> Rows:
    """Returns the keys that begin so.

    Raises:
        ConfigError: none does.
    """
    every = keys()
    found = [key for key in every if key.name.startswith(prefix)]
    if not found:
        names = [key.name for key in every]
        raise ConfigError(f"No key begins with '{prefix}'.", did_you_mean(prefix, names))
    return [[key.name, key.kind, key.default, key.meaning] for key in found]


def _parts(what: str) -> tuple[list[str], Rows]:
    """Returns the parts of a registry, and controls, with options and first line of docstring."""
    if what == "controls":
        from evoprune.searching.controls import CONTROLS

        names, registry = sorted(CONTROLS), ALGORITHMS
    else:
        registry = REGISTRIES[what]
        names = registry.names()
    rows = []
    for name in names:
        part = registry.load(name)
        text = " ".join((part.__doc__ or "").split("\n\n")[0].split())
        text = text.removeprefix(f"``{name}``: ")
        options = ""
        if is_dataclass(part):
            options = ", ".join(f.name for f in fields(part) if f.init)
        rows.append([name, getattr(part, "goal", ""), options, text])
    header = ["name", "goal", "options", "what"]
    if what in ("starts", "controls"):  # a configuration names them without options
        header, rows = ["name", "what"], [[name, text] for name, _, _, text in rows]
    elif what != "objectives":
        header = ["name", "options", "what"]
        rows = [[name, options, text] for name, _, options, text in rows]
    origins = [registry.origin(row[0]) for row in rows]
    if set(origins) <= {"evoprune"}:
        return header, rows
    return [*header, "from"], [[*row, one] for row, one in zip(rows, origins, strict=True)]


def _sites(config: str | None) -> tuple[list[str], Rows]:
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
    notes = family.notes(model) if hasattr(family, "notes") else {}
    header = ["site", "kind", "units", "parent", "parameters"]
    rows = [[s.name, s.kind, str(s.units), s.parent or "", counts.get(s.name, "")] for s in sites]
    if not notes:
        return header, rows
    rows = [[*row, notes.pop(row[0], "")] for row in rows]
    return [*header, "note"], rows + [[name, "", "", "", "", note] for name, note in notes.items()]


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
    if not hasattr(family, "layout") and hasattr(model, "get_input_embeddings"):
        family.check(model, {"search": _random_chunk(model)}, settings.device)
    return family, model


def _random_chunk(model: Any) -> TextPool:
    """Returns a pool of one chunk of the default length, of tokens that the model knows."""
    length = int(DataConfig.model_fields["chunk_tokens"].default)
    known = model.get_input_embeddings().weight.shape[0]
    tokens = np.random.default_rng(0).integers(known, size=(1, length))
    return TextPool(tokens, np.array([length]), ("random",), ("random",), "search")
