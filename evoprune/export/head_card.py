"""What the model card of a head says that those of other models do not."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evoprune.core.export_rungs import ExportRung
from evoprune.evaluation.realise import Realised
from evoprune.export.card import Words, table

if TYPE_CHECKING:
    from evoprune.families.sparse_head.network import HeadNetwork

TRAINED = """\
The backbone is as it was; the head was fitted for these features and neurons, on the training \
split."""
LOADING = """\
```python
import torch
from modeling_head import load  # the file beside this card: run there, or put it on sys.path

model = load(".")
logits = model(torch.zeros(1, {shape}))  # {inputs}
```

It needs torch and safetensors, and not evoprune. `model.classes` names the classes{classes}. \
`evoprune.load(".")` gives the same model and runs none of the folder's code: \
what the model computes is data, the steps in `config.json`. It can be trained further: gradients \
reach all parameters, batch norms keep their statistics, dropout stays off; `model.save(folder)` \
writes it again."""


def words(
    network: "HeadNetwork", realised: Realised, rung: ExportRung, config: Mapping[str, Any]
) -> Words:
    """Returns what is said of an exported head.

    Args:
        network: what it is a part of.
        realised: what the pattern removes.
        rung: how it was exported.
        config: what lies beside its weights.
    """
    front = ["library_name: pytorch"]
    if rung == "standalone":
        front.append("pipeline_tag: image-classification")
    return Words(
        tuple(front), TRAINED, _details(network, realised, rung), _loading(network, config)
    )


def _details(network: "HeadNetwork", realised: Realised, rung: ExportRung) -> tuple[str, ...]:
    if rung == "head-only":
        whole = f"{network.architecture.features:,}"
        said = "The backbone is **not in this folder**, and was not cut: the head is given all"
        counted = "Costs among the scores are those of both together."
        return (f"{said} {whole} features of it and selects its own. {counted}",)
    rows = _cut_rows(network, realised)
    if not rows:
        return (_uncut(network, realised),)
    said = "Cut in the backbone, with the features that they make:"
    return (said, table(rows), *([_stops(network)] if network.blueprint.cuts.stops else []))


def _uncut(network: "HeadNetwork", realised: Realised) -> str:
    if "features" not in realised.kept:
        return "Nothing of the backbone is cut: every feature is read."
    return f"Nothing of the backbone is cut. {_stops(network)}"


def _stops(network: "HeadNetwork") -> str:
    stops = "; ".join(network.blueprint.cuts.stops)
    return f"What lies further back stays whole, and what is not read of it is left out: {stops}."


def _cut_rows(network: "HeadNetwork", realised: Realised) -> list[dict[str, str]]:
    """Returns a row for each parameter of the backbone that loses entries."""
    blueprint, rows = network.blueprint, []
    for row in blueprint.rows:
        channels = blueprint.channels(row.name)
        kept = realised.kept.get("features")
        if channels is None or kept is None:
            continue
        whole = row.shape[channels.axis]
        stays = ((kept >= channels.first) & (kept < channels.first + whole)).sum()
        if stays < whole:
            rows.append({"tensor": f"`{row.name}`", "before": f"{whole:,}", "now": f"{stays:,}"})
    return rows


def _loading(network: "HeadNetwork", config: Mapping[str, Any]) -> str:
    shape = ", ".join(str(extent) for extent in config["input"]["shape"])
    name = config["input"]["name"]
    low, high = network.samples.min(), network.samples.max()
    inputs = f"{name}, float, (N, {shape})"
    if name == "images":
        inputs += f"; the search read values such as {low:.4g} to {high:.4g}"
    classes = ", ".join(network.classes[:12]) + (" …" if len(network.classes) > 12 else "")
    text = LOADING.replace("{inputs}", inputs).replace("{shape}", shape)
    return text.replace("{classes}", f" ({classes})" if classes else "")
