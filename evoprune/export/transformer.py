"""Exports patterns of any transformer: as its own class where that can hold them, else cut."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evoprune.core.errors import ExportError
from evoprune.core.export_rungs import ExportRung, UnfitError, equal_widths, kept_blocks, rung_of
from evoprune.core.pattern import Pattern
from evoprune.core.registry import FAMILIES
from evoprune.core.space import Space
from evoprune.export.autos import auto_class
from evoprune.export.export import Way, export_pattern
from evoprune.export.homogeneous import check_params, shrink, smaller_state
from evoprune.export.order import Order
from evoprune.export.subject import ExportSubject, Source
from evoprune.export.verify import verify, verify_inputs
from evoprune.export.writing import Exported

NORMING = "A block without its parts still norms what passes through it"


def same_class(subject: ExportSubject) -> Any:
    """Returns the smaller model of the base's own class.

    Raises:
        UnfitError: it cannot hold the pattern.
    """
    if set(subject.kept) != set(kept_blocks(subject.space, subject.pattern)):
        raise UnfitError(f"{NORMING}, which {type(subject.model).__name__} cannot do.")
    return shrink(subject)


def cut_class(subject: ExportSubject) -> Any:
    """Returns the smaller model, its own class with parts taken out of it.

    Its ``save_pretrained`` writes the modelling file too.

    Raises:
        UnfitError: the class is none of transformers', or no block is left.
    """
    import transformers

    from evoprune.export import modeling_evoprune_cut

    stock = type(subject.model.config), type(subject.model)
    for kind in stock:
        if getattr(transformers, kind.__name__, None) is not kind:
            raise UnfitError(f"'{kind.__name__}' is no class of transformers, so it cannot be cut.")
    if not subject.kept:
        raise UnfitError("No block is left, and a smaller model needs at least one.")
    config_class, model_class = (
        getattr(modeling_evoprune_cut, modeling_evoprune_cut.PREFIX + kind.__name__)
        for kind in stock
    )
    state = smaller_state(subject)
    config = subject.family.keep_blocks(subject.model.config, subject.kept).to_dict()
    config["evoprune_cuts"] = cuts(subject, state)
    made = subject.rebuild(config_class.from_dict(config), state, model_class)
    check_params(subject, made)
    return made


def cuts(subject: ExportSubject, state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what of the stock class is cut, as ``modeling_evoprune_cut`` reads it.

    Args:
        subject: what is exported.
        state: its tensors, by their new names.
    """
    layout, realised = subject.family.layout(subject.model), subject.realised
    held = subject.model.state_dict()
    old = subject.family.block_tensors(subject.model, subject.kept, list(held))
    shapes = {
        name: list(tensor.shape)
        for name, tensor in state.items()
        if tuple(tensor.shape) != tuple(held[old[name]].shape)
    }
    blocks = layout.blocks[0].module.rpartition(".")[0]
    found: dict[str, Any] = {"shapes": shapes, "absent": {}, "numbers": {}}
    attending: list[int] = []
    for number, index in enumerate(subject.kept):
        block, name = layout.blocks[index], f"{blocks}.{number}"
        for part in ("attn", "mlp"):
            if f"layers.{index}.{part}" in realised.dropped:
                for module, one in block.absent(part).items():
                    found["absent"][f"{name}.{module}"] = vars(one)
            elif part == "attn" and block.attention is not None:
                attending.append(number)
        for attr in block.attrs:
            kept = realised.kept.get(f"layers.{index}.{attr.site}")
            if kept is not None:
                module = f"{name}.{attr.module.removeprefix(f'{block.module}.')}"
                found["numbers"].setdefault(module, {})[attr.name] = attr.per_unit * len(kept)
    cores = [layout.blocks[subject.kept[n]].attention for n in attending]
    names = [f"{blocks}.{n}.{core.core}" for n, core in zip(attending, cores, strict=True) if core]
    numbered = [subject.model.get_submodule(layout.blocks[0].module)]
    if any(hasattr(module, "layer_idx") for one in numbered for module in one.modules()):
        # Only a model that decodes keeps a cache whose slots are numbered.
        found |= {"attending": attending, "slots": names}
    return found


class TransformerExporter:
    """Exports the models of the family ``transformer``."""

    def rungs(
        self, source: Source, space: Space, patterns: Sequence[Pattern]
    ) -> list[tuple[ExportRung, str]]:
        """Returns the highest rung that each pattern allows, and a sentence that says why."""
        from evoprune.families.load import load_base

        family = FAMILIES.load(source.family)()
        model = load_base(source.folder, source.dtype, "cpu", source.trust_remote_code)
        stay, known = family.empty_blocks_stay(model), dict[str, str]()
        found: list[tuple[ExportRung, str]] = []
        for pattern in patterns:
            rung, why = rung_of(space, pattern)
            if rung == "homogeneous":
                widths = equal_widths(space, pattern)
                name = str(sorted(widths.items()))
                if name not in known:
                    known[name] = family.refusal(model.config, widths) if widths else ""
                why_not = known[name] or (NORMING if stay and _emptied(space, pattern) else "")
                rung, why = ("heterogeneous", why_not) if why_not else (rung, why)
            found.append((rung, why))
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
            way=Way({"homogeneous": same_class, "heterogeneous": cut_class}, _checker(order)),
            verify=verify,
            verifying=order.verifying,
            dtype=dtype,
        )

    def measure(self, order: Order, path: Path) -> Mapping[str, Any]:
        """Times an export beside the dense model: not of these models yet.

        Raises:
            ExportError: always.
        """
        raise ExportError(
            f"Exports of the family '{order.source.family}' cannot be timed yet.",
            "Leave --measure out; its FLOPs are in the front.",
        )


def _emptied(space: Space, pattern: Pattern) -> bool:
    """Returns whether a block is left that has lost all its parts."""
    X = space.encode([pattern])
    blocks = [site for site in space.sites.values() if site.kind == "block"]
    alive = {i for i, block in enumerate(blocks) if space.alive(X, block.name)[0]}
    return alive != set(kept_blocks(space, pattern))


def _checker(order: Order) -> Any:
    """Returns what holds an export against what was searched, on a few examples."""
    arrays = order.examples.clean.arrays

    def check(subject: ExportSubject, source: Source, rung: ExportRung, folder: Path) -> float:
        stages = subject.family.stages(subject.model)
        inputs = {name: arrays[name][:4] for name in stages.inputs if name in arrays}
        if "tokens" in arrays:  # the longest stretch without padding, and caches beside it
            length = int(arrays["lengths"][:4].min())
            tokens = np.ascontiguousarray(arrays["tokens"][:4, :length])
            expected = subject.answers({"input_ids": tokens})
            tolerance = 1e-9 if expected.dtype == np.float64 else 1e-4
            own = rung == "heterogeneous"
            return verify(
                folder,
                tokens,
                expected,
                tolerance,
                trust_remote_code=source.trust_remote_code or own,
                refused_by=type(subject.model).__name__ if own else None,
            )
        expected = subject.answers(inputs)
        return verify_inputs(
            folder,
            inputs,
            expected,
            1e-9 if expected.dtype == np.float64 else 1e-4,
            trust_remote_code=source.trust_remote_code or rung == "heterogeneous",
            auto=auto_class(type(subject.model)),
        )

    return check
