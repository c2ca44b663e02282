"""Decoder language models in the style of Llama: pre-norm attention and MLP sub-blocks.

Covers every Hugging Face class whose decoder layers hold ``self_attn`` (q, k, v, o projections),
``mlp`` (gate, up, down), ``input_layernorm`` and ``post_attention_layernorm``: Llama, Mistral,
Qwen2, Qwen3, SmolLM3 and their like. A model is accepted because it is built so *and* because its
stages reproduce its own ``forward`` (``families.stages.check_stages``), never by its name.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evoprune.config.shipped import resolved
from evoprune.core.costs import CostTable, Extent, Row, fixed, of_site
from evoprune.core.errors import ModelError
from evoprune.core.networks import Batch
from evoprune.core.space import Site
from evoprune.data.examples import Examples, Pass
from evoprune.data.pool import TextPool
from evoprune.families.configs import refusal, renumbered, with_blocks, with_widths
from evoprune.families.likeness import narrower, unlike_llama
from evoprune.families.load import load_base, load_tokenizer, write_base
from evoprune.families.placement import at, home, visiting
from evoprune.families.stages import check_stages, embed

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class State:
    """What one stage hands to the next."""

    hidden: "torch.Tensor"  # (B, T, H)
    rotary: tuple["torch.Tensor", "torch.Tensor"]  # cos and sin, (1, T, head_dim)


@dataclass(frozen=True)
class Shape:
    """The sizes that the sites and the cost table need."""

    hidden: int
    vocabulary: int
    layers: int
    kv_heads: int
    group: int  # query heads per key–value head
    head_dim: int
    channels: tuple[int, ...]  # of the MLP, by layer


class Decoder:
    """The family ``decoder``."""

    name = "decoder"
    kin = ("transformer",)  # whose spaces are its own: sites are named and of kinds alike
    loader = "huggingface"
    exporter = "evoprune.export.export:DecoderExporter"
    head = ("lm_head.",)  # rows of the cost table that only scored positions go through

    def adopt(self, loaded: Any, settings: Any) -> Any:
        """Returns the network as this family works on it: as it was loaded."""
        return loaded

    def processor(self, settings: Any) -> Any:
        """Returns what turns documents into inputs: the model's tokenizer."""
        name = resolved(settings.name_or_path)
        return load_tokenizer(name, trust_remote_code=settings.trust_remote_code)

    def check(self, model: Any, pools: Mapping[str, TextPool], device: str) -> None:
        """Checks model, data and stages against each other.

        Raises:
            ModelError: the tokenizer is another model's, or the stages are not the model.
        """
        import torch

        rows = model.get_input_embeddings().weight.shape[0]
        largest = max(int(pool.tokens.max()) for pool in pools.values())
        if largest >= rows:
            raise ModelError(
                f"The tokenizer gives the token {largest}, the model has {rows} embeddings.",
                "Use the tokenizer that belongs to the model.",
            )
        # The longest examples: a sliding window shows only beyond its length.
        search = pools["search"]
        longest = np.argsort(-search.lengths, kind="stable")[:2]
        tokens = search.tokens[longest, : int(search.lengths[longest].min())]  # (2, T)
        self.check_numbers(model, torch.from_numpy(tokens).to(device))

    def check_numbers(self, model: Any, tokens: "torch.Tensor") -> None:
        """Checks by some tokens (B, T) that a model computes as this family takes it apart.

        Raises:
            ModelError: its attention sees fewer tokens, or the stages are not the model.
        """
        self.table(model, tokens.shape[1])  # says which tensor has another shape
        try:
            check_stages(model, self.stages(model), {"tokens": tokens})
        except ModelError as error:
            raise narrower(model, tokens.shape[1]) or error from error

    def embed(self, model: Any, pool: TextPool, device: str) -> np.ndarray:
        """Returns an embedding of every chunk (N, H): its mean-pooled last hidden states."""
        return embed(self.stages(model), pool.arrays, device)

    def examples(self, model: Any, pool: TextPool, groups: np.ndarray, device: str) -> Examples:
        """Returns what is read of a pool whose chunks belong to these clusters."""
        return Examples({"clean": Pass(pool.arrays, groups, pool.lengths)})

    def write(self, model: Any, folder: Path, training: Examples | None = None) -> None:
        """Writes the base; a decoder needs no training examples."""
        write_base(model, folder)

    def read(self, folder: Path, dtype: str, device: str, trust_remote_code: bool = False) -> Any:
        """Returns the model of a base file, its tensors mapped on the CPU."""
        return load_base(folder, dtype, device, trust_remote_code)

    def fits(self, model: Any) -> bool:
        """Returns whether the model is built in this family's style."""
        return self.misfit(model) is None

    def misfit(self, model: Any) -> str | None:
        """Returns what tells a model from this family's style, in words; None if nothing does."""
        return unlike_llama(model)

    def shape(self, model: Any) -> Shape:
        """Returns the sizes of a model that fits, read off its tensors."""
        layers = model.model.layers
        attention = layers[0].self_attn
        head_dim = attention.head_dim
        kv_heads = attention.k_proj.weight.shape[0] // head_dim
        return Shape(
            hidden=model.model.embed_tokens.weight.shape[1],
            vocabulary=model.lm_head.weight.shape[0],
            layers=len(layers),
            kv_heads=kv_heads,
            group=attention.q_proj.weight.shape[0] // head_dim // kv_heads,
            head_dim=head_dim,
            channels=tuple(layer.mlp.gate_proj.weight.shape[0] for layer in layers),
        )

    def sites(self, model: Any) -> list[Site]:
        """Returns blocks, their attention with its kv groups, their MLP with its channels."""
        shape = self.shape(model)
        sites = []
        for i in range(shape.layers):
            block, attn, mlp = f"layers.{i}", f"layers.{i}.attn", f"layers.{i}.mlp"
            sites += [
                Site(block, "block"),
                Site(attn, "attn", parent=block),
                Site(f"{attn}.heads", "heads", shape.kv_heads, parent=attn),
                Site(mlp, "mlp", parent=block),
                Site(f"{mlp}.channels", "channels", shape.channels[i], parent=mlp),
            ]
        return sites

    def table(self, model: Any, context: int) -> CostTable:
        """Returns the cost table; FLOPs are per token of a sequence of ``context`` tokens.

        ``kv_bytes`` is the key–value cache per token. Attention's own products are counted in
        full (queries times all keys), as the kernels execute them.
        """
        import torch

        shape = self.shape(model)
        size = torch.empty((), dtype=model.dtype).element_size()
        tied = model.lm_head.weight is model.model.embed_tokens.weight
        rows = []
        for name, parameter in model.named_parameters(remove_duplicate=False):
            if name == "lm_head.weight" and tied:
                dims = (fixed(shape.vocabulary), fixed(shape.hidden))
                rows.append(Row(name, dims, weights={"flops": 2.0}, tensor=False))
                continue
            row = self._row(name, parameter, shape)
            weights = {"params": 1.0, "flops": row.weights.get("flops", 0.0), "bytes": float(size)}
            rows.append(replace(row, weights=weights))
        for i in range(shape.layers):
            rows += self._attention_rows(i, shape, context, size)
        return CostTable(tuple(rows))

    def _row(self, name: str, parameter: "torch.Tensor", shape: Shape) -> Row:
        """Returns the row of one parameter: dimensions, gates, and 2 FLOPs if it is multiplied."""
        matrix = {"flops": 2.0} if parameter.ndim == 2 else {}
        if not name.startswith("model.layers."):
            dims = tuple(fixed(extent) for extent in parameter.shape)
            return Row(name, dims, weights={} if "embed" in name else matrix)
        index, part = name.removeprefix("model.layers.").split(".", 1)
        block, attn, mlp = f"layers.{index}", f"layers.{index}.attn", f"layers.{index}.mlp"
        heads = of_site(f"{attn}.heads", shape.kv_heads, shape.head_dim)
        queries = of_site(f"{attn}.heads", shape.kv_heads, shape.head_dim * shape.group)
        channels = of_site(f"{mlp}.channels", shape.channels[int(index)])
        cut: dict[str, tuple[tuple[Extent, ...], int]] = {
            "self_attn.q_proj": (queries, 0),
            "self_attn.k_proj": (heads, 0),
            "self_attn.v_proj": (heads, 0),
            "self_attn.o_proj": (queries, 1),
            "mlp.gate_proj": (channels, 0),
            "mlp.up_proj": (channels, 0),
            "mlp.down_proj": (channels, 1),
        }
        gates = {
            "self_attn": (attn,),
            "input_layernorm": (attn,),
            "mlp": (mlp,),
            "post_attention_layernorm": (mlp,),
        }
        gate = gates.get(part.split(".", 1)[0], (block,))
        dims_list = [fixed(extent) for extent in parameter.shape]
        module = part.rpartition(".")[0]
        if module in cut:
            dim, axis = cut[module]
            if axis < parameter.ndim:
                dims_list[axis] = dim
        expected = tuple(sum(p.size for p in dim) for dim in dims_list)
        if expected != tuple(parameter.shape):
            raise ModelError(
                f"The tensor '{name}' has the shape {tuple(parameter.shape)}, not {expected}.",
                "This model is not built like Llama; write a family for it "
                "(README, «add your own»).",
            )
        return Row(name, tuple(dims_list), gate, matrix)

    def _attention_rows(self, index: int, shape: Shape, context: int, size: int) -> list[Row]:
        """Returns the products of attention, and the cache: costs without parameters."""
        attn = f"layers.{index}.attn"
        queries = of_site(f"{attn}.heads", shape.kv_heads, shape.head_dim * shape.group)
        heads = of_site(f"{attn}.heads", shape.kv_heads, shape.head_dim)
        # Queries times keys and weights times values: two products of two FLOPs each.
        scores = Row(f"{attn}.scores", (queries, fixed(context)), (attn,), {"flops": 4.0}, False)
        cache = Row(f"{attn}.cache", (heads,), (attn,), {"kv_bytes": 2.0 * size}, False)
        return [scores, cache]

    def blocks(self, model: Any) -> Any:
        """Returns the modules that may lie on devices of their own, in order."""
        return model.model.layers

    def after_blocks(self, model: Any) -> Any:
        """Returns the module that reads what the last of them returns."""
        return model.model.norm

    def stages(self, model: Any) -> "DecoderStages":
        """Returns the model as stages that can be run one by one."""
        return DecoderStages(model)

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

        Args:
            config: of the model.
            widths: as ``narrow`` takes them.
        """
        return refusal(self.narrow(config, widths))

    def layer_override(
        self, config: Any, widths: Mapping[str, int], gone: Collection[str], added: Collection[str]
    ) -> dict[str, Any]:
        """Returns what makes one layer unlike the others, in the words of ``per_layer_config``.

        Args:
            config: of the model.
            widths: units that the layer keeps, by kind of site, where it loses some.
            gone: kinds of site that it does not have.
            added: names of tensors that the model's class does not give the layer.
        """
        found: dict[str, Any] = {}
        if "heads" in widths and "attn" not in gone:
            group = config.num_attention_heads // config.num_key_value_heads
            found["num_attention_heads"] = widths["heads"] * group
            found["num_key_value_heads"] = widths["heads"]
        if "channels" in widths and "mlp" not in gone:
            found["intermediate_size"] = widths["channels"]
        skip = [word for kind, word in (("attn", "attention"), ("mlp", "mlp")) if kind in gone]
        if skip:
            found["skip"] = skip
        if added:
            # model.layers.3.mlp.down_proj.bias → mlp.down_proj
            found["added_biases"] = sorted(name.split(".", 3)[3][: -len(".bias")] for name in added)
        return found

    def block_tensors(self, model: Any, kept: list[int], names: Collection[str]) -> dict[str, str]:
        """Returns new name → old name of the tensors of a model with only the blocks ``kept``."""
        return renumbered("model.layers", kept, names)

    def silence(self, site: str) -> list[str]:
        """Returns the tensors that, set to zero, make a dropped site add nothing."""
        index = site.split(".")[1]
        attn = [f"model.layers.{index}.self_attn.o_proj.{kind}" for kind in ("weight", "bias")]
        mlp = [f"model.layers.{index}.mlp.down_proj.{kind}" for kind in ("weight", "bias")]
        if site.endswith(".attn"):
            return attn
        return mlp if site.endswith(".mlp") else attn + mlp


class DecoderStages:
    """embed → block 0 … block n−1 → head, with the library's own modules."""

    inputs: tuple[str, ...] = ("tokens",)

    def __init__(self, model: Any) -> None:
        self.model = model
        self.n_blocks = len(model.model.layers)
        self.vocabulary = int(model.lm_head.weight.shape[0])

    def block_of(self, site: str) -> int:
        """Returns the index of the block that a site lies in."""
        return int(site.split(".")[1])

    def positions(self, arrays: Mapping[str, np.ndarray]) -> int:
        """Returns the tokens of an example."""
        return int(arrays["tokens"].shape[1])

    def whole(self, batch: Batch, **options: Any) -> Any:
        """Returns what the model's own forward says of a batch."""
        return self.model(batch["tokens"], use_cache=False, **options)

    def begin(self, batch: Batch) -> State:
        """Returns the state before the first block, of ``tokens`` (B, T).

        Padding may only stand at the right: no mask is built, and causal attention never looks
        there.
        """
        import torch

        tokens = batch["tokens"]
        body = self.model.model
        hidden = body.embed_tokens(tokens)
        positions = torch.arange(tokens.shape[1], device=tokens.device).unsqueeze(0)
        return State(hidden, body.rotary_emb(hidden, position_ids=positions))

    def block(self, index: int, state: State, dropped: Collection[str]) -> State:
        """Returns the state after a block; a dropped sub-block is not run at all."""
        name = f"layers.{index}"
        if name in dropped:
            return state
        layer = self.model.model.layers[index]
        with visiting(layer):
            hidden, rotary = at(home(layer), (state.hidden, state.rotary))
            if f"{name}.attn" not in dropped:
                hidden = self._attended(layer, hidden, rotary)
            if f"{name}.mlp" not in dropped:
                hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return State(hidden, rotary)

    def _attended(self, layer: Any, hidden: "torch.Tensor", rotary: Any) -> "torch.Tensor":
        """Returns the hidden states with what attention adds; of no heads only a bias is left."""
        attention = layer.self_attn
        if attention.q_proj.weight.shape[0] == 0:
            bias = attention.o_proj.bias
            return hidden if bias is None else hidden + bias
        out, _ = attention(
            hidden_states=layer.input_layernorm(hidden),
            position_embeddings=rotary,
            attention_mask=None,
        )
        return hidden + out

    def features(self, state: State) -> "torch.Tensor":
        """Returns the normalised hidden states that the head reads (B, T, H)."""
        # The head lies where the norm does, and always has a tensor to ask; OLMo's norms have none.
        return self.model.model.norm(at(home(self.model.lm_head), state.hidden))

    def logits(self, features: "torch.Tensor") -> "torch.Tensor":
        """Returns the logits (…, V) of features (…, H)."""
        return self.model.lm_head(features)
