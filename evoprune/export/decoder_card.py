"""What the model card of a decoder says that those of other models do not."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from evoprune.core.export_rungs import ExportRung
from evoprune.export.autos import auto_class
from evoprune.export.beside import Carried
from evoprune.export.card import RECORD, Words, table
from evoprune.export.subject import Source

OWN_CODE = """\
The layers of this model are unlike each other, so that it comes with a file of its own,
`{file}`, which needs torch and transformers only; `trust_remote_code=True` lets it
run. Classes of transformers themselves refuse the folder, and vLLM and the converters to GGUF do
not take it. evoprune does without that trust: it runs the file that it ships itself, if this one
equals it.

```python
import evoprune

model = evoprune.load(".")
```"""
MASKED = """\
Removed parts are zeros in tensors of the old shapes: this **saves nothing**, neither memory nor \
time. It computes what the pattern computes, no more."""
LORA = """\
These are the linear modules that are left, as `peft` asks for them:

```python
from peft import LoraConfig

config = LoraConfig(task_type="{task}", target_modules={names})
```"""


# What the models of an automatic class are for, in the words of the hub and of `peft`.
TASKS = {
    "AutoModelForCausalLM": ("text-generation", "CAUSAL_LM"),
    "AutoModelForSequenceClassification": ("text-classification", "SEQ_CLS"),
    "AutoModelForImageClassification": ("image-classification", ""),
}


def words(
    source: Source,
    rung: ExportRung,
    layers: Sequence[Mapping[str, str]],
    carried: Carried,
    linears: Sequence[str],
    kind: type,
) -> Words:
    """Returns what is said of an exported transformer.

    Args:
        source: what was exported.
        rung: how.
        layers: what each layer keeps, a row a layer, where they differ.
        carried: what lies beside the model.
        linears: names of its linear modules (``linear_names``).
        kind: the base's class.
    """
    auto = auto_class(kind)
    tag, task = TASKS.get(auto, ("", ""))
    front = ["library_name: transformers", *([f"pipeline_tag: {tag}"] if tag else [])]
    if source.label == source.name_or_path:
        front.insert(0, f"base_model: {json.dumps(source.label)}")
    details = [table(layers)] if layers else []
    if rung == "dense-masked":
        details.append(MASKED)
    return Words(
        tuple(front),
        f"It was not trained after that unless the provenance in `{RECORD}` says so.",
        tuple(details),
        _loading(source, rung, carried, auto),
        # Training would fill the zeros that stand for what is removed.
        ""
        if rung == "dense-masked" or not task
        else LORA.replace("{names}", json.dumps(list(linears))).replace("{task}", task),
        _licence(carried.licences),
    )


def linear_names(model: Any) -> list[str]:
    """Returns the last names of a model's linear modules, each once, without the output's."""
    from torch import nn

    head = model.get_output_embeddings()
    linears = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and m is not head]
    return list(dict.fromkeys(name.rpartition(".")[2] for name in linears))


def _licence(files: Sequence[str]) -> str:
    said = "The licence of the base model applies to this one as well: "
    if not files:
        return f"{said}read it there."
    return f"{said}{', '.join(f'[{name}]({name})' for name in files)}."


def _loading(source: Source, rung: ExportRung, carried: Carried, auto: str) -> str:
    own, tokenizer = rung == "heterogeneous", carried.tokenizer
    # Without it transformers would ask, and wait for an answer; of the tokenizer too.
    trust = ", trust_remote_code=True" if own or source.trust_remote_code else ""
    code = [
        "```python",
        f"from transformers import {auto}" + (", AutoTokenizer" if tokenizer else ""),
        "",
        'folder = "."  # where this card lies',
        f'model = {auto}.from_pretrained(folder, dtype="auto"{trust})',
    ]
    if tokenizer:
        code.append(f"tokenizer = AutoTokenizer.from_pretrained(folder{trust})")
    if carried.processor:
        code[1] += ", AutoImageProcessor"
        code.append(f"processor = AutoImageProcessor.from_pretrained(folder{trust})")
    file = "modeling_evoprune.py" if source.family == "decoder" else "modeling_evoprune_cut.py"
    said = OWN_CODE.replace("{file}", file) if own else "evoprune is not needed."
    text = "\n".join([*code, "```"]) + f"\n\n{said}"
    if not tokenizer and not carried.processor:
        text += "\n\nNo tokenizer was found beside the base model, so none is here."
    return text
