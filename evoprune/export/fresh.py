"""A script for a process of its own: loads an export without evoprune and says what it computes.

``python -I fresh.py FOLDER`` reads ``job.json`` there. Of a model that is no decoder it reads
``inputs.npz`` and writes ``logits.npy``. Of a decoder it reads ``tokens.npy`` and
writes ``logits.npy`` (N, T, V) and ``result.json``: the largest differences between decoding with
the key–value cache and without, relative to the largest logit. Of a head it reads ``inputs.npy``
and writes ``logits.npy`` (N, C). It imports nothing of evoprune.
"""

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

WIDTH, PADDING, STEPS = 16, 3, 8


def main(folder: Path) -> None:
    """Does the job of a folder."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    sys.modules["evoprune"] = None  # type: ignore[assignment]
    # An isolated interpreter ignores PYTHONPATH and the user's packages; torch may live there.
    sys.path += [path for path in job["path"] if path not in sys.path]
    import torch

    torch.set_num_threads(job["threads"])
    {"head": classify, "inputs": answer}.get(job.get("kind", ""), decode)(folder, job)


def classify(folder: Path, job: dict[str, Any]) -> None:
    """Writes the logits of a head, which the file in its own folder loads."""
    import numpy as np
    import torch

    sys.path.insert(0, job["folder"])
    sys.dont_write_bytecode = True  # the folder is to hold what was exported, and no more
    model = import_module("modeling_head").load(job["folder"], getattr(torch, job["dtype"]))
    with torch.inference_mode():
        logits = model(torch.from_numpy(np.load(folder / "inputs.npy", allow_pickle=False)))
    np.save(folder / "logits.npy", logits.numpy(), allow_pickle=False)


def answer(folder: Path, job: dict[str, Any]) -> None:
    """Writes what a model of transformers says of inputs, one example after another."""
    import numpy as np
    import torch

    model, found = load(job), []
    with np.load(folder / "inputs.npz", allow_pickle=False) as file:
        inputs = {name: torch.from_numpy(file[name]) for name in file.files}
    inputs = {n: t.to(model.dtype) if t.is_floating_point() else t for n, t in inputs.items()}
    with torch.inference_mode():
        for row in range(len(next(iter(inputs.values())))):
            one = {name: value[row : row + 1] for name, value in inputs.items()}
            found.append(model(**one).logits)
    np.save(folder / "logits.npy", torch.cat(found).numpy(), allow_pickle=False)


def decode(folder: Path, job: dict[str, Any]) -> None:
    """Writes the logits of a decoder, and how cached decoding differs."""
    import numpy as np
    import torch

    tokens = torch.from_numpy(np.load(folder / "tokens.npy", allow_pickle=False))
    model = load(job)
    with torch.inference_mode():
        rows = [model(row[None], use_cache=False).logits for row in tokens]
        logits = torch.cat(rows)
        np.save(folder / "logits.npy", logits.numpy(), allow_pickle=False)
        prompts = torch.from_numpy(np.resize(tokens.numpy(), (2, WIDTH)))
        result = {"steps": stepwise(model, prompts), "generate": greedy(model, prompts)}
    result["tokenizer"] = tokenize(job)
    check_refused(job)
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


def load(job: dict[str, Any]) -> Any:
    """Returns the exported model; fails if any of its tensors is missing or left over."""
    import torch

    transformers: Any = import_module("transformers")  # its own annotations miss what it returns

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    kind = getattr(transformers, job.get("auto", "AutoModelForCausalLM"))
    model, info = kind.from_pretrained(
        job["folder"],
        dtype=getattr(torch, job["dtype"]),
        trust_remote_code=job["trust_remote_code"],
        output_loading_info=True,
    )
    wrong = sorted({*info["missing_keys"], *info["unexpected_keys"]})
    if wrong:
        raise SystemExit(f"{len(wrong)} tensors of the model and of the file differ: {wrong[0]} …")
    # What the source says about sampling and end tokens would cut the comparison short.
    if model.can_generate():
        model.generation_config = transformers.GenerationConfig(do_sample=False, pad_token_id=0)
    return model.eval()


def left_padded(prompts: "torch.Tensor") -> tuple["torch.Tensor", "torch.Tensor"]:
    """Returns prompts (2, W) of which the second is shorter and padded at the left, and a mask."""
    import torch

    tokens, mask = prompts.clone(), torch.ones_like(prompts)
    tokens[1] = torch.cat([prompts.new_zeros(PADDING), prompts[1, :-PADDING]])
    mask[1, :PADDING] = 0
    return tokens, mask


def stepwise(model: Any, prompts: "torch.Tensor") -> float:
    """Returns how far cached decoding, left padding included, is from the full forward."""
    import torch

    full = model(prompts, use_cache=False).logits
    tokens, mask = left_padded(prompts)
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    cache, pieces, start = None, [], 0
    for size in (6, 1, 3, 1, 3, 2):  # a prompt, then steps of one and of several tokens
        end = start + size
        out = model(
            tokens[:, start:end],
            attention_mask=mask[:, :end],
            position_ids=positions[:, start:end],
            past_key_values=cache,
            use_cache=True,
        )
        cache, start = out.past_key_values, end
        pieces.append(out.logits)
    cached = torch.cat(pieces, dim=1)
    padded = difference(cached[1, PADDING:], full[1, :-PADDING])
    return max(difference(cached[0], full[0]), padded)


def greedy(model: Any, prompts: "torch.Tensor") -> float:
    """Returns how far greedy generation with the cache is from greedy generation without.

    Compared up to the first token where both differ, which rounding may cause at a tie.
    """
    import torch

    worst = 0.0
    for tokens, mask in ((prompts, torch.ones_like(prompts)), left_padded(prompts)):
        ids, logits = [], []
        for use_cache in (True, False):
            out = model.generate(
                tokens,
                attention_mask=mask,
                max_new_tokens=STEPS,
                use_cache=use_cache,
                output_logits=True,
                return_dict_in_generate=True,
            )
            ids.append(out.sequences[:, tokens.shape[1] :])
            logits.append(torch.stack(out.logits, dim=1))
        agree = (ids[0] == ids[1]).cumprod(dim=1).bool()
        shared = torch.cat([torch.ones_like(agree[:, :1]), agree[:, :-1]], dim=1)
        worst = max(worst, difference(logits[0][shared], logits[1][shared]))
    return worst


def difference(a: "torch.Tensor", b: "torch.Tensor") -> float:
    """Returns the largest difference, relative to the largest entry of b; inf for NaN."""
    error = float((a - b).abs().max() / b.abs().max().clamp_min(1e-9))
    return error if error == error else float("inf")


def check_refused(job: dict[str, Any]) -> None:
    """Fails if a class loads the export that would put random weights where parts are missing."""
    if not job.get("refused_by"):
        return
    transformers: Any = import_module("transformers")
    for kind in (job["refused_by"], "AutoModelForCausalLM"):
        try:
            getattr(transformers, kind).from_pretrained(job["folder"], trust_remote_code=False)
        except Exception:  # whatever a stock class raises is loud enough
            continue
        raise SystemExit(f"{kind} loads the export as if nothing were missing in it")


def tokenize(job: dict[str, Any]) -> bool:
    """Returns whether the export has a tokenizer; fails if it cannot be loaded."""
    from transformers import AutoTokenizer

    if not (Path(job["folder"]) / "tokenizer_config.json").is_file():
        return False
    AutoTokenizer.from_pretrained(job["folder"], trust_remote_code=job["trust_remote_code"])(
        "The model can read this."
    )
    return True


if __name__ == "__main__":
    main(Path(sys.argv[1]))
