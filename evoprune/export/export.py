"""Exports a pattern of a decoder: the writers of the rungs, and what is carried over."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evoprune.core.errors import ExportError
from evoprune.core.export_rungs import LADDER, ExportRung, UnfitError, equal_widths, rung_of
from evoprune.core.pattern import Pattern
from evoprune.core.registry import FAMILIES
from evoprune.core.space import Space
from evoprune.export.beside import carry_over
from evoprune.export.card import Card, check_target, record_error
from evoprune.export.decoder_card import linear_names, words
from evoprune.export.heterogeneous import differ, layer_table
from evoprune.export.homogeneous import shrink, smaller_config
from evoprune.export.masked import mask
from evoprune.export.measure import measure_export
from evoprune.export.order import Order
from evoprune.export.subject import ExportSubject, Source
from evoprune.export.verify import verify as verify_export
from evoprune.export.writing import DTYPES, Exported, check_dtype, weight_bytes, writing

__all__ = ["DecoderExporter", "Exported", "Source", "export_pattern"]

SHARD = "5GB"
TOLERANCE = {"float64": 1e-9}  # of the largest logit; 1e-4 in the other dtypes
# What returns the model of each rung, to be written, or raises UnfitError.
MODELS: dict[ExportRung, Callable[[ExportSubject], Any]] = {
    "homogeneous": shrink,
    "heterogeneous": differ,
    "dense-masked": mask,
}


Models = Mapping[ExportRung, Callable[[ExportSubject], Any]]
# Returns the error of an export that was loaded again: of what, where from, how, in which folder.
Check = Callable[[ExportSubject, Source, ExportRung, Path], float]


@dataclass(frozen=True)
class Way:
    """How models of a family are exported.

    Attributes:
        models: what returns the model of each rung, to be written, or raises UnfitError.
        check: loads an export again and compares.
    """

    models: Models
    check: Check


def export_pattern(
    source: Source,
    space: Space,
    pattern: Pattern,
    path: Path | str,
    *,
    scores: Mapping[str, float],
    provenance: Mapping[str, Any],
    tokens: np.ndarray | None = None,
    way: Way | None = None,
    verify: bool = True,
    verifying: Callable[[], None] = lambda: None,
    dtype: str | None = None,
) -> Exported:
    """Writes a pattern as a model on the highest rung that it allows, and loads it again.

    Args:
        source, space, pattern: what is exported; the space is the pattern's.
        path: the folder; an earlier export there is replaced, anything else is refused.
        scores: column → value (``val_nll``, ``report_nll_low`` …) for the model card.
        provenance: what the run says of itself, as JSON.
        tokens: (N, T) int64 without padding, to verify with; random ones by default.
        way: of the pattern's family; that of decoders by default.
        verify: whether to load the export in a fresh process and compare.
        verifying: called when that begins.
        dtype: of the weights written; by default the original model's, or that of the search
            where this is narrower.

    Raises:
        ExportError: the path is taken, the disk is full, or the export is not what was searched.
    """
    target = Path(path).resolve()
    check_target(target)
    chosen = _dtype(source, dtype)
    subject = ExportSubject.load(source, space, pattern, chosen)
    way = way or Way(MODELS, partial(_verified, tokens))
    with writing(target) as folder:
        rung, reason, model = _climb_down(subject, way.models)
        model.save_pretrained(folder, max_shard_size=SHARD)
        params = sum(parameter.numel() for parameter in model.parameters())
        carried = carry_over(source, folder)
        size = weight_bytes(folder)
        sizes = (subject.params(space.dense), params), size
        layers, linears = _layers(subject, rung), linear_names(model)
        said = words(source, rung, layers, carried, linears, type(subject.model))
        made = (rung, reason, chosen, *sizes, scores, provenance, said)
        Card(source, space, pattern, *made).write(folder)
        error = None
        if verify:
            verifying()
            error = way.check(subject, source, rung, folder)
            record_error(folder, error)
    return Exported(target, rung, reason, params, size, error)


class DecoderExporter:
    """Exports the models of the family ``decoder``."""

    def rungs(
        self, source: Source, space: Space, patterns: Sequence[Pattern]
    ) -> list[tuple[ExportRung, str]]:
        """Returns the highest rung that each pattern allows, and a sentence that says why.

        What narrows every block alike is asked of the model's class as well: not every number of
        heads suits it. Patterns with the same widths are asked once.
        """
        from evoprune.families.load import base_config

        found = [rung_of(space, pattern) for pattern in patterns]
        config = base_config(source.folder, source.trust_remote_code)
        family = FAMILIES.load(source.family)()
        refused: dict[str, str] = {}
        for i, (rung, _) in enumerate(found):
            widths = equal_widths(space, patterns[i]) if rung == "homogeneous" else {}
            if not widths:
                continue
            name = str(sorted(widths.items()))
            if name not in refused and source.adapt is None:
                refused[name] = family.refusal(config, widths)
            elif name not in refused:  # only the model says which tensors a recovery adds to it
                refused[name] = _refusal(
                    ExportSubject.load(source, space, patterns[i], source.dtype)
                )
            if refused[name]:
                found[i] = "heterogeneous", refused[name]
        return found

    def write(
        self, order: Order, path: Path, *, verify: bool = True, dtype: str | None = None
    ) -> Exported:
        """Writes a model into a folder (``export_pattern``)."""
        return export_pattern(
            order.source,
            order.space,
            order.pattern,
            path,
            scores=order.scores,
            provenance=order.provenance,
            tokens=order.examples.clean.arrays["tokens"][:2],
            verify=verify,
            verifying=order.verifying,
            dtype=dtype,
        )

    def measure(self, order: Order, path: Path) -> Mapping[str, Any]:
        """Times an export beside the dense model, and writes that into its card."""
        return measure_export(path, order.source, order.examples.clean.arrays["tokens"][:8])


def _refusal(subject: ExportSubject) -> str:
    """Returns why the model's own class cannot hold a homogeneous pattern; empty where it can."""
    try:
        smaller_config(subject)
    except UnfitError as why:
        return str(why)
    return ""


def _layers(subject: ExportSubject, rung: ExportRung) -> tuple[Mapping[str, str], ...]:
    return tuple(layer_table(subject)) if rung == "heterogeneous" else ()


def _climb_down(subject: ExportSubject, models: Models) -> tuple[ExportRung, str, Any]:
    """Returns the first rung, from the highest allowed down, that takes the model, why, and it."""
    highest, reason = rung_of(subject.space, subject.pattern)
    for rung in LADDER[LADDER.index(highest) :]:
        if rung not in models:
            continue
        try:
            return rung, reason, models[rung](subject)
        except UnfitError as why:
            reason = str(why)
    raise ExportError(f"No rung holds the pattern: {reason}", "Export another pattern.")


def _dtype(source: Source, asked: str | None) -> str:
    """Returns the dtype to export in."""
    import torch
    from transformers import AutoConfig

    if asked is not None:
        return check_dtype(asked)
    try:
        config = AutoConfig.from_pretrained(
            source.name_or_path,
            revision=source.revision,
            trust_remote_code=source.trust_remote_code,
        )
    except Exception:  # a model made in memory has no folder to ask
        return source.dtype
    stored = str(getattr(config, "dtype", None)).removeprefix("torch.")
    if stored not in DTYPES:
        return source.dtype
    width = {name: getattr(torch, name).itemsize for name in DTYPES}
    return stored if width[stored] < width[source.dtype] else source.dtype


def _verified(
    tokens: np.ndarray | None,
    subject: ExportSubject,
    source: Source,
    rung: ExportRung,
    folder: Path,
) -> float:
    if tokens is None or tokens.size == 0:
        vocabulary = subject.model.get_input_embeddings().weight.shape[0]
        tokens = np.random.default_rng(0).integers(0, vocabulary, (2, 24))
    # Enough to tell, and the logits of a large vocabulary still fit.
    tokens = tokens[:4, :64]
    expected = subject.logits(tokens)
    tolerance = TOLERANCE.get(str(expected.dtype), 1e-4)
    own = rung == "heterogeneous"
    return verify_export(
        folder,
        tokens,
        expected,
        tolerance,
        trust_remote_code=source.trust_remote_code or own,
        refused_by=type(subject.model).__name__ if own else None,
    )
