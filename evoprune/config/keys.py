"""Every key of a configuration, with its type, default and meaning: read off the schema."""

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from evoprune.config.schema import Config
from evoprune.core.genes import GeneSpec

Schema = Mapping[str, Any]
NEEDED = "needed"
PLAIN_TYPES = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


@dataclass(frozen=True)
class Key:
    """A key of a configuration.

    Attributes:
        name: with dots, as in overrides; ``[]`` stands for an entry of a list.
        kind: what it takes, in words.
        default: as it would be written; ``needed`` where there is none.
        meaning: what it is for.
    """

    name: str
    kind: str
    default: str
    meaning: str


def keys() -> list[Key]:
    """Returns every key, each section before what it holds."""
    schema = Config.model_json_schema()
    return list(_keys(schema, schema["$defs"], ""))


def _keys(section: Schema, known: Mapping[str, Schema], prefix: str) -> Iterator[Key]:
    """Yields the keys of a section.

    Args:
        section: its schema.
        known: schemas of all sections by name.
        prefix: what stands before its keys.
    """
    for name, entry in section["properties"].items():
        within, many = _section_of(entry)
        needed = name in section.get("required", ())
        text = " ".join(str(entry.get("description", "")).split())
        meaning = text or _attributes(section).get(name, "")
        default = NEEDED if needed else _default(entry.get("default"))
        if within is None:
            yield Key(prefix + name, _kind(entry), default, meaning)
            continue
        kind = "list of sections" if many else "section"
        yield Key(prefix + name, kind, default if needed or many else "", meaning)
        yield from _keys(known[within], known, f"{prefix}{name}{'[]' if many else ''}.")


def _section_of(entry: Schema) -> tuple[str | None, bool]:
    """Returns the name of the section that a key holds, if any, and whether it holds a list."""
    many = entry.get("type") == "array"
    held = entry["items"] if many else entry
    name = str(held.get("$ref", "")).rpartition("/")[2]
    return (name if name not in ("", "Part") else None), many


def _kind(entry: Schema) -> str:
    """Returns what a key takes, in words."""
    if "$ref" in entry:
        return "part"
    if "anyOf" in entry:
        return " or ".join(_kind(one) for one in entry["anyOf"])
    if "enum" in entry:
        return ", ".join(map(str, entry["enum"]))
    if "const" in entry:
        return str(entry["const"])
    if entry.get("type") == "array":
        return f"list of {_kind(entry['items'])}s"
    if entry.get("type") == "object":
        values = entry.get("additionalProperties")
        return f"mapping to {_kind(values)}" if isinstance(values, Mapping) else "mapping"
    bounds = [f" {sign} {entry[word]:g}" for word, sign in BOUNDS.items() if word in entry]
    return PLAIN_TYPES.get(str(entry.get("type")), "anything") + ",".join(bounds)


def _default(value: Any) -> str:
    """Returns a default as it would be written in YAML; a part without options is its name."""
    if isinstance(value, Mapping) and set(value) == {"type", "options"} and not value["options"]:
        return str(value["type"])
    return value if isinstance(value, str) and value else json.dumps(value)


def _attributes(section: Schema) -> dict[str, str]:
    """Returns what the docstring of a dataclass says of its attributes."""
    if section.get("title") != GeneSpec.__name__:
        return {}
    _, _, text = inspect.cleandoc(GeneSpec.__doc__ or "").partition("Attributes:\n")
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE)
    return {name: _sentence(meaning) for name, meaning in found}


def _sentence(text: str) -> str:
    """Returns a text of a docstring as one of Markdown, on one line."""
    line = " ".join(text.replace("``", "`").split())
    return line[:1].upper() + line[1:]
