"""A model and data opened and checked as a search would, before a configuration is written."""

import os.path
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from evoprune.config.parts import build
from evoprune.config.sections import DataConfig, ModelConfig, Part, load_data
from evoprune.core.errors import ConfigError, DataError, did_you_mean
from evoprune.core.registry import BACKBONES, DATA, TASKS
from evoprune.data.memory import DocumentsInMemory
from evoprune.data.pool import encode
from evoprune.starting.sizes import FEWEST, SHORTEST_CHUNK, chunk_tokens
from evoprune.starting.sources import Chosen, chosen_data

# What the networks of a family are for.
TASK_OF = {"decoder": "causal_lm", "sparse_head": "classification", "transformer": "causal_lm"}
# Text that is there wherever evoprune is, and what the shipped backbone was made for.
PACKAGED = Chosen(
    {"base": "experiments/quickstart/data.yaml"},
    {"base": "code and prose of installed packages, as no data were given"},
)
DIGITS = Chosen(
    {"type": "digits", "noise": 0.4},
    {"noise": "clean digits are so easy that hardly any feature is missed"},
)
# Documents that are tokenised to see how long they are.
MEASURED = 64
# Shares for data so few that the usual ones would leave little to validate and report on.
EVEN = {"search": 0.4, "validation": 0.3, "report": 0.3}
THIN = 48
# Of fewer documents all chunks are taken.
MANY_DOCUMENTS = 150


@dataclass(frozen=True)
class Opened:
    """What was found.

    Attributes:
        model: of the section ``model``, as it is written.
        data: of the section ``data``, with reasons.
        task: what the model is for.
        family: that takes it apart.
        network: the model, dense.
        pools: examples by split.
        documents: how many there are; None of images.
        note: how files were cut into them.
    """

    model: Mapping[str, Any]
    data: Chosen
    task: str
    family: Any
    network: Any
    pools: Mapping[str, Any]
    documents: int | None = None
    note: str = ""


def opened(name: str, data: str | None, task: str | None) -> Opened:
    """Returns a model and data that belong together.

    Args:
        name: a folder, a hub id, a shipped backbone or ``package.module:function``.
        data: a file, a folder, or a type of data; None for what ships.
        task: what the model is for; that of its family by default.

    Raises:
        EvopruneError: a search would refuse them, or they are too few; it says the same.
    """
    from evoprune.families.load import open_network

    model = model_section(name)
    settings = ModelConfig.model_validate(model)
    chosen = chosen_data(data) if data is not None else None  # a typo is told before a long load
    family, network, _ = open_network(settings)
    if "Classification" in type(network).__name__:
        raise ConfigError(
            f"{type(network).__name__} is a classifier, and `init` writes configurations of "
            "language models and of heads.",
            "Write one by hand: README, «a classifier».",
        )
    task = task_of(family.name, task)
    if data in (None, "digits") and "factory" in model:
        chosen = DIGITS
    elif chosen is None or data == "packages":
        chosen = PACKAGED
    section = DataConfig.model_validate(load_data(dict(chosen.settings)))
    source = build(DATA, section.source)
    processor = family.processor(settings)
    found = Opened(model, chosen, task, family, network, {})
    if hasattr(source, "documents"):
        found, section, source = _documents(found, section, source, processor)
    maker = build(TASKS, Part(type=task))
    pools = maker.pools(section, source, processor)
    own = "fractions" in chosen.settings or "base" in chosen.settings
    if found.documents and not own and min(map(len, pools.values())) < THIN:
        section = section.model_copy(update={"fractions": EVEN})
        pools = maker.pools(section, source, processor)
        found = _with(found, "fractions", EVEN, "few documents: more of them to judge by")
    _check_counts(pools, found.documents)
    family.check(network, pools, settings.device)
    return replace(found, pools=pools)


def model_section(name: str) -> dict[str, Any]:
    """Returns the ``model`` section of a model that a person named."""
    if name in BACKBONES.names() and not os.path.isdir(name):
        options = {"options": {"factory": {"noise": 0.4}}} if name == "digits" else {}
        return {"family": "sparse_head", "factory": name, **options}
    if re.fullmatch(r"[\w.]+:\w+", name) and not os.path.isdir(name):
        return {"family": "sparse_head", "factory": name}
    return {"name_or_path": name}


def task_of(family: str, asked: str | None) -> str:
    """Returns the task of a family's networks.

    Raises:
        ConfigError: another one is asked for, or there is none of that name.
    """
    if asked is not None and asked not in TASKS.names():
        raise ConfigError(f"There is no task '{asked}'.", did_you_mean(asked, TASKS.names()))
    own = TASK_OF.get(family)
    if own is None and asked is None:
        raise ConfigError(f"What the family '{family}' is for is not known.", "Give --task.")
    if own is not None and asked not in (None, own):
        raise ConfigError(
            f"Networks of the family '{family}' are for the task '{own}', not '{asked}'.",
            f"Leave --task out, or write task: {own}.",
        )
    return str(asked or own)


def context_of(network: Any) -> int | None:
    """Returns how many tokens a language model looks at, where its configuration says so."""
    config = getattr(network, "config", None)
    named = ("max_position_embeddings", "sliding_window")
    found = [getattr(config, name, None) for name in named]
    return min((int(size) for size in found if size), default=None)


def _documents(
    found: Opened, section: DataConfig, source: Any, tokenizer: Any
) -> tuple[Opened, DataConfig, DocumentsInMemory]:
    """Returns what was found with how documents are cut, that section, and the documents read."""
    documents = source.documents()
    found = replace(found, documents=len(documents), note=getattr(source, "note", ""))
    if tokenizer is None:
        return found, section, DocumentsInMemory(tuple(documents))
    measured = documents[:: max(1, len(documents) // MEASURED)]
    lengths = [len(encode(document.text, tokenizer)) for document in measured]
    size = chunk_tokens(lengths, context_of(found.network))
    why = f"half of the documents have {sorted(lengths)[len(lengths) // 2]:,} tokens or more"
    if context_of(found.network):
        why += f", the model looks at {context_of(found.network):,}"
    found = _with(found, "chunk_tokens", size, why)
    changed: dict[str, Any] = {"chunk_tokens": size}
    if len(documents) < MANY_DOCUMENTS:
        changed["max_chunks_per_document"] = None
        why = f"all: there are only {len(documents)} documents"
        found = _with(found, "max_chunks_per_document", None, why)
    return found, section.model_copy(update=changed), DocumentsInMemory(tuple(documents))


def _with(found: Opened, key: str, value: Any, why: str) -> Opened:
    """Returns what was found with one more setting of the data."""
    settings, reasons = {**found.data.settings, key: value}, {**found.data.why, key: why}
    return replace(found, data=Chosen(settings, reasons))


def _check_counts(pools: Mapping[str, Any], documents: int | None) -> None:
    """Checks that every split holds enough to be searched or scored on.

    Raises:
        DataError: one does not.
    """
    short = {name: n for name, n in FEWEST.items() if len(pools[name]) < n}
    if not short:
        return
    found = ", ".join(f"{name} {len(pools[name])}" for name in FEWEST)
    of = "" if documents is None else f" ({documents} documents)"
    times = max(n / len(pools[name]) for name, n in short.items())
    raise DataError(
        f"The data give too few examples: {found}{of}; needed are at least "
        f"{', '.join(f'{name} {n}' for name, n in FEWEST.items())}.",
        f"Give about {times + 0.5:.0f} times as much, with documents of {SHORTEST_CHUNK // 4} "
        "tokens or more.",
    )
