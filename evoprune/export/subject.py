"""What is exported: a base model taken apart, and what a pattern does to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune.config.parts import build
from evoprune.config.sections import Part
from evoprune.core.costs import CostTable, Row
from evoprune.core.errors import ExportError
from evoprune.core.export_rungs import blocks_of, kept_blocks
from evoprune.core.pattern import Pattern
from evoprune.core.registry import ADAPTS
from evoprune.core.space import Space
from evoprune.evaluation.rank import ADAPT_FILE
from evoprune.evaluation.realise import Realised, Realiser
from evoprune.evaluation.worker import cost_table

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Source:
    """Where a searched model comes from.

    Attributes:
        folder: the run's ``ranks`` folder, with config.json and base.safetensors.
        name_or_path: the original model; its tokenizer and generation config are carried over.
        dtype: the dtype that the search computed in.
        family: the family's name.
        trust_remote_code: whether the model's own code may be run.
        revision: the original model's revision on the hub.
        adapt: the recovery that was part of every evaluation, by type and options.
    """

    folder: Path
    name_or_path: str
    dtype: str
    family: str
    trust_remote_code: bool = False
    revision: str | None = None
    adapt: Mapping[str, Any] | None = None

    @property
    def label(self) -> str:
        """The original model's name; for a folder its last part, so that no path is published."""
        path = Path(self.name_or_path)
        return path.resolve().name if path.exists() else self.name_or_path


@dataclass(frozen=True)
class ExportSubject:
    """A base model, its family and table, and a pattern over its sites.

    Attributes:
        added: the tensors that the recovery gives the pattern, by name.
    """

    model: Any
    family: Any
    table: CostTable
    space: Space
    pattern: Pattern
    realised: Realised
    parents: Mapping[str, str | None]
    added: Mapping[str, "torch.Tensor"] = field(default_factory=dict)

    @classmethod
    def load(cls, source: Source, space: Space, pattern: Pattern, dtype: str) -> "ExportSubject":
        """Returns the base model in a dtype, taken apart.

        Raises:
            ExportError: the space was made for another model.
            ModelError: the base cannot be read.
        """
        from evoprune.families.load import family_of, load_base

        model = load_base(Path(source.folder), dtype, "cpu", source.trust_remote_code)
        family = family_of(model, source.family)
        sites = {site.name: site for site in family.sites(model)}
        if sites != dict(space.sites):
            raise ExportError(
                f"The space '{space.name}' has other sites than the model in the ranks folder.",
                "Use the space and the ranks of one and the same run.",
            )
        realised = Realised.of(space.options(pattern))
        return cls(
            model=model,
            family=family,
            table=family.table(model, 1),
            space=space,
            pattern=pattern,
            realised=realised,
            parents={site.name: site.parent for site in sites.values()},
            added=_recovered(source, model, family, realised),
        )

    @property
    def kept(self) -> list[int]:
        """The numbers of the blocks that stay.

        A block without any of its parts is none, unless it still does something, such as norming.
        """
        if not getattr(self.family, "empty_blocks_stay", lambda model: False)(self.model):
            return kept_blocks(self.space, self.pattern)
        X = self.space.encode([self.pattern])
        blocks = blocks_of(self.space)
        return [i for i, block in enumerate(blocks) if self.space.alive(X, block.name)[0]]

    def params(self, pattern: Pattern) -> int:
        """Returns how many parameters a pattern keeps, by the cost table."""
        X = self.space.encode([pattern])
        return round(float(self.table.cost("params", self.space, X)[0]))

    @property
    def new(self) -> list[str]:
        """The tensors of the recovery that the base model does not have."""
        held = {row.name for row in self.table.tensors()}
        return sorted(set(self.added) - held)

    def expected_params(self) -> int:
        """Returns how many parameters a physically smaller model must have.

        The search counts the biases of a recovery in every layer that may need one; here they
        exist where units were removed.
        """
        return self.params(self.pattern) + sum(self.added[name].numel() for name in self.new)

    def buffers(self) -> dict[str, "torch.Tensor"]:
        """Returns the buffers that are saved with the weights."""
        held = self.model.state_dict()
        return {name: held[name] for name, _ in self.model.named_buffers() if name in held}

    def rebuild(self, config: Any, state: Mapping[str, "torch.Tensor"], kind: Any = None) -> Any:
        """Returns a model with another configuration and state.

        Args:
            config: of the new model.
            state: all of its tensors.
            kind: its class; that of the base by default.

        Raises:
            ExportError: the state does not fit the configuration exactly.
        """
        kind = kind or type(self.model)
        try:
            made, info = kind.from_pretrained(
                None,
                config=config,
                state_dict=dict(state),
                dtype=self.model.dtype,
                output_loading_info=True,
            )
        except RuntimeError as error:  # what transformers raises for tensors of another shape
            raise _unlike(kind.__name__, str(error)) from error
        wrong = sorted({*info["missing_keys"], *info["unexpected_keys"]})
        if wrong:
            raise _unlike(kind.__name__, f"{len(wrong)} tensors do not match: {wrong[0]} …")
        return made.eval().requires_grad_(False)

    def logits(self, tokens: np.ndarray) -> np.ndarray:
        """Returns the realised pattern's logits (N, T, V) of tokens (N, T): ``answers``."""
        return self.answers({"tokens": tokens})

    def answers(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Returns the realised pattern's logits of inputs, each (N, …), by the stages.

        They are computed in float32 at least, from the weights as they are exported: the model is
        converted, so call this last.
        """
        import torch

        from evoprune.families.stages import batch_of, forward

        model = self.model if self.model.dtype == torch.float64 else self.model.float()
        stages, options = self.family.stages(model), self.space.options(self.pattern)
        attrs = self.family.attrs(model) if hasattr(self.family, "attrs") else ()
        realiser = Realiser(model, self.table, (_Stored(self.added), {}), attrs)
        found = []
        with torch.inference_mode(), realiser.apply(options) as realised:
            for row in range(len(next(iter(inputs.values())))):
                batch = batch_of(inputs, slice(row, row + 1), "cpu")
                features = forward(stages, batch, realised.dropped)
                found.append(stages.logits(features).numpy())
        return np.concatenate(found)


@dataclass(frozen=True)
class _Stored:
    """A recovery whose result is known: rounded to the dtype of the export, as it is written."""

    added: Mapping[str, "torch.Tensor"]

    def prepare(self, subject: Any) -> dict[str, np.ndarray]:
        return {}

    def rows(self, table: CostTable) -> tuple[Row, ...]:
        return ()

    def tensors(
        self,
        model: Any,
        table: CostTable,
        kept: Mapping[str, np.ndarray],
        stored: Mapping[str, np.ndarray],
    ) -> dict[str, "torch.Tensor"]:
        return {name: tensor.to(model.dtype) for name, tensor in self.added.items()}


def _recovered(
    source: Source, model: Any, family: Any, realised: Realised
) -> dict[str, "torch.Tensor"]:
    """Returns the tensors that the search's recovery gives a pattern."""
    if source.adapt is None:
        return {}
    from safetensors.numpy import load_file

    adapt = build(ADAPTS, Part.model_validate(dict(source.adapt)))
    # A space without widths has nothing to recover, and then nothing was kept.
    path = Path(source.folder) / ADAPT_FILE
    stored = load_file(path) if path.is_file() else {}
    table = cost_table(family, model, 1, source.adapt)
    return Realiser(model, table, (adapt, stored)).delta(realised)


def _unlike(kind: str, why: str) -> ExportError:
    return ExportError(
        f"The weights of the pattern do not fit {kind}: {' '.join(why.split())[:200]}.",
        "Report this: the family and the class disagree about the model.",
    )
