"""What the model card of a decoder says that those of other models do not."""

import json
from collections.abc import Mapping, Sequence

from evoprune.export.card import RECORD, Words, table
from evoprune.export.subject import Source
from evoprune.ladder import Rung

OWN_CODE = """\
The layers of this model are unlike each other, so that it comes with a file of its own,
`modeling_evoprune.py`, which needs torch and transformers only; `trust_remote_code=True` lets it
run. `evoprune.load("path/to/this/folder")` does without: it runs the file that evoprune ships, if
this one equals it. Classes of transformers themselves refuse the folder, and vLLM and the
converters to GGUF do not take it."""
MASKED = """\
Removed parts are zeros in tensors of the old shapes: this **saves nothing**, neither memory nor \
time. It computes what the pattern computes, no more."""


def words(
    source: Source, rung: Rung, layers: Sequence[Mapping[str, str]], tokenizer: bool
) -> Words:
    """Returns what is said of an exported decoder.

    Args:
        source: what was exported.
        rung: how.
        layers: what each layer keeps, a row a layer, where they differ.
        tokenizer: whether a tokenizer was found.
    """
    front = ["library_name: transformers", "pipeline_tag: text-generation"]
    if source.label == source.name_or_path:
        front.insert(0, f"base_model: {json.dumps(source.label)}")
    details = [table(layers)] if layers else []
    if rung == "dense-masked":
        details.append(MASKED)
    trained = f"It was not trained after that unless the provenance in `{RECORD}` says so."
    return Words(tuple(front), trained, tuple(details), _loading(rung, tokenizer))


def _loading(rung: Rung, tokenizer: bool) -> str:
    own = rung == "heterogeneous"
    trust = ", trust_remote_code=True" if own else ""
    code = [
        "```python",
        "from transformers import AutoModelForCausalLM" + (", AutoTokenizer" if tokenizer else ""),
        "",
        f'model = AutoModelForCausalLM.from_pretrained("path/to/this/folder", dtype="auto"{trust})',
    ]
    if tokenizer:
        code.append('tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")')
    text = "\n".join([*code, "```"]) + f"\n\n{OWN_CODE if own else 'evoprune is not needed.'}"
    if not tokenizer:
        text += " No tokenizer was found beside the base model, so none is here."
    return text
