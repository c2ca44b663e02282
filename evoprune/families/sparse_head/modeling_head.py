"""A network that evoprune cut: its steps are in config.json, its tensors in model.safetensors.

    from modeling_head import load

    model = load("path/to/this/folder")
    logits = model(inputs)

This file needs torch and safetensors only and travels with the model. It is the same for all
models: what one computes is data, a list of steps, so that loading it runs no code that came with
the weights. A step is ``[name, operation, arguments, keyword arguments]``. Its operation is one of
ATen's (torch's own) in the list below. In its arguments a string says by its first character what
it stands for: ``@conv2d`` is the value of a step, or the input; ``%output.bias`` a tensor;
``$float32`` a constant of torch, ``$device`` where the model is, ``$inf`` a number; ``=tanh`` text.
"""

import json
import math
import operator
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

FORMAT, VERSION = "evoprune head", 1
WEIGHTS = "model.safetensors"

# None of them reads or writes anything but tensors, draws at random, or changes its arguments.
_LISTED = """
conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
linear addmm baddbmm bmm mm matmul einsum embedding scaled_dot_product_attention
batch_norm layer_norm group_norm instance_norm rms_norm linalg_vector_norm
relu relu6 elu celu selu gelu silu mish prelu leaky_relu hardtanh hardswish hardsigmoid
sigmoid log_sigmoid tanh softplus softmax log_softmax
add sub rsub mul div neg abs sign exp log log1p expm1 sqrt rsqrt square pow reciprocal
sin cos erf floor ceil round clamp clamp_min clamp_max maximum minimum where masked_fill
eq ne lt le gt ge logical_and logical_or logical_not
max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d
adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool2d
mean sum amax amin max min var std cumsum
cat stack split split_with_sizes chunk unbind select slice narrow index_select gather
permute transpose t view reshape flatten unflatten squeeze unsqueeze
expand expand_as repeat roll flip pad constant_pad_nd reflection_pad2d replication_pad2d
upsample_nearest2d upsample_bilinear2d pixel_shuffle pixel_unshuffle
clone contiguous to type_as _to_copy detach sym_size
zeros ones full arange zeros_like ones_like full_like new_zeros new_ones new_full
"""
OPERATIONS = frozenset(_LISTED.split())
# On the sizes of a batch, and on what has several values.
PYTHON: dict[str, Callable[..., Any]] = {
    f"python.{name}": getattr(operator, name)
    for name in ("add", "sub", "mul", "floordiv", "getitem")
}
CONSTANTS = (torch.dtype, torch.layout, torch.memory_format)


def operation(name: str) -> Callable[..., Any]:
    """Returns an operation by its name, such as ``conv2d`` or ``add.Tensor``.

    Raises:
        ValueError: it is not in the list.
    """
    if name in PYTHON:
        return PYTHON[name]
    base, _, overload = name.partition(".")
    packet = getattr(torch.ops.aten, base, None) if base in OPERATIONS else None
    overload = overload or "default"
    if packet is None or overload not in packet.overloads():
        raise ValueError(f"'{name}' is none of the operations that this file runs.")
    found: Callable[..., Any] = getattr(packet, overload)
    return found


def named(argument: Any) -> Iterator[str]:
    """Yields the values and tensors that an argument names, in order."""
    if isinstance(argument, str):
        if argument[:1] in ("@", "%"):
            yield argument
    elif isinstance(argument, list):
        for one in argument:
            yield from named(one)
    elif isinstance(argument, dict):
        for one in argument.values():
            yield from named(one)


class PrunedNetwork(nn.Module):
    """A network of steps. It computes the same in training as in evaluation mode.

    Args:
        config: what config.json holds: ``input`` (name and shape of an example), ``steps``,
            ``output`` and ``buffers`` (tensors that are no parameters).
        tensors: by name.

    Raises:
        ValueError: a step, or the tensors, make no sense.
    """

    def __init__(self, config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.config = dict(config)
        self.classes: list[str] = list(config.get("classes", []))
        self._steps = [(str(name), str(op), list(a), dict(k)) for name, op, a, k in config["steps"]]
        self._calls = [operation(op) for _, op, _, _ in self._steps]
        self._check(tensors)
        for name, tensor in tensors.items():
            *path, leaf = name.split(".")
            owner: nn.Module = self
            for part in path:
                if part not in owner._modules:
                    owner.add_module(part, nn.Module())
                owner = owner.get_submodule(part)
            if name in config["buffers"]:
                owner.register_buffer(leaf, tensor)
            else:
                owner.register_parameter(leaf, nn.Parameter(tensor))

    def _check(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Checks that steps name only what is there, and all of it; notes when a value is done."""
        known, used = {f"@{self.config['input']['name']}"}, set()
        last: dict[str, int] = {}
        for number, (name, _, args, kwargs) in enumerate(self._steps):
            for one in named([args, kwargs]):
                if one not in known and one[0] == "@":
                    raise ValueError(f"The step '{name}' reads '{one[1:]}' before it is there.")
                last[one] = number
                used.add(one)
            known.add(f"@{name}")
            last.setdefault(f"@{name}", number)
        output = f"@{self.config['output']}"
        wrong = {one[1:] for one in used if one[0] == "%"} ^ set(tensors)
        if wrong or output not in known:
            raise ValueError(f"Steps and tensors do not belong together: {sorted(wrong)[:3]}.")
        last[output] = len(self._steps)
        self._done: list[list[str]] = [[] for _ in range(len(self._steps) + 1)]
        for one, number in last.items():
            if one[0] == "@":
                self._done[number].append(one)

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return next((parameter.device for parameter in self.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the parameters; inputs are brought into it."""
        return next((parameter.dtype for parameter in self.parameters()), torch.float32)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Returns the logits (N, C) of inputs (N, …), whose shape config.json names."""
        shape = self.config["input"]["shape"]
        if list(inputs.shape[1:]) != list(shape):
            wanted = ", ".join(str(extent) for extent in shape)
            raise ValueError(
                f"The inputs are {tuple(inputs.shape)}; this network reads (N, {wanted})."
            )
        values: dict[str, Any] = {f"@{self.config['input']['name']}": inputs.to(self.dtype)}
        for number, (name, _, args, kwargs) in enumerate(self._steps):
            call, given = self._calls[number], self._given(args, values)
            values[f"@{name}"] = call(*given, **self._given(kwargs, values))
            for one in self._done[number]:
                del values[one]
        found: torch.Tensor = values[f"@{self.config['output']}"]
        return found

    def _given(self, argument: Any, values: Mapping[str, Any]) -> Any:
        """Returns what an argument stands for."""
        if isinstance(argument, list):
            return [self._given(one, values) for one in argument]
        if isinstance(argument, dict):
            return {key: self._given(one, values) for key, one in argument.items()}
        if not isinstance(argument, str):
            return argument
        kind, name = argument[:1], argument[1:]
        if kind == "@":
            return values[argument]
        if kind == "%":
            return operator.attrgetter(name)(self)
        return name if kind == "=" else self._constant(name)

    def _constant(self, name: str) -> Any:
        if name == "device":
            return self.device
        if name in ("inf", "-inf", "nan"):
            return math.inf if name == "inf" else float(name)
        found = getattr(torch, name, None)
        if not isinstance(found, CONSTANTS):
            raise ValueError(f"'{name}' is no constant of torch that this file knows.")
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy in another process is made of; operations are found again there."""
        return {name: value for name, value in self.__dict__.items() if name != "_calls"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Takes what ``__getstate__`` gave."""
        super().__setstate__(state)
        self._calls = [operation(op) for _, op, _, _ in self._steps]

    def extra_repr(self) -> str:
        """Returns the steps, one a line."""
        return "\n".join(
            f"{name} = {op}({', '.join(_shown(one) for one in [*args, *kwargs.values()])})"
            for name, op, args, kwargs in self._steps
        )

    def save(self, folder: str | Path) -> None:
        """Writes the network, trained further maybe, as it was found: ``load`` reads it again."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        config = self.config | {"dtype": str(self.dtype).removeprefix("torch.")}
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, target / WEIGHTS, metadata={"format": "pt"})
        (target / "config.json").write_text(written(config), encoding="utf-8", newline="\n")
        if target.resolve() != Path(__file__).resolve().parent:
            shutil.copyfile(__file__, target / "modeling_head.py")


def written(config: Mapping[str, Any]) -> str:
    """Returns what config.json holds as text, a step a line."""
    steps = ",\n".join(f"  {json.dumps(step, allow_nan=False)}" for step in config["steps"])
    lines = [
        f" {json.dumps(key)}: "
        + (f"[\n{steps}\n ]" if key == "steps" else json.dumps(value, allow_nan=False))
        for key, value in config.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def load(
    folder: str | Path, dtype: torch.dtype | None = None, device: str = "cpu"
) -> PrunedNetwork:
    """Returns the network of a folder in evaluation mode; gradients reach all its parameters.

    Args:
        folder: with config.json and model.safetensors.
        dtype: of the parameters; as they are stored by default.
        device: where it is put.

    Raises:
        ValueError: the files are of another version, or do not belong together.
    """
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    if config.get("format") != FORMAT or config.get("version") != VERSION:
        raise ValueError(f"'{folder}' holds no network that this file can read.")
    network = PrunedNetwork(config, load_file(Path(folder) / WEIGHTS))
    return network.to(device=device, dtype=dtype).eval()


def _shown(argument: Any) -> str:
    if isinstance(argument, list):
        return f"[{', '.join(_shown(one) for one in argument)}]"
    return argument[1:] if isinstance(argument, str) else str(argument)
