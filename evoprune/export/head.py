"""Exports a masked head: with its backbone, cut, as one network of its own; or else by itself."""

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune.core.costs import CostTable, Row
from evoprune.core.errors import ExportError
from evoprune.core.export_rungs import ExportRung
from evoprune.core.pattern import Pattern
from evoprune.core.registry import FAMILIES
from evoprune.core.space import Space
from evoprune.evaluation.realise import Realised
from evoprune.export.card import Card, check_target, record_error
from evoprune.export.head_card import words
from evoprune.export.measure_head import measure_head
from evoprune.export.order import Order
from evoprune.export.subject import Source
from evoprune.export.verify import difference, verify_head
from evoprune.export.writing import Exported, check_dtype, weight_bytes, writing

if TYPE_CHECKING:
    import torch

    from evoprune.families.sparse_head.graph import Graph
    from evoprune.families.sparse_head.network import HeadNetwork

TOLERANCE = 1e-4  # of the largest logit
SCORED = 1e-3  # of a value on validation, or absolute
FEATURES = "features"
MODELLING = "modeling_head.py"


@dataclass(frozen=True)
class HeadSubject:
    """A pattern of a backbone with a head, and the head that was fitted for it.

    Attributes:
        network: of the run's base.
        table: its cost table.
        space, pattern: what is kept.
        state: the fitted head (``HeadRunner.states``).
    """

    network: "HeadNetwork"
    table: CostTable
    space: Space
    pattern: Pattern
    state: Mapping[str, "torch.Tensor"]

    @classmethod
    def of(cls, family: Any, network: Any, space: Space, pattern: Pattern) -> "HeadSubject":
        """Returns the subject of a pattern, its head fitted as it was for its scores."""
        runner = family.runner(network, None, "cpu")
        state = runner.states([space.options(pattern)])[0]
        return cls(network, family.table(network), space, pattern, state)

    @cached_property
    def realised(self) -> Realised:
        """What the pattern does."""
        return Realised.of(self.space.options(self.pattern))

    @property
    def reads(self) -> np.ndarray:
        """The features that the head reads (d,)."""
        found: np.ndarray = self.state["features"].numpy()
        return found

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Returns the logits (N, C) that were scored, of all features (N, D)."""
        import torch

        from evoprune.families.sparse_head.heads import forward

        scaled = torch.from_numpy(features).double() / self.state["scale"]
        return forward(dict(self.state), scaled[:, self.state["features"]]).numpy()

    def params(self, pattern: Pattern, rung: ExportRung = "standalone") -> int:
        """Returns how many parameters a pattern keeps, by the cost table; backbone or not."""
        rows = self.table.rows
        if rung == "head-only":
            rows = tuple(row for row in rows if not row.name.startswith("backbone."))
        X = self.space.encode([pattern])
        return round(float(CostTable(rows).cost("params", self.space, X)[0]))


def rung_of(network: "HeadNetwork") -> tuple[ExportRung, str]:
    """Returns the rung that a network's heads are exported on, and a sentence that says why."""
    blueprint = network.blueprint
    if blueprint.graph is None:
        reason = blueprint.reason[:1].upper() + blueprint.reason[1:].rstrip(".")
        return "head-only", f"{reason}; so the head reads the features of a backbone of your own."
    return "standalone", "The backbone could be traced, so backbone and head are one network."


def build(
    subject: HeadSubject, rung: ExportRung, dtype: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns config.json and the tensors of a network that computes a pattern.

    Args:
        subject: the pattern.
        rung: ``standalone`` or ``head-only``.
        dtype: of the tensors.

    Raises:
        ExportError: the pattern reads no feature, or the network does not have the parameters that
            the cost table counts.
    """
    import torch

    from evoprune.families.sparse_head.modeling_head import FORMAT, VERSION

    if not len(subject.reads):
        raise ExportError("The pattern reads no feature at all.", "Export another point.")
    graph, tensors = _body(subject, rung)
    graph, own = _with_head(graph, subject)
    tensors |= own
    kind = getattr(torch, dtype)
    tensors = {name: t.to(kind) if t.is_floating_point() else t for name, t in tensors.items()}
    held = sum(t.numel() for name, t in tensors.items() if name not in graph.buffers)
    counted = subject.params(subject.pattern, rung)
    if held != counted:
        raise ExportError(
            f"The network has {held:,} parameters, the cost table counts {counted:,}.",
            "Report this: the family's cost table does not describe the network.",
        )
    config = {"format": FORMAT, "version": VERSION, "dtype": dtype}
    return config | {"classes": list(subject.network.classes)} | graph.config(), tensors


def _body(subject: HeadSubject, rung: ExportRung) -> tuple["Graph", dict[str, Any]]:
    """Returns the graph that gives the features that the head reads, and its tensors."""
    import torch

    from evoprune.families.sparse_head.channels import cut
    from evoprune.families.sparse_head.family import dims
    from evoprune.families.sparse_head.graph import Graph

    blueprint, whole = subject.network.blueprint, subject.network.architecture.features
    if rung == "head-only" or blueprint.graph is None:
        graph = Graph((whole,), (), FEATURES, {}, input=FEATURES)
    else:
        graph = blueprint.graph
    graph, indices = cut(graph, blueprint.cuts, subject.reads)
    tensors = {name: torch.from_numpy(index) for name, index in indices.items()}
    for name, shape in graph.tensors.items():
        if name not in indices:
            tensor = subject.network.weights[name]
            row = Row(name, dims(blueprint, name, tensor.shape))
            tensors[name] = subject.realised.cut(tensor, row).clone(
                memory_format=torch.contiguous_format
            )
            assert tensors[name].shape == shape
    return graph, tensors


def _with_head(graph: "Graph", subject: HeadSubject) -> tuple["Graph", dict[str, Any]]:
    """Returns a graph that goes on to the logits, and the head's tensors."""
    from evoprune.families.sparse_head.graph import Step

    layers = len(subject.network.architecture.hidden)
    names = [*(f"hidden.{i}.weight" for i in range(layers)), "output.weight", "output.bias"]
    tensors = {name: subject.state[name].clone() for name in names}
    # Features are divided by a scale before they are read; here the first kernel is.
    tensors[names[0]] /= subject.state["scale"]
    steps: list[Step] = []
    last = f"@{graph.output}"
    for i in range(layers):
        steps.append(Step(f"hidden_{i}", "linear", [last, f"%hidden.{i}.weight"], {}))
        steps.append(Step(f"hidden_{i}_relu", "relu", [f"@hidden_{i}"], {}))
        last = f"@hidden_{i}_relu"
    steps.append(Step("logits", "linear", [last, "%output.weight", "%output.bias"], {}))
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    made = replace(
        graph,
        steps=(*graph.steps, *steps),
        output="logits",
        tensors={**graph.tensors, **shapes},
    )
    return made, {name: tensor.contiguous() for name, tensor in tensors.items()}


def export_head(
    subject: HeadSubject,
    source: Source,
    path: Path | str,
    *,
    scores: Mapping[str, float],
    provenance: Mapping[str, Any],
    verify: bool = True,
    verifying: Callable[[], None] = lambda: None,
    dtype: str | None = None,
) -> Exported:
    """Writes a pattern as a network on the highest rung, and loads it again.

    Args:
        subject: what is exported.
        source: the base that was searched.
        path: the folder; an earlier export there is replaced, anything else is refused.
        scores: column → value (``val_accuracy`` …) for the model card.
        provenance: what the run says of itself, as JSON.
        verify: whether to load the export in a fresh process and compare.
        verifying: called when that begins.
        dtype: of the weights written; float32 by default, in which backbones compute.

    Raises:
        ExportError: the path is taken, the disk is full, or the export is not what was searched.
    """
    from safetensors.torch import save_file

    from evoprune.families.sparse_head import modeling_head

    target = Path(path).resolve()
    check_target(target)
    chosen = check_dtype(dtype or "float32")
    rung, reason = rung_of(subject.network)
    config, tensors = build(subject, rung, chosen)
    with writing(target) as folder:
        text = modeling_head.written(config)
        (folder / "config.json").write_text(text, encoding="utf-8", newline="\n")
        save_file(tensors, folder / modeling_head.WEIGHTS, metadata={"format": "pt"})
        shutil.copyfile(modeling_head.__file__, folder / MODELLING)
        size, params = weight_bytes(folder), subject.params(subject.pattern, rung)
        sizes = (subject.params(subject.space.dense, rung), params), size
        said = words(subject.network, subject.realised, rung, config)
        made = (rung, reason, chosen, *sizes, scores, provenance, said)
        Card(source, subject.space, subject.pattern, *made).write(folder)
        error = None
        if verify:
            verifying()
            error = _verified(subject, rung, folder, config, tensors)
            record_error(folder, error)
    return Exported(target, rung, reason, params, size, error)


def sample_inputs(subject: HeadSubject, rung: ExportRung) -> np.ndarray:
    """Returns what an export on a rung reads of the images that the base keeps, (N, …)."""
    network = subject.network
    return network.sample_features if rung == "head-only" else network.samples


def _verified(
    subject: HeadSubject,
    rung: ExportRung,
    folder: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, "torch.Tensor"],
) -> float:
    """Returns the largest error, of the network and of what a fresh process finds in the folder."""
    import torch

    from evoprune.families.sparse_head.modeling_head import PrunedNetwork

    inputs = sample_inputs(subject, rung)
    dtype = torch.float64 if config["dtype"] == "float64" else torch.float32
    whole = build(subject, rung, str(dtype).removeprefix("torch."))[1]
    with torch.inference_mode():
        found = PrunedNetwork(config, whole)(torch.from_numpy(inputs)).numpy()
        # The fresh process computes with the weights as they were rounded.
        written = {n: t.to(dtype) if t.is_floating_point() else t for n, t in tensors.items()}
        expected = PrunedNetwork(config, written)(torch.from_numpy(inputs)).numpy()
    error = difference(found, subject.logits(subject.network.sample_features))
    # Negated so that NaN fails.
    if not error <= TOLERANCE:
        raise ExportError(
            f"The network's logits are not those of the head that was scored (by {error:.1e} of "
            f"the largest; {TOLERANCE:.0e} is allowed).",
            "Report this; `verify: false` keeps the export for a look at it.",
        )
    return max(error, verify_head(folder, inputs, expected, TOLERANCE))


class HeadExporter:
    """Exports the models of the family ``sparse_head``."""

    def rungs(
        self, source: Source, space: Space, patterns: Sequence[Pattern]
    ) -> list[tuple[ExportRung, str]]:
        """Returns the highest rung that each pattern allows, and a sentence that says why."""
        network = FAMILIES.load(source.family)().read(source.folder, source.dtype, "cpu")
        return [rung_of(network)] * len(patterns)

    def write(
        self, order: Order, path: Path, *, verify: bool = True, dtype: str | None = None
    ) -> Exported:
        """Writes a model into a folder (``export_head``).

        Its head is fitted again, and must have the values on validation that it was scored with.
        """
        worker = order.worker()
        subject = HeadSubject.of(worker.family, worker.model, order.space, order.pattern)
        if verify:
            found = worker.evaluate(order.pattern, "validation")
            if found.error is not None:
                raise ExportError(
                    f"The head was fitted again, and cannot be scored: {found.error}.",
                    "Export where the search ran, with the same versions (manifest.json).",
                )
            _check_scores(found.values, order.scores)
        return export_head(
            subject,
            order.source,
            path,
            scores=order.scores,
            provenance=order.provenance,
            verify=verify,
            verifying=order.verifying,
            dtype=dtype,
        )

    def measure(self, order: Order, path: Path) -> Mapping[str, Any]:
        """Times an export beside the dense network, and writes that into its card."""
        worker = order.worker()
        dense = HeadSubject.of(worker.family, worker.model, order.space, order.space.dense)
        rung, _ = rung_of(dense.network)
        return measure_head(
            path, lambda dtype: build(dense, rung, dtype), sample_inputs(dense, rung)
        )


def _check_scores(found: Mapping[str, float], scores: Mapping[str, float]) -> None:
    """Checks that a head that was fitted again has the values that it was scored with.

    Raises:
        ExportError: it has others.
    """
    for name, value in found.items():
        scored = scores.get(f"val_{name}", value)
        # What cannot be told, such as an AUROC without anything outside, still cannot be told.
        if math.isnan(value) and math.isnan(scored):
            continue
        if not math.isclose(value, scored, rel_tol=SCORED, abs_tol=SCORED):
            raise ExportError(
                f"The head was fitted again, and its {name} on validation is {value:.6g}, not "
                f"{scored:.6g} as when it was scored.",
                "Export where the search ran, with the same versions (manifest.json).",
            )
