"""What pydantic says of settings, in the words of whoever wrote them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from evoprune.core.errors import ConfigError, did_you_mean


def explained(error: ValidationError, root: type[BaseModel]) -> ConfigError:
    """Returns one sentence of cause and one of remedy for the first thing that is wrong.

    Args:
        error: what pydantic says.
        root: the class that was to be validated.
    """
    found = error.errors()
    # What is not known at all says more than what follows from it.
    strange = ("extra_forbidden", "unexpected_keyword_argument")
    first = next((entry for entry in found if entry["type"] in strange), found[0])
    location = [str(step) for step in first["loc"] if not str(step).startswith("function-")]
    where = ".".join(location) or "the configuration"
    more = f" ({len(found) - 1} more after it)" if len(found) > 1 else ""
    if first["type"] in strange:
        section = _section_fields(root, location[:-1])
        return ConfigError(
            f"There is no setting '{where}'{more}.", did_you_mean(location[-1], section)
        )
    if first["type"] == "missing":
        return ConfigError(f"The setting '{where}' is missing{more}.", "Add it.")
    message = plainly(first["msg"])
    if isinstance(first["input"], Mapping) and first["type"] == "value_error":
        within = f"In '{where}': " if location else ""
        return ConfigError(f"{within}{message}{more}.", "Mend that setting.")
    given = repr(first["input"])
    given = given if len(given) <= 80 else f"{given[:77]}..."
    return ConfigError(f"'{where}' is {given}: {message}{more}.", "Mend that setting.")


def plainly(message: str) -> str:
    """Returns pydantic's words in those of YAML."""
    message = message.removeprefix("Value error, ").replace("Tuple", "List")
    message = message.replace("a valid tuple", "a list")
    return re.sub(r"a valid dictionary or instance of \w+", "a mapping", message)


def _section_fields(root: type[BaseModel], location: Sequence[str]) -> list[str]:
    """Returns the settings of the section at a location, for near misses."""
    section: Any = root
    for step in location:
        if step.isdigit():
            continue  # an entry of a list has the type that its list names
        annotation = section.model_fields[step].annotation
        inner = [annotation, *get_args(annotation)]
        section = next(t for t in inner if isinstance(t, type) and _is_section(t))
    return sorted(getattr(section, "model_fields", None) or (f.name for f in fields(section)))


def _is_section(kind: type) -> bool:
    return is_dataclass(kind) or issubclass(kind, BaseModel)
