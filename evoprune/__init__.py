"""One search for the whole trade-off of a trained network: accuracy, sparsity, robustness.

``search`` runs an experiment, ``Run.load`` opens a finished one, ``load`` what was exported;
``objective`` makes a function something to search for. Nothing heavy is imported before it is used.
"""

import importlib
import sys
from types import ModuleType
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
# Modules that a program of one's own imports (README, «adding your own»).
_MODULES = ("errors", "metrics", "registry", "testing")


class _Package(ModuleType):
    """This package, in which ``search`` is the function and not the subpackage of that name.

    Importing a subpackage makes it an attribute of its parent; here the function keeps its place,
    and has the subpackage's modules as attributes, so that ``evoprune.search.loop`` is found.
    """

    @property
    def search(self) -> Any:
        """The function ``evoprune.run.search``."""
        found = importlib.import_module("evoprune.run").search
        package = sys.modules["evoprune.search"]
        vars(found).update({n: v for n, v in vars(package).items() if isinstance(v, ModuleType)})
        return found

    @search.setter
    def search(self, package: ModuleType) -> None:
        """Leaves the function where it is; the package is in ``sys.modules``."""

    def __dir__(self) -> list[str]:
        return sorted([*__all__, *_MODULES, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"evoprune.{name}")
    from evoprune.errors import missing

    raise missing("The package evoprune", name, dir(sys.modules[__name__]))


sys.modules[__name__].__class__ = _Package
