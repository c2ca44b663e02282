"""Objectives that are plain functions, for use from Python."""

import importlib
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any, cast

from evoprune.config.parts import build
from evoprune.config.sections import Part
from evoprune.core.errors import ConfigError
from evoprune.core.metrics import Table
from evoprune.core.protocols import Goal, Objective
from evoprune.core.registry import OBJECTIVES

Function = Callable[[Mapping[str, Table], Mapping[str, Table]], float]
# Values that a function reads from around it and that can be written down.
PLAIN = (bool, int, float, complex, str, bytes, type(None))


@dataclass(frozen=True)
class FunctionObjective:
    """A function of the tables of passes, and of the dense model's beside them.

    Ray pickles it as it does any function: one of a module by its name, so that every worker must
    be able to import that module; one of a script or notebook with its code.

    Attributes:
        function: returns the value, from tables and dense tables by pass.
        goal: ``min`` or ``max``.
        unit: of the value.
        passes: the passes whose tables it reads.
        deterministic: False where the same tables may give another value on another day.
    """

    function: Function
    goal: Goal
    unit: str = ""
    passes: tuple[str, ...] = ("clean",)
    deterministic: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "__doc__", self.function.__doc__)

    def value(self, tables: Mapping[str, Table], dense: Mapping[str, Table]) -> float:
        """Returns what the function returns."""
        return float(self.function(tables, dense))

    __call__ = value

    @cached_property
    def identity(self) -> dict[str, str]:
        """What tells it from any other: where it is defined, and a hash of how.

        The hash is of its source and of the plain values (numbers, texts) that it reads from
        around it; what it calls elsewhere is not part of it.

        Raises:
            ConfigError: its source cannot be read.
        """
        place = f"{self.function.__module__}:{self.function.__qualname__}"
        try:
            source = textwrap.dedent(inspect.getsource(self.function))
        except (OSError, TypeError) as error:
            raise ConfigError(
                f"The source of the function '{place}' cannot be read, so a resumed search could "
                "not tell whether it still is the same.",
                "Define it in a file or a notebook.",
            ) from error
        around = inspect.getclosurevars(self.function)
        read = {**around.globals, **around.nonlocals}
        values = [
            f"{name}={read[name]!r}" for name in sorted(read) if isinstance(read[name], PLAIN)
        ]
        return {
            "function": place,
            "sha256": sha256("\n".join([source, *values]).encode()).hexdigest(),
        }


def objective(
    goal: Goal,
    unit: str = "",
    passes: tuple[str, ...] = ("clean",),
    deterministic: bool = True,
) -> Callable[[Function], FunctionObjective]:
    """Returns a decorator that makes an objective of a function ``(tables, dense) -> float``.

    Args:
        goal: ``min`` or ``max``.
        unit: of the value.
        passes: the passes whose tables it reads.
        deterministic: False where the same tables may give another value on another day.

    Raises:
        ConfigError: the goal is neither, or what is decorated is no such function.
    """
    if goal not in ("min", "max"):
        raise ConfigError(f"The goal of an objective is '{goal}'.", "Say 'min' or 'max'.")

    def made(function: Function) -> FunctionObjective:
        name = getattr(function, "__qualname__", repr(function))
        try:
            if not inspect.isfunction(function):
                raise TypeError
            inspect.signature(function).bind(None, None)
        except TypeError as error:
            raise ConfigError(
                f"'{name}' is no function of (tables, dense).",
                "Write it as `def name(tables, dense): ...`; what has options is a class "
                "(README, «adding your own»).",
            ) from error
        names = (passes,) if isinstance(passes, str) else tuple(passes)
        return FunctionObjective(function, goal, unit, names, deterministic)

    return made


def handed_over(objectives: Mapping[str, Any]) -> dict[str, FunctionObjective]:
    """Returns the objectives that a search is handed, checked.

    Raises:
        ConfigError: they have no names, one is not decorated, or one has the name of a registered
            objective.
    """
    if not isinstance(objectives, Mapping):
        raise ConfigError(
            f"The objectives handed over are {type(objectives).__name__}.",
            "Give a mapping from names to functions, such as {'mine': mine}.",
        )
    for name, made in objectives.items():
        if not isinstance(made, FunctionObjective):
            raise ConfigError(
                f"The objective '{name}' is {type(made).__name__}, and has no goal.",
                "Decorate the function with @evoprune.objective(goal='min').",
            )
        if name in OBJECTIVES.names():
            raise ConfigError(
                f"There already is an objective named '{name}'.", "Give yours another name."
            )
    return dict(objectives)


def find(part: Part, handed: Mapping[str, FunctionObjective]) -> Objective:
    """Returns the objective that a configuration names: a registered one, or a function.

    A function that is not handed over is imported from where it was defined.

    Raises:
        ConfigError: there is none of that name, or the function is not what it was.
    """
    if "function" not in part.options or part.type in OBJECTIVES.names():
        registered: Objective = build(OBJECTIVES, part)
        return registered
    place = str(part.options["function"])
    found = handed.get(part.type) or _imported(place)
    if found is None or found.identity != part.options:
        raise ConfigError(
            f"The objective '{part.type}' was the function '{place}', which is "
            f"{'not here' if found is None else 'another one now'}.",
            "Hand it over again, `evoprune.search(…, objectives={…})`, as it was; or register it "
            "in a plug-in file, which every later command can read.",
        )
    return cast(Objective, found)


def _imported(place: str) -> FunctionObjective | None:
    """Returns the objective at ``module:name``; None if there is none."""
    module, _, name = place.partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
    return found if isinstance(found, FunctionObjective) else None
