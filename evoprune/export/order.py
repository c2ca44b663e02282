"""What is to be exported, and who exports the models of a family."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from evoprune.core.errors import ExportError
from evoprune.core.export_rungs import ExportRung
from evoprune.core.pattern import Pattern
from evoprune.core.registry import FAMILIES
from evoprune.core.space import Space
from evoprune.data.examples import Examples
from evoprune.export.subject import Source
from evoprune.export.writing import Exported

if TYPE_CHECKING:
    from evoprune.evaluation.worker import Worker


@dataclass(frozen=True)
class Order:
    """A point of a run that is to become a model.

    Attributes:
        source: the base that was searched.
        space, pattern: the point; the space is the pattern's.
        scores: column → value (``val_nll``, ``report_nll_low`` …) for the model card.
        provenance: what the run says of itself, as JSON.
        examples: of the validation split.
        worker: makes a worker of the run, for what must be fitted or scored again.
        verifying: called when the model is written and its verification begins.
    """

    source: Source
    space: Space
    pattern: Pattern
    scores: Mapping[str, float]
    provenance: Mapping[str, Any]
    examples: Examples
    worker: "Callable[[], Worker]"
    verifying: Callable[[], None] = lambda: None


class Exporter(Protocol):
    """Exports the models of a family, whose ``exporter`` names it: ``module:class``."""

    def rungs(
        self, source: Source, space: Space, patterns: Sequence[Pattern]
    ) -> list[tuple[ExportRung, str]]:
        """Returns the highest rung that each pattern allows, and a sentence that says why."""
        ...

    def write(
        self, order: Order, path: Path, *, verify: bool = True, dtype: str | None = None
    ) -> Exported:
        """Writes a model into a folder.

        Args:
            order: what is exported.
            path: an earlier export there is replaced, anything else is refused.
            verify: whether to load it in a fresh process and compare.
            dtype: of the weights written; the family's choice by default.

        Raises:
            ExportError: the path is taken, the disk is full, or the export is not what was
                searched.
        """
        ...

    def measure(self, order: Order, path: Path) -> Mapping[str, Any]:
        """Times an export beside the dense model, and writes that into its card."""
        ...


def exporter_of(family: str) -> Exporter:
    """Returns who exports the models of a family.

    Raises:
        ExportError: nobody does, or whoever the family names is not there.
    """
    place = getattr(FAMILIES.load(family), "exporter", None)
    if place is None:
        raise ExportError(
            f"Models of the family '{family}' cannot be exported.",
            "Its patterns are in front.json, by site in space.json; the family names no exporter.",
        )
    module, _, name = place.partition(":")
    try:
        made: Exporter = getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError, ValueError) as error:
        raise ExportError(
            f"The exporter '{place}' of the family '{family}' is not there: {error}.",
            "Name it as `module:class` in the family's `exporter`.",
        ) from error
    return made
