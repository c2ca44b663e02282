"""What an export saves, measured beside the dense model: time, memory, file size and FLOPs.

Of decoders here; ``measure_head`` is of heads.
"""

import json
import platform
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune.core.errors import ExportError
from evoprune.core.files import sha256_of, write_atomically
from evoprune.export.card import RECORD, read_record, table
from evoprune.export.subject import Source
from evoprune.export.writing import weight_bytes
from evoprune.families.flops import executed_flops

if TYPE_CHECKING:
    import torch

STEPS = 8  # tokens that are decoded one by one
WHO = ("dense", "export")
_LABELS = {
    "prompt_ms": "prompt, ms",
    "decode_ms": "decoding a token, ms",
    "prompt_flops": "FLOPs of the prompt",
    "decode_flops": "FLOPs of decoding a token",
    "weight_bytes": "weights in memory, bytes",
    "cache_bytes": "key–value cache of the prompt, bytes",
    "batch_ms": "a batch, ms",
    "tokens_per_s": "decoded tokens per second",
    "images_per_s": "images per second",
    "single_ms": "one image, ms",
    "batch_flops": "FLOPs of an image",
    "peak_bytes": "activations of a batch at their peak, bytes",
    "file_bytes": "weights on disk, bytes",
}
_PHASES = {"prompt": "the prompt", "decode": "decoding"}

Clock = Callable[[Any], float]


def compare_speed(
    dense_model: Any, exported_model: Any, tokens: np.ndarray, rounds: int = 5
) -> dict[str, Any]:
    """Returns what two models cost on the same tokens, measured in turns.

    A round runs the prompt without a cache through one model and then the other, and then lets each
    decode a few tokens with its cache; the first round does not count.

    Args:
        dense_model: what the export is compared with.
        exported_model: of the same dtype and on the same device.
        tokens: (N, T) int64, without padding: one batch.
        rounds: how many count.

    Returns:
        ``prompt_ms``, ``decode_ms`` (a token of each text), ``tokens_per_s`` (decoded, of all
        texts), ``prompt_flops``, ``decode_flops``, ``weight_bytes`` and ``cache_bytes``, each with
        ``dense``, ``export`` and ``ratio``. Times are medians; their ratio is the median over
        rounds, with the lowest and the highest as ``ratio_low`` and ``ratio_high``. Then what was
        measured on what, and ``warning``: a sentence if the FLOPs promise more than the clock
        shows, else None.
    """
    import torch

    models = {"dense": dense_model, "export": exported_model}
    batch = torch.from_numpy(np.ascontiguousarray(tokens, dtype=np.int64)).to(dense_model.device)
    clocks: dict[str, Clock] = {
        "prompt_ms": lambda model: seconds(model, _prompt, batch),
        "decode_ms": lambda model: _decode_seconds(model, batch),
    }
    with torch.inference_mode():
        found = compared(models, clocks, lambda model: _counts(model, batch), rounds)
    each = {who: len(batch) / found["decode_ms"][who] * 1e3 for who in models}
    found["tokens_per_s"] = with_ratio(each)
    return found | {"batch": list(batch.shape), "warning": warning(found)}


def compared(
    models: Mapping[str, Any],
    clocks: Mapping[str, Clock],
    counts: Callable[[Any], Mapping[str, float]],
    rounds: int,
) -> dict[str, Any]:
    """Returns what the dense model and its export cost, by name, and what it was measured on.

    Args:
        models: ``dense`` and ``export``.
        clocks: by name what is timed, in seconds; the models take turns in each.
        counts: what does not depend on the clock, of one model.
        rounds: how many count, beside one before them.
    """
    import torch

    times: dict[str, dict[str, list[float]]] = {n: {who: [] for who in WHO} for n in clocks}
    for _ in range(rounds + 1):
        for name, clock in clocks.items():
            for who in WHO:
                times[name][who].append(clock(models[who]) * 1e3)
    found: dict[str, Any] = {name: _summary(each) for name, each in times.items()}
    counted = {who: counts(models[who]) for who in WHO}
    for name in counted["dense"]:
        found[name] = with_ratio({who: counted[who][name] for who in WHO})
    dense = models["dense"]
    return found | {
        "hardware": _hardware(dense.device),
        "threads": torch.get_num_threads(),
        "dtype": str(dense.dtype).removeprefix("torch."),
        "rounds": rounds,
    }


def warning(found: Mapping[str, Any], phases: Mapping[str, str] = _PHASES) -> str | None:
    """Returns what to say if less than half of the saved FLOPs is saved time, else None."""
    said = []
    for phase, words in phases.items():
        flops, clock = (1 - found[f"{phase}_{what}"]["ratio"] for what in ("flops", "ms"))
        if flops > 0 and clock < flops / 2:
            change = f"fell by {clock:.0%}" if clock >= 0 else f"rose by {-clock:.0%}"
            said.append(f"On {words} FLOPs fell by {flops:.0%}, time {change}.")
    return " ".join(said) or None


def measure_export(
    exported_path: Path | str, source: Source, tokens: np.ndarray, rounds: int = 5
) -> dict[str, Any]:
    """Returns ``compare_speed`` of an export, with ``file_bytes``; writes it beside the model.

    It goes into evoprune.json as ``speed``, and into the model card.

    Args:
        exported_path: the folder of the export.
        source: what was exported.
        tokens: (N, T) int64, without padding: one batch.
        rounds: how many count.

    Raises:
        ExportError: the folder is no export.
        ModelError: a model cannot be loaded.
    """
    from evoprune.export.loading import load_export
    from evoprune.families.load import load_base

    folder = Path(exported_path)
    record = record_of(folder)
    exported = load_export(folder, None, "cpu")
    dense = load_base(Path(source.folder), record["dtype"], "cpu", source.trust_remote_code)
    found = compare_speed(dense, exported, tokens, rounds)
    base = Path(source.folder) / "base.safetensors"
    same = source.dtype == record["dtype"]
    dense_bytes = base.stat().st_size if same else found["weight_bytes"]["dense"]
    found["file_bytes"] = with_ratio({"dense": dense_bytes, "export": weight_bytes(folder)})
    write_speed(folder, record, found)
    return found


def record_of(folder: Path) -> dict[str, Any]:
    """Returns what lies beside an exported model.

    Raises:
        ExportError: the folder is no export.
    """
    record = read_record(folder)
    if record is None:
        raise ExportError(f"'{folder}' is no export of evoprune.", f"It has no {RECORD}: export.")
    return record


def speed_text(found: Mapping[str, Any]) -> str:
    """Returns the measurements as Markdown."""
    rows = [
        {
            "": label,
            "dense": _number(found[name]["dense"]),
            "this model": _number(found[name]["export"]),
            "ratio": _ratio(found[name]),
        }
        for name, label in _LABELS.items()
        if name in found
    ]
    where = _where(found)
    parts = [where[0].upper() + where[1:], table(rows)]
    if found["warning"]:
        parts.append(f"**{found['warning']}**")
    return "\n\n".join(parts)


def speed_lines(found: Mapping[str, Any]) -> list[str]:
    """Returns the measurements in a few lines of plain text, for a terminal."""
    lines = []
    for name in ("prompt_ms", "decode_ms", "batch_ms", "single_ms"):
        if name in found:
            one = found[name]
            low, high = 1 / one["ratio_high"], 1 / one["ratio_low"]
            lines.append(
                f"{_LABELS[name].removesuffix(', ms')}: {one['dense']:.3g} ms dense, "
                f"{one['export']:.3g} ms now: {1 / one['ratio']:.2f} times as fast "
                f"[{low:.2f}, {high:.2f}]"
            )
    for name in ("tokens_per_s", "images_per_s"):
        if name in found:
            one = found[name]
            lines.append(f"{_LABELS[name]}: {one['dense']:,.0f} dense, {one['export']:,.0f} now")
    for name, label in _LABELS.items():
        if name in found and label.endswith(", bytes"):
            one = found[name]
            dense, now = (f"{one[who] / 1e6:,.2f} MB" for who in WHO)
            lines.append(
                f"{label.removesuffix(', bytes')}: {dense} dense, {now} now ({one['ratio']:.0%})"
            )
    return [*lines, _where(found), *([found["warning"]] if found["warning"] else [])]


def _where(found: Mapping[str, Any]) -> str:
    """Returns what was measured on what."""
    batch = " × ".join(str(extent) for extent in found["batch"])
    threads, unit = found["threads"], found.get("unit", "tokens")
    return (
        f"measured on {found['hardware']} ({threads} thread{'s' * (threads != 1)}) in "
        f"{found['dtype']}, with a batch of {batch} {unit}; times are medians of "
        f"{found['rounds']} rounds in turns with the dense model, and brackets hold the lowest and "
        "the highest ratio of a round."
    )


def write_speed(folder: Path, record: dict[str, Any], found: Mapping[str, Any]) -> None:
    """Writes measurements into an export's record and model card."""
    card = folder / "README.md"
    text = re.sub(r"## Speed\n.*?(?=\n## )", "", card.read_text(encoding="utf-8"), flags=re.S)
    heading = "## How to load it"
    text = text.replace(heading, f"## Speed\n\n{speed_text(found)}\n\n{heading}", 1)
    text = re.sub(r"\n{3,}", "\n\n", text)
    write_atomically(card, text)
    record["speed"] = dict(found)
    record["files"]["README.md"] = sha256_of(card)
    text = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    write_atomically(folder / RECORD, text)


def _prompt(model: Any, batch: "torch.Tensor") -> Any:
    return model(batch, use_cache=False)


def _decode_seconds(model: Any, batch: "torch.Tensor") -> float:
    """Returns the seconds of one token, decoded after the prompt."""
    cache = model(batch, use_cache=True).past_key_values
    return seconds(model, _steps, batch, cache) / STEPS


def _steps(model: Any, batch: "torch.Tensor", cache: Any) -> None:
    for _ in range(STEPS):
        model(batch[:, -1:], past_key_values=cache, use_cache=True)


def seconds(model: Any, run: Callable[..., Any], *args: Any) -> float:
    """Returns how long ``run(model, *args)`` takes, the accelerator's work included."""
    _wait(model.device)
    start = time.perf_counter()
    run(model, *args)
    _wait(model.device)
    return time.perf_counter() - start


def _wait(device: Any) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _counts(model: Any, batch: "torch.Tensor") -> dict[str, float]:
    """Returns what does not depend on the clock."""
    cache = model(batch, use_cache=True).past_key_values
    kept = [layer for layer in cache.layers if getattr(layer, "keys", None) is not None]
    weights = {id(tensor): tensor for tensor in model.parameters()}.values()
    found = {
        "weight_bytes": sum(tensor.numel() * tensor.element_size() for tensor in weights),
        "cache_bytes": sum(layer.keys.nbytes + layer.values.nbytes for layer in kept),
        "prompt_flops": executed_flops(lambda: _prompt(model, batch)),
    }
    return found | {"decode_flops": executed_flops(lambda: _steps(model, batch, cache)) / STEPS}


def _summary(times: Mapping[str, list[float]]) -> dict[str, float]:
    """Returns medians without the first round; ratios are those of one round, less disturbed."""
    dense, export = (times[who][1:] for who in WHO)
    ratios = [b / a for a, b in zip(dense, export, strict=True)]
    return {
        "dense": median(dense),
        "export": median(export),
        "ratio": median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
    }


def with_ratio(found: Mapping[str, float]) -> dict[str, float]:
    """Returns a pair of values with their ratio."""
    return {**found, "ratio": found["export"] / found["dense"] if found["dense"] else 1.0}


def _ratio(found: Mapping[str, float]) -> str:
    text = f"{found['ratio']:.3f}"
    if "ratio_low" in found:
        text += f" [{found['ratio_low']:.3f}, {found['ratio_high']:.3f}]"
    return text


def _hardware(device: Any) -> str:
    """Returns the name of what the models ran on."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        said = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        said = ""
    match = re.search(r"^model name\s*:\s*(.+)$", said, flags=re.M)
    return match[1].strip() if match else platform.processor() or platform.machine()


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
