"""What an exported head saves, measured beside the dense one: time, memory, file size, FLOPs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune.export.measure import compared, record_of, seconds, warning, with_ratio, write_speed
from evoprune.export.writing import weight_bytes
from evoprune.families.flops import executed_flops

if TYPE_CHECKING:
    import torch

BATCH = 64
PHASES = {"batch": "a batch"}

# Of a dtype: config.json and the tensors of the dense network.
Dense = Callable[[str], tuple[Mapping[str, Any], Mapping[str, Any]]]


def measure_head(
    exported_path: Path | str, dense: Dense, inputs: np.ndarray, rounds: int = 9
) -> dict[str, Any]:
    """Returns what an exported head and the dense network cost; writes it beside the model.

    A round runs a batch, and then one image, through one network and then the other; the first
    round does not count. Times are as in ``measure.compare_speed``; memory is that of the weights,
    and of what else is alive at the worst moment of a batch.

    Args:
        exported_path: the folder of the export.
        dense: makes the dense network.
        inputs: what both read, (N, …); repeated until they fill a batch.
        rounds: how many count.

    Raises:
        ExportError: the folder is no export.
        ModelError: it cannot be loaded.
    """
    import torch
    from safetensors.torch import save

    from evoprune.export.loading import load_export
    from evoprune.families.sparse_head.modeling_head import PrunedNetwork

    folder = Path(exported_path)
    record = record_of(folder)
    config, tensors = dense(record["dtype"])
    models = {
        "dense": PrunedNetwork(config, tensors).eval(),
        "export": load_export(folder, None, "cpu"),
    }
    batch = torch.from_numpy(np.resize(inputs, (BATCH, *inputs.shape[1:])))
    clocks = {
        "batch_ms": lambda model: seconds(model, _forward, batch),
        "single_ms": lambda model: seconds(model, _forward, batch[:1]),
    }
    with torch.inference_mode():
        found = compared(models, clocks, lambda model: _counts(model, batch), rounds)
    each = {who: BATCH / found["batch_ms"][who] * 1e3 for who in models}
    found["images_per_s"] = with_ratio(each)
    dense_bytes = len(save(dict(tensors)))
    found["file_bytes"] = with_ratio({"dense": dense_bytes, "export": weight_bytes(folder)})
    found |= {"batch": [BATCH], "unit": config["input"]["name"]}
    found |= {"warning": warning(found, PHASES)}
    write_speed(folder, record, found)
    return found


def _forward(model: Any, batch: "torch.Tensor") -> Any:
    return model(batch)


def _counts(model: Any, batch: "torch.Tensor") -> dict[str, float]:
    """Returns what does not depend on the clock."""
    return {
        "weight_bytes": sum(t.numel() * t.element_size() for t in model.state_dict().values()),
        "batch_flops": executed_flops(lambda: model(batch[:1])),
        "peak_bytes": peak_bytes(model, batch),
    }


def peak_bytes(model: Any, batch: "torch.Tensor") -> int:
    """Returns the bytes that are alive beside weights and input at the worst moment of a pass.

    Storages are followed from operation to operation; what one takes within itself is not seen.
    """
    import torch
    from torch.multiprocessing.reductions import StorageWeakRef
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    known = {t.untyped_storage()._cdata for t in (*model.state_dict().values(), batch)}

    class Watch(TorchDispatchMode):
        peak = 0
        alive: dict[int, tuple[Any, int]]

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            out = func(*args, **(kwargs or {}))
            for tensor in tree_leaves(out):
                if isinstance(tensor, torch.Tensor):
                    storage = tensor.untyped_storage()
                    if storage._cdata not in known:
                        self.alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
            self.alive = {k: v for k, v in self.alive.items() if not v[0].expired()}
            self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
            return out

    watch = Watch()
    watch.alive = {}
    with watch:
        model(batch)
    return watch.peak
