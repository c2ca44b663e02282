"""The configuration as a file: settings with the reason beside each."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from evoprune.config.shipped import shipped
from evoprune.core.errors import ConfigError
from evoprune.starting.opening import Opened
from evoprune.starting.sizes import Sizes

# Columns that comments start in, where the settings leave them room.
MARGIN = 36

# The space of a family that suits most, and why.
SPACES = {
    "decoder": ("decoder/subblocks", "attention and MLP of each block, kept or removed"),
    "sparse_head": ("sparse_head/features", "a bit for each feature of the backbone"),
}
LANGUAGE = (
    ("kl", "how far predictions move from the dense model's, nats a token"),
    ("params", "what is left to store"),
    ("worst_cluster_kl", "robustness: kl on the sort of text that suffers most"),
)
HEADS = (("accuracy", "what a head is for"), ("units", "how many features it reads"))
OUTSIDE = ("ood_auroc", "robustness: whether it tells what is none of its classes")
INSIDE = ("worst_cluster_retention", "robustness: accuracy kept on the worst sort of image")


def configuration(title: str, seen: Opened, sizes: Sizes) -> str:
    """Returns the text of a configuration.

    Args:
        title: comments at its top.
        seen: the model and the data.
        sizes: of the search.

    Raises:
        ConfigError: no space is known for the model's family.
    """
    language = seen.task == "causal_lm"
    parts = [
        title,
        section("model", seen.model, {"name_or_path": type(seen.network).__name__}),
        section("data", seen.data.settings, seen.data.why),
        reasoned(f"task: {seen.task}", f"what the family '{seen.family.name}' is for"),
        _space(seen.family.name),
        listed("objectives", _objectives(seen)),
        *(['# constraints: {params: "<=70%"}    # looks at nothing larger'] if language else []),
        _calibration(sizes, language),
        _search(sizes, language),
        _scored(sizes, seen),
        *([] if language else ["controls: [random]    # rules by layers say nothing of features"]),
        section("export", {"verify": True}, {"verify": "each export is loaded and compared"}),
    ]
    return "\n\n".join(parts) + "\n"


def _space(family: str) -> str:
    found = [name.removeprefix("search_spaces/").removesuffix(".yaml") for name in _files(family)]
    if not found:
        raise ConfigError(
            f"No search space ships for the family '{family}'.",
            "Write the configuration by hand (README, «adding your own»).",
        )
    name, why = SPACES.get(family, (found[0], "the first that ships for this family"))
    others = ", ".join(other for other in found if other != name)
    line = reasoned(f"space: {name}", why)
    return f"{line}\n# Instead: {others} (evoprune ls spaces)" if others else line


def _files(family: str) -> list[str]:
    return shipped(f"search_spaces/{family}/*.yaml")


def _objectives(seen: Opened) -> Sequence[tuple[str, str]]:
    if seen.task == "causal_lm":
        return LANGUAGE
    outside = all(pool.outside for name, pool in seen.pools.items() if name != "training")
    return (*HEADS, OUTSIDE if outside else INSIDE)


def _calibration(sizes: Sizes, language: bool) -> str:
    settings = {"samples": sizes.samples, "clusters": sizes.clusters}
    why = {
        "samples": "every candidate is evaluated on these"
        + ("" if language else ": all of the search split"),
        "clusters": "sorts of example, for sampling and for robustness",
    }
    if language:
        settings["pool"] = sizes.pool
        why["pool"] = "examples of the search split that they are picked from"
    return section("calibration", settings, why)


def _search(sizes: Sizes, language: bool) -> str:
    settings: dict[str, Any] = {"n_eval": sizes.n_eval, "seed": 0}
    why = {
        "n_eval": "as many as there is time for; more may be asked for later",
        "seed": "the same seed finds the same front",
    }
    if language:
        return section("search", {"algorithm": "surrogate_nsga2", **settings}, why | SURROGATE)
    bits = {"algorithm": {"type": "nsga2", "pop_size": 30}, **settings, "warm_starts": []}
    return section("search", bits, why | {"warm_starts": "they go by layers"})


SURROGATE = {"algorithm": "models of the objectives choose what to evaluate"}


def _scored(sizes: Sizes, seen: Opened) -> str:
    """Returns how much of the other two splits is read."""
    found = []
    for split, count, why in (
        ("validation", sizes.validation, "scores the front anew and picks from it"),
        ("report", sizes.report, "read once, at the end, with intervals"),
    ):
        of = f"of {len(seen.pools[split]):,} examples; {why}"
        found.append(reasoned(f"{split}: {{samples: {count}}}", of))
    return "\n".join(found)


def scalar(value: Any) -> str:
    """Returns a value as it stands in a line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.strip().removesuffix("...").strip()


def section(name: str, settings: Mapping[str, Any], why: Mapping[str, str]) -> str:
    """Returns a section, a line for each of its settings.

    Args:
        name: of the section.
        settings: what it holds.
        why: the reason for a setting, by its name.
    """
    lines = [f"{name}:"]
    for key, value in settings.items():
        lines.append(reasoned(f"  {key}: {scalar(value)}", why.get(key, "")))
    return "\n".join(lines)


def listed(name: str, entries: Sequence[tuple[str, str]]) -> str:
    """Returns a list, a line for each entry and its reason."""
    return "\n".join([f"{name}:", *(reasoned(f"  - {entry}", why) for entry, why in entries)])


def reasoned(line: str, why: str) -> str:
    """Returns a line of YAML with the reason for it as a comment."""
    return f"{line.ljust(MARGIN)}  # {why}" if why else line
