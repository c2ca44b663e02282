"""Settings as they are written, in YAML files and overrides, before anything is validated."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from evoprune.core.errors import ConfigError


class _UniqueLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping; YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str):
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key '{key}' stands twice", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Returns the mapping in a YAML file.

    Raises:
        ConfigError: the file is missing, unreadable, or holds no mapping.
    """
    try:
        with path.open(encoding="utf-8") as file:
            value = yaml.load(file, Loader=_UniqueLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"'{path}' cannot be read: {error}.", "Give the path of a YAML file."
        ) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        where = " ".join(str(error).split())
        raise ConfigError(f"'{path}' is not valid YAML: {where}.", "Mend that line.") from error
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ConfigError(
            f"'{path}' holds no settings.", "Start from experiments/quickstart/config.yaml."
        )
    return value


def apply_overrides(settings: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Returns the settings with ``key.sub=value`` changes; values are read as YAML.

    ``key.sub+=[value]`` adds to a list what is not in it yet.

    Raises:
        ConfigError: an override has no ``=``, or leads into something that is no mapping, or adds
            to something that is no list.
    """
    settings = json.loads(json.dumps(settings, default=str))
    for override in overrides:
        dotted, sep, text = str(override).partition("=")
        adds = dotted.endswith("+")
        keys = dotted.removesuffix("+").strip().split(".")
        if not sep or not all(keys):
            raise ConfigError(
                f"The override '{override}' cannot be read.", "Write it like search.n_eval=500."
            )
        try:
            value = yaml.load(text, Loader=_UniqueLoader)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise ConfigError(
                f"The value of the override '{override}' is not valid YAML.", "Quote it."
            ) from error
        at = settings
        for key in keys[:-1]:
            inner = at.get(key)
            if isinstance(inner, str):
                at[key] = {"base": inner} if key in ("space", "data") else {"type": inner}
            elif inner is None:
                at[key] = {}
            elif not isinstance(inner, dict):
                raise ConfigError(
                    f"The override '{override}' leads into {json.dumps(inner)[:60]}.",
                    f"Give all of {key} anew, such as {key}=[...], or edit the file.",
                )
            at = at[key]
        at[keys[-1]] = _added(at.get(keys[-1]), value, override) if adds else value
    return settings


def _added(before: Any, value: Any, override: str) -> list[Any]:
    """Returns a list with what it does not hold yet added to its end."""
    listed = [] if before is None else before
    for entry in (listed, value):
        if not isinstance(entry, list):
            shown = json.dumps(entry, default=str)[:60]
            raise ConfigError(
                f"The override '{override}' adds to a list, and {shown} is none.",
                "Write it like objectives+=[nll].",
            )
    return [*listed, *(entry for entry in value if entry not in listed)]


# The two parts of a run's own config.yaml: what names the run, and what may change between calls.
PARTS = {"identity", "execution"}


def joined(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that a run's own config.yaml holds in two parts.

    Parts are written as a person would, with their options beside their type, so that overrides
    find them where they are documented.

    Raises:
        KeyError, TypeError, ValueError: the parts are damaged.
    """
    settings, execution = dict(parts["identity"]), dict(parts["execution"])
    for section in ("search", "model"):
        settings[section] = {**settings[section], **execution.pop(section)}
    plain: dict[str, Any] = _plainly({**settings, **execution})
    data = plain["data"]
    own = {name: value for name, value in data.items() if name != "source"}
    if not own.keys() & data["source"].keys():
        plain["data"] = {**data["source"], **own}
    return plain


def _plainly(value: Any) -> Any:
    """Returns settings with every ``{type, options: {…}}`` as ``{type, …}``."""
    if isinstance(value, list):
        return [_plainly(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"type", "options"} and isinstance(value["options"], dict):
        return {**value["options"], "type": value["type"]}
    return {key: _plainly(entry) for key, entry in value.items()}
