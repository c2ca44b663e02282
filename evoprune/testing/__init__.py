"""For tests of this package and of plug-ins to it: contracts, tiny models, a made-up problem.

A plug-in is as good as it keeps the contract of its kind: ``FamilyContract``, ``check_criterion``,
``check_objective``, ``check_algorithm``. They raise AssertionError where it does not.
"""

from typing import TYPE_CHECKING, Any

__all__ = [
    "FamilyContract",
    "byte_tokenizer",
    "check_algorithm",
    "check_criterion",
    "check_objective",
    "tiny_decoder",
]

if TYPE_CHECKING:
    from evoprune.testing.algorithms import check_algorithm
    from evoprune.testing.families import FamilyContract
    from evoprune.testing.models import byte_tokenizer, tiny_decoder
    from evoprune.testing.parts import check_criterion, check_objective

_PLACES = {
    "FamilyContract": "families",
    "byte_tokenizer": "models",
    "check_algorithm": "algorithms",
    "check_criterion": "parts",
    "check_objective": "parts",
    "tiny_decoder": "models",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _PLACES:
        raise AttributeError(f"module 'evoprune.testing' has no attribute '{name}'")
    return getattr(importlib.import_module(f"evoprune.testing.{_PLACES[name]}"), name)
