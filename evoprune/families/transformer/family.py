"""The family ``transformer``: any transformer of Hugging Face's with one stack of blocks."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from evoprune.config.shipped import resolved
from evoprune.core.costs import CostTable
from evoprune.core.errors import ModelError
from evoprune.core.networks import Batch
from evoprune.core.space import Site
from evoprune.data.examples import Examples, Pass
from evoprune.data.labelled_pool import LabelledPool, labelled
from evoprune.families.configs import refusal, renumbered, with_blocks, with_widths
from evoprune.families.load import load_base, load_processor, write_base
from evoprune.families.stages import batch_of, check_stages, embed
from evoprune.families.transformer.confirm import confirmed
from evoprune.families.transformer.find import found
from evoprune.families.transformer.layout import ATTN, MLP, Attr, Layout
from evoprune.families.transformer.rows import table_of
from evoprune.families.transformer.stages import TransformerStages, takes

if TYPE_CHECKING:
    import torch

# Layouts by model: found once, and as long as the model lives.
_known: "WeakKeyDictionary[Any, Layout]" = WeakKeyDictionary()


class Transformer:
    """Blocks, their attention with its key–value groups, their MLP with its channels.

    A model is accepted by what it is built of (``find``) and what its numbers confirm
    (``confirm``), never by its name.
    """

    name = "transformer"
    loader = "huggingface"
    exporter = "evoprune.export.transformer:TransformerExporter"
    kin = ("decoder",)  # whose spaces are its own: sites are named and of kinds alike

    def adopt(self, loaded: Any, settings: Any) -> Any:
        """Returns the network as this family works on it: as it was loaded."""
        return loaded

    def processor(self, settings: Any) -> Any:
        """Returns what turns raw examples into inputs: a tokenizer or an image processor."""
        name = resolved(settings.name_or_path)
        return load_processor(name, trust_remote_code=settings.trust_remote_code)

    def fits(self, model: Any) -> bool:
        """Returns whether the model has one stack of blocks of which a part can be cut."""
        return self.misfit(model) is None

    def misfit(self, model: Any) -> str | None:
        """Returns why a model cannot be taken apart, in words; None if it can."""
        try:
            self.layout(model)
        except ModelError as error:
            return error.cause.rstrip(".")
        except Exception as error:  # whatever a foreign forward may raise
            return f"it cannot be run: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return None

    def layout(self, model: Any) -> Layout:
        """Returns how a model is built, as numbers confirm it.

        Raises:
            ModelError: it is not built as a stack of blocks, or its stages are not the model.
        """
        if model not in _known:
            batch = sample(model)
            layout = found(model, tuple(batch), lambda: model(**batch, **uncached(model)))
            layout = confirmed(model, layout, batch)
            check_stages(model, TransformerStages(model, layout), batch)
            _known[model] = layout
        return _known[model]

    def check(self, model: Any, pools: Mapping[str, Any], device: str) -> None:
        """Checks model, data and stages against each other.

        Raises:
            ModelError: the stages are not the model, or the labels are not those of its head.
        """
        few = pools["search"].take(np.arange(min(2, len(pools["search"]))))
        batch = batch_of(arrays_of(few), slice(None), device)
        stages = self.stages(model)
        missing = set(stages.inputs) - set(batch) - {"token_type_ids", "attention_mask"}
        if missing:
            raise ModelError(
                f"{type(model).__name__} reads {min(missing)}, and the examples have "
                f"{', '.join(sorted(batch))}.",
                "Use the processor that belongs to the model, and data of its kind.",
            )
        ids = batch.get("input_ids")
        if ids is not None:
            rows = model.get_input_embeddings().weight.shape[0]
            largest = max(int(arrays_of(pool)["input_ids"].max()) for pool in pools.values())
            if largest >= rows:
                raise ModelError(
                    f"The tokenizer gives the token {largest}, the model has {rows} embeddings.",
                    "Use the tokenizer that belongs to the model.",
                )
        check_stages(model, stages, batch)
        self._check_kind(model, stages, batch)

    def _check_kind(self, model: Any, stages: TransformerStages, batch: Batch) -> None:
        """Checks that a model says what a task asks: of every next token, or of an example.

        Raises:
            ModelError: it says another thing.
        """
        import torch

        name = type(model).__name__
        with torch.inference_mode():
            said = stages.whole(batch).logits
        if "labels" in batch and said.ndim != 2:
            raise ModelError(
                f"{name} says {tuple(said.shape[1:])} numbers of an example, and a classifier "
                "one for each class.",
                "Leave `task` out for a language model, or load a classifier.",
            )
        if "tokens" not in batch:
            return
        if said.ndim != 3:
            raise ModelError(
                f"{name} says one thing of an example, and a language model one of every token.",
                "Set `task: text_classification`, and name the column of the labels "
                "(`data.label_field`).",
            )
        other = dict(batch)
        other["input_ids"] = batch["input_ids"].clone()
        last = int(batch["lengths"].min()) - 1
        other["input_ids"][:, last] = (other["input_ids"][:, last] + 1) % said.shape[-1]
        with torch.inference_mode():
            changed = stages.whole(other).logits
        if not torch.allclose(said[:, :last].float(), changed[:, :last].float(), atol=1e-3):
            raise ModelError(
                f"{name} looks at tokens that are still to come, so the next token is no question "
                "to it.",
                "Give a model that was trained to predict the next token.",
            )

    def labelled(self, model: Any, pools: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns pools whose labels are the model's classes; language has none.

        Raises:
            ModelError: a label is none of them.
        """
        classes = getattr(model.config, "label2id", None) or {}
        return {
            split: labelled(pool, classes, type(model).__name__)
            if isinstance(pool, LabelledPool)
            else pool
            for split, pool in pools.items()
        }

    def sites(self, model: Any) -> list[Site]:
        """Returns blocks, their attention with its kv groups, their MLP with its channels."""
        sites = []
        for i, block in enumerate(self.layout(model).blocks):
            name = f"layers.{i}"
            sites.append(Site(name, "block"))
            if block.attention is not None:
                sites.append(Site(f"{name}.{ATTN}", "attn", parent=name))
                if block.attention.cut:
                    heads, attn = block.attention.groups, f"{name}.{ATTN}"
                    sites.append(Site(f"{attn}.heads", "heads", heads, parent=attn))
            if block.mlp is not None:
                sites.append(Site(f"{name}.{MLP}", "mlp", parent=name))
                if block.mlp.cut:
                    channels, mlp = block.mlp.channels, f"{name}.{MLP}"
                    sites.append(Site(f"{mlp}.channels", "channels", channels, parent=mlp))
        return sites

    def notes(self, model: Any) -> dict[str, str]:
        """Returns by site how it was found, or why it cannot be cut."""
        layout, found = self.layout(model), dict[str, str]()
        for i, block in enumerate(layout.blocks):
            found[f"layers.{i}"] = layout.rule if i == 0 else ""
            for kind, why in block.why_not.items():
                inside = {"heads": f"{ATTN}.", "channels": f"{MLP}."}.get(kind, "")
                found[f"layers.{i}.{inside}{kind}"] = f"not to be cut: {why}"
        return found

    def table(self, model: Any, context: int) -> CostTable:
        """Returns the cost table (``rows.table_of``)."""
        layout = self.layout(model)
        context = context if "input_ids" in layout.inputs else layout.positions
        return table_of(model, layout, context)

    def attrs(self, model: Any) -> list[Attr]:
        """Returns the numbers of modules that follow sites."""
        return [
            replace(attr, site=f"layers.{i}.{attr.site}")
            for i, block in enumerate(self.layout(model).blocks)
            for attr in block.attrs
        ]

    def stages(self, model: Any) -> TransformerStages:
        """Returns the model as stages that can be run one by one."""
        return TransformerStages(model, self.layout(model))

    def embed(self, model: Any, pool: Any, device: str) -> np.ndarray:
        """Returns an embedding of every example (N, H): the mean of what the head reads."""
        arrays = {name: array for name, array in arrays_of(pool).items() if name != "labels"}
        return embed(self.stages(model), arrays, device)

    def examples(self, model: Any, pool: Any, groups: np.ndarray, device: str) -> Examples:
        """Returns what is read of a pool whose examples belong to these clusters."""
        passes = {"clean": Pass(arrays_of(pool), groups, pool.sizes)}
        for name, arrays in getattr(pool, "outside", {}).items():
            count = len(next(iter(arrays.values())))
            zeros, ones = (make(count, dtype=np.int64) for make in (np.zeros, np.ones))
            passes[name] = Pass(arrays, zeros, ones)
        return Examples(passes)

    def write(self, model: Any, folder: Path, training: Examples | None = None) -> None:
        """Writes the base."""
        write_base(model, folder)

    def read(self, folder: Path, dtype: str, device: str, trust_remote_code: bool = False) -> Any:
        """Returns the model of a base file, its tensors mapped on the CPU."""
        return load_base(folder, dtype, device, trust_remote_code)

    def keep_blocks(self, config: Any, kept: list[int]) -> Any:
        """Returns a copy of the model's configuration for the blocks that stay."""
        return with_blocks(config, kept)

    def narrow(self, config: Any, widths: Mapping[str, int]) -> Any:
        """Returns a copy of the configuration with equal widths in every layer.

        Args:
            config: of the model.
            widths: units that every layer keeps, by kind of site (``heads``, ``channels``).
        """
        return with_widths(config, widths)

    def refusal(self, config: Any, widths: Mapping[str, int]) -> str:
        """Returns why the model's own class cannot have these equal widths; empty where it can.

        Both are made of the class, without memory: many derive the size of a head from the number
        of heads, and would be as large as before.
        """
        narrowed = self.narrow(config, widths)
        why = refusal(narrowed)
        if why or "heads" not in widths:
            return why
        before, after = (_linears(one) for one in (config, narrowed))
        heads = config.num_attention_heads
        entries = (getattr(config, "head_dim", None) or config.hidden_size // heads) * heads
        groups = getattr(config, "num_key_value_heads", None) or heads
        wanted = entries * widths["heads"] // groups
        # Some layer read all heads, and now one reads those that stay.
        if not after or len(before) != len(after) or wanted not in {one[1] for one in after}:
            return f"{type(config).__name__} does not make {widths['heads']} heads of such a size."
        return ""

    def block_tensors(self, model: Any, kept: list[int], names: Collection[str]) -> dict[str, str]:
        """Returns new name → old name of the tensors of a model with only the blocks ``kept``."""
        blocks = self.layout(model).blocks[0].module.rpartition(".")[0]
        return renumbered(blocks, kept, names)

    def empty_blocks_stay(self, model: Any) -> bool:
        """Returns whether a block without its parts still does something: it norms, say."""
        held = (
            (block, dict(model.get_submodule(block.module).named_parameters()))
            for block in self.layout(model).blocks
        )
        return any(name not in block.gates for block, names in held for name in names)


def _linears(config: Any) -> list[tuple[int, ...]]:
    """Returns the shapes of the matrices of a configuration's class; none where it is not known."""
    import torch
    import transformers

    kind = getattr(transformers, (config.architectures or [""])[0], None)
    if kind is None:
        return []
    try:
        with torch.device("meta"):
            made = kind(config)
    except Exception:  # whatever a class raises that cannot be made so
        return []
    return [tuple(parameter.shape) for parameter in made.parameters() if parameter.ndim == 2]


def arrays_of(pool: Any) -> dict[str, np.ndarray]:
    """Returns what a network and a task read of a pool, each (N, …).

    Tokens of a language model are padded at the right, where causal attention never looks: they
    need no mask.
    """
    arrays = dict(pool.arrays)
    if "tokens" in arrays:
        arrays["input_ids"] = arrays["tokens"]
    return arrays


def uncached(model: Any) -> dict[str, Any]:
    """Returns the option that keeps a model from caching, where it has one."""
    return {"use_cache": False} if takes(model, "use_cache") else {}


def sample(model: Any) -> "dict[str, torch.Tensor]":
    """Returns two made-up examples for a model: the same whenever it is asked.

    Raises:
        ModelError: it reads neither tokens nor pictures.
    """
    import torch

    config, drawn = model.config, torch.Generator().manual_seed(0)
    device = next(model.parameters()).device
    if takes(model, "pixel_values"):
        size = getattr(config, "image_size", None) or 0
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        if not height:
            raise ModelError(
                f"The configuration of {type(model).__name__} does not say how large pictures are.",
                "Set `image_size` in its config.json.",
            )
        shape = (2, int(getattr(config, "num_channels", 3)), int(height), int(width))
        return {"pixel_values": torch.randn(shape, generator=drawn).to(device)}
    if not takes(model, "input_ids"):
        raise ModelError(
            f"{type(model).__name__} reads neither input_ids nor pixel_values.",
            "Write a family for it (README, «add your own»).",
        )
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    length = 12
    ids = torch.randint(0, vocabulary, (2, length), generator=drawn)
    mask = torch.ones_like(ids)
    batch = {"input_ids": ids, "attention_mask": mask}
    # A classifier that reads the last token looks for padding.
    pad = getattr(config, "pad_token_id", None)
    if isinstance(pad, int):
        ids[ids == pad] = (pad + 1) % vocabulary
    # Some padding at the right, so that masks are seen to matter where they do.
    mask[1, length - 3 :] = 0
    if isinstance(pad, int):
        ids[1, length - 3 :] = pad
    if takes(model, "token_type_ids") and getattr(config, "type_vocab_size", None):
        batch["token_type_ids"] = torch.zeros_like(ids)
    return {name: value.to(device) for name, value in batch.items()}
