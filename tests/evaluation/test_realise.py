"""Realised patterns against masked models and against the FLOPs that torch counts."""

import copy
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from evoprune.core.pattern import Bits, Drop, Keep, Option
from evoprune.core.space import Gene, Site, Space
from evoprune.evaluation.realise import Realiser
from evoprune.families.decoder import Decoder
from evoprune.families.flops import executed_flops
from evoprune.families.stages import forward

KINDS = ("Llama", "biased Llama", "Qwen2", "Qwen3")
LAYERS, HEADS, GROUP, HEAD_DIM, CHANNELS = 3, 3, 2, 4, 10
TOKENS = torch.from_numpy(np.random.default_rng(0).integers(0, 50, (2, 11)))


@cache
def made(kind: str) -> Any:
    """Returns a random float64 decoder, its biases and norms random as well."""
    sizes = {
        "vocab_size": 50,
        "hidden_size": 18,
        "intermediate_size": CHANNELS,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS * GROUP,
        "num_key_value_heads": HEADS,
        "head_dim": HEAD_DIM,
        "tie_word_embeddings": kind == "Qwen3",
    }
    if kind.startswith("biased"):
        sizes |= {"attention_bias": True, "mlp_bias": True}
    name = kind.split()[-1]
    config = getattr(transformers, f"{name}Config")(**sizes)
    model = getattr(transformers, f"{name}ForCausalLM")(config).double().eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.requires_grad_(False).parameters():
        parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def space_of(model: Any, bits: bool) -> Space:
    """Returns a space with every drop, and every width from all units to none, or a bit a unit."""
    sites = Decoder().sites(model)
    return Space({site.name: site for site in sites}, tuple(gene(site, bits) for site in sites))


def gene(site: Site, bits: bool) -> Gene:
    if site.kind not in ("heads", "channels"):
        return Gene(site.name, (site.name,), (Keep(1), Drop()))
    if bits:
        return Gene(site.name, (site.name,), bits=site.units)
    widths = tuple(Keep(units) for units in range(site.units, -1, -1))
    return Gene(site.name, (site.name,), widths)


def candidate(space: Space, drops: float, widths: float, seed: int) -> np.ndarray:
    """Returns a random candidate; at chances of 0 and 1 nothing and everything is removed."""
    rng = np.random.default_rng(seed)
    x = np.zeros(space.n_var, dtype=np.int64)
    for index, each in enumerate(space.genes):
        columns = space.columns(index)
        chance = drops if any(isinstance(option, Drop) for option in each.options) else widths
        hit = rng.random(each.width) < chance
        level = rng.integers(1, each.levels, each.width) if chance < 1 else each.levels - 1
        x[columns] = np.where(hit, level, 0)
    return x


def masked(model: Any, options: dict[str, Option]) -> Any:
    """Returns a whole copy in which what is removed has weights of zero on its way out."""
    copied = copy.deepcopy(model)
    tensors = dict(copied.named_parameters())
    for site, option in options.items():
        if isinstance(option, Drop):
            for name in Decoder().silence(site):
                if name in tensors:
                    tensors[name].zero_()
            continue
        part, size = ("mlp.down_proj", 1)
        if site.endswith("heads"):
            part, size = ("self_attn.o_proj", HEAD_DIM * GROUP)
        weight = tensors[f"model.layers.{site.split('.')[1]}.{part}.weight"]
        kept = option.mask if isinstance(option, Bits) else np.arange(CHANNELS) < option.units
        units = weight.shape[1] // size
        weight[:, torch.from_numpy(np.repeat(~kept[:units], size))] = 0
    return copied


CHANCES = st.sampled_from([0.0, 0.2, 0.7, 1.0])
SPACES = st.tuples(st.sampled_from(KINDS), st.booleans())


@settings(max_examples=40)
@given(SPACES, CHANCES, CHANCES, st.integers(0, 2**31))
def test_realised_equals_masked(which, drops, widths, seed):
    model = made(which[0])
    space = space_of(model, which[1])
    options = space.options(space.pattern(candidate(space, drops, widths, seed)))
    stages = Decoder().stages(model)
    with torch.inference_mode():
        expected = masked(model, options)(TOKENS, use_cache=False).logits
        with Realiser(model, Decoder().table(model, 11)).apply(options) as realised:
            found = stages.logits(forward(stages, {"tokens": TOKENS}, realised.dropped))
    assert (found - expected).abs().max() <= 1e-9 * expected.abs().max()


@settings(max_examples=40)
@given(SPACES, CHANCES, CHANCES, st.integers(0, 2**31))
def test_executed_flops_are_the_counted_ones(which, drops, widths, seed):
    model = made(which[0])
    space, table = space_of(model, which[1]), Decoder().table(model, TOKENS.shape[1])
    x = space.canonical(candidate(space, drops, widths, seed))
    stages = Decoder().stages(model)
    with torch.inference_mode(), Realiser(model, table).apply(space.options(space.pattern(x))) as r:
        executed = executed_flops(
            lambda: stages.logits(forward(stages, {"tokens": TOKENS}, r.dropped))
        )
    assert executed == table.cost("flops", space, x)[0] * TOKENS.numel()


@settings(max_examples=20)
@given(SPACES, CHANCES, CHANCES, st.integers(0, 2**31))
def test_kept_parameters_are_the_counted_ones(which, drops, widths, seed):
    model = made(which[0])
    space, table = space_of(model, which[1]), Decoder().table(model, 8)
    x = space.canonical(candidate(space, drops, widths, seed))
    parents = {site.name: site.parent for site in space.sites.values()}
    with Realiser(model, table).apply(space.options(space.pattern(x))) as realised:
        here = dict(model.named_parameters())
        rows = [row for row in table.tensors() if not realised.gone(row, parents)]
        kept = sum(here[row.name].numel() for row in rows)
    assert kept == table.cost("params", space, x)[0]


def test_executed_flops_count_products_and_attention():
    q, k = torch.zeros(2, 6, 5, 4), torch.zeros(2, 3, 5, 4)

    def run() -> None:
        torch.zeros(7, 8) @ torch.zeros(8, 9)
        torch.nn.functional.scaled_dot_product_attention(q, k, k, is_causal=True, enable_gqa=True)

    assert executed_flops(run) == 2 * 7 * 8 * 9 + 2 * 2 * 6 * 5 * 5 * (4 + 4)


@pytest.mark.parametrize("bits", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_empty_pattern_is_bit_identical_to_the_base(kind, bits):
    model = made(kind)
    space, stages = space_of(model, bits), Decoder().stages(model)
    with torch.inference_mode():
        base = stages.logits(forward(stages, {"tokens": TOKENS}))
        with Realiser(model, Decoder().table(model, 8)).apply(space.options(space.dense)) as r:
            found = stages.logits(forward(stages, {"tokens": TOKENS}, r.dropped))
    assert torch.equal(found, base)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_reverting_leaves_no_trace(kind, fails):
    model = made(kind)
    before = {name: (p, p.clone()) for name, p in model.named_parameters(remove_duplicate=False)}
    space = space_of(model, bits=True)
    options = space.options(space.pattern(candidate(space, 0.0, 0.6, 3)))
    try:
        with Realiser(model, Decoder().table(model, 8)).apply(options):
            assert model.model.layers[0].mlp.down_proj.weight.shape[1] < CHANNELS
            if fails:
                raise KeyError("anything")
    except KeyError:
        assert fails
    after = dict(model.named_parameters(remove_duplicate=False))
    assert list(after) == list(before)
    assert all(after[n] is p and torch.equal(p, values) for n, (p, values) in before.items())


def test_a_prefix_of_units_is_a_view():
    model = made("Llama")
    whole = model.model.layers[1].mlp.down_proj.weight
    options = {"layers.1.mlp.channels": Keep(4), "layers.2.mlp.channels": Keep(4)}
    with Realiser(model, Decoder().table(model, 8)).apply(options):
        cut = model.model.layers[1].mlp.down_proj.weight
        assert cut.shape[1] == 4
        assert cut.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
