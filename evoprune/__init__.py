"""One search for the whole trade-off of a trained network: accuracy, sparsity, robustness.

``search`` runs an experiment, ``Run.load`` opens a finished one, ``objective`` makes a function
something to search for. Nothing heavy is imported before
it is used.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["EvopruneError", "Run", "load", "load_config", "objective", "search"]

if TYPE_CHECKING:
    from evoprune.config import load_config
    from evoprune.errors import EvopruneError
    from evoprune.loading import load
    from evoprune.objectives.function import objective
    from evoprune.run import Run, search

_PLACES = {
    "load": "evoprune.loading",
    "Run": "evoprune.run",
    "load_config": "evoprune.config",
    "EvopruneError": "evoprune.errors",
    "objective": "evoprune.objectives.function",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name == "search":  # a package that can be called
        return importlib.import_module("evoprune.search")
    if name not in _PLACES:
        raise AttributeError(f"module 'evoprune' has no attribute '{name}'")
    return getattr(importlib.import_module(_PLACES[name]), name)
