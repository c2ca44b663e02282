"""What the model card of a decoder says that those of other models do not."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from evoprune.core.export_rungs import ExportRung
from evoprune.export.beside import Carried
from evoprune.export.card import RECORD, Words, table
from evoprune.export.subject import Source

OWN_CODE = """\
The layers of this model are unlike each other, so that it comes with a file of its own,
`modeling_evoprune.py`, which needs torch and transformers only; `trust_remote_code=True` lets it
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

config = LoraConfig(task_type="CAUSAL_LM", target_modules={names})
```"""


def words(
    source: Source,
    rung: ExportRung,
    layers: Sequence[Mapping[str, str]],
    carried: Carried,
    linears: Sequence[str],
) -> Words:
    """Returns what is said of an exported decoder.

    Args:
        source: what was exported.
        rung: how.
        layers: what each layer keeps, a row a layer, where they differ.
        carried: what lies beside the model.
        linears: names of its linear modules (``linear_names``).
    """
    front = ["library_name: transformers", "pipeline_tag: text-generation"]
    if source.label == source.name_or_path:
        front.insert(0, f"base_model: {json.dumps(source.label)}")
    details = [table(layers)] if layers else []
    if rung == "dense-masked":
        details.append(MASKED)
    return Words(
        tuple(front),
        f"It was not trained after that unless the provenance in `{RECORD}` says so.",
        tuple(details),
        _loading(source, rung, carried.tokenizer),
        # Training would fill the zeros that stand for what is removed.
        "" if rung == "dense-masked" else LORA.replace("{names}", json.dumps(list(linears))),
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


def _loading(source: Source, rung: ExportRung, tokenizer: bool) -> str:
    own = rung == "heterogeneous"
    # Without it transformers would ask, and wait for an answer; of the tokenizer too.
    trust = ", trust_remote_code=True" if own or source.trust_remote_code else ""
    code = [
        "```python",
        "from transformers import AutoModelForCausalLM" + (", AutoTokenizer" if tokenizer else ""),
        "",
        'folder = "."  # where this card lies',
        f'model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto"{trust})',
    ]
    if tokenizer:
        code.append(f"tokenizer = AutoTokenizer.from_pretrained(folder{trust})")
    text = "\n".join([*code, "```"]) + f"\n\n{OWN_CODE if own else 'evoprune is not needed.'}"
    if not tokenizer:
        text += "\n\nNo tokenizer was found beside the base model, so none is here."
    return text
