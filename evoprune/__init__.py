"""One search for the whole trade-off of a trained network: accuracy, sparsity, robustness.

``search`` runs an experiment, ``Run.load`` opens a finished one, ``load`` what was exported;
``objective`` makes a function something to search for. Nothing heavy is imported before it is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["EvopruneError", "Run", "load", "load_config", "objective", "search"]

if TYPE_CHECKING:
    from evoprune.config.schema import load_config
    from evoprune.core.errors import EvopruneError
    from evoprune.loading import load
    from evoprune.objectives.function import objective
    from evoprune.run import Run, search

_PLACES = {
    "search": "evoprune.run",
    "Run": "evoprune.run",
    "load": "evoprune.loading",
    "load_config": "evoprune.config.schema",
    "EvopruneError": "evoprune.core.errors",
    "objective": "evoprune.objectives.function",
}
# Packages that a program of one's own imports (README, «adding your own»).
_PACKAGES = ("core", "testing")


def __dir__() -> list[str]:
    return sorted([*__all__, *_PACKAGES, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f"evoprune.{name}")
    from evoprune.core.errors import missing

    raise missing("The package evoprune", name, __dir__())
