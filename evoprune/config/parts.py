"""Makes a part of a registry with the options that a person gave it."""

from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from evoprune.config.sections import Part
from evoprune.config.wording import plainly
from evoprune.core.errors import ConfigError, did_you_mean
from evoprune.core.registry import Registry


def build(registry: Registry, part: Part, **given: Any) -> Any:
    """Returns a registered part made with its options.

    Args:
        registry: where the part is looked up.
        part: its name and options.
        given: further arguments that are not for a person to set.

    Raises:
        ConfigError: no such part, no such option, or a value that it does not take.
    """
    made = registry.load(part.type)
    if not is_dataclass(made):
        raise ConfigError(
            f"The {registry.kind} '{part.type}' is no dataclass, so it cannot be given options.",
            "Decorate its class with @dataclass(frozen=True).",
        )
    known = {f.name: f for f in fields(made) if f.init and f.name not in given}
    for name in part.options:
        if name not in known:
            raise ConfigError(
                f"The {registry.kind} '{part.type}' has no option '{name}'.",
                did_you_mean(name, known),
            )
    for name, f in known.items():
        if name not in part.options and f.default is MISSING and f.default_factory is MISSING:
            raise ConfigError(
                f"The {registry.kind} '{part.type}' needs the option '{name}'.", "Add it."
            )
    try:
        return TypeAdapter(made).validate_python({**part.options, **given})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        message = plainly(first["msg"])
        raise ConfigError(
            f"The option '{where}' of the {registry.kind} '{part.type}' is "
            f"{first['input']!r}: {message}.",
            "Mend that option.",
        ) from error
