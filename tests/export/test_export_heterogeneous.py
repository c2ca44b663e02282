"""Models whose layers differ compute what the realised pattern computes, cached or not."""

import copy
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import StaticCache

from evoprune.core.export_rungs import kept_blocks
from evoprune.core.pattern import Drop, Keep
from evoprune.core.space import Gene, Site, Space
from evoprune.evaluation.realise import Realised
from evoprune.export import fresh
from evoprune.export.heterogeneous import differ, layer_table
from evoprune.export.subject import ExportSubject
from evoprune.families.decoder import Decoder
from evoprune.families.flops import executed_flops
from tests.export.conftest import VOCABULARY, tiny

LAYERS = 4
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "tied Llama": ("Llama", {"tie_word_embeddings": True}),
    "biased Llama": ("Llama", {"attention_bias": True, "mlp_bias": True}),
    "Qwen2": ("Qwen2", {"tie_word_embeddings": True}),
    "Qwen3": ("Qwen3", {"tie_word_embeddings": False}),
    "SmolLM3": ("SmolLM3", {"no_rope_layer_interval": 2}),
    "Mistral": ("Mistral", {"sliding_window": None}),
}
TYPES = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]
SLIDING = {"layer_types": TYPES, "use_sliding_window": True, "sliding_window": 4}
TOKENS = np.random.default_rng(3).integers(4, VOCABULARY, (2, 24))
PROMPTS = torch.from_numpy(TOKENS[:, : fresh.WIDTH])
# What of each layer is left, as (kv heads, channels); None is a part that is dropped.
EXTREMES = {
    "layer 0 does not attend": [(None, 40), (2, 40), (4, 7), (4, 40)],
    "only the last layer attends": [(None, 3), (None, 40), (None, None), (1, None)],
    "no layer attends": [(None, 40), (None, 1), (None, 20), (None, 40)],
    "no layer has an MLP": [(4, None), (1, None), (2, None), (4, None)],
    "one unit everywhere": [(1, 1)] * 4,
    "one block left": [(None, None), (None, None), (3, None), (None, None)],
    "one MLP left": [(None, None), (None, None), (None, 5), (None, None)],
    "parts without units": [(0, 40), (4, 0), (0, 0), (2, 5)],
    "one unlike the others": [(4, 40), (4, 40), (4, 39), (4, 40)],
}


@cache
def base(name: str) -> Any:
    kind, extra = MODELS.get(name, ("Qwen2", SLIDING))
    return tiny(kind, num_hidden_layers=LAYERS, **extra).double().requires_grad_(False)


@cache
def space_of(name: str, bits: bool) -> Space:
    sites = Decoder().sites(base(name))
    return Space({site.name: site for site in sites}, tuple(gene(site, bits) for site in sites))


def gene(site: Site, bits: bool) -> Gene:
    if site.kind not in ("heads", "channels"):
        return Gene(site.name, (site.name,), (Keep(1), Drop()))
    if bits:
        return Gene(site.name, (site.name,), bits=site.units)
    widths = tuple(Keep(units) for units in range(site.units, -1, -1))
    return Gene(site.name, (site.name,), widths)


def subject_of(name: str, space: Space, x: np.ndarray) -> ExportSubject:
    model, family, pattern = base(name), Decoder(), space.pattern(x)
    return ExportSubject(
        model=model,
        family=family,
        table=family.table(model, 1),
        space=space,
        pattern=pattern,
        realised=Realised.of(space.options(pattern)),
        parents={site.name: site.parent for site in space.sites.values()},
    )


def of_widths(name: str, left: list) -> ExportSubject:
    """Returns the subject that keeps so many heads and channels in each layer."""
    space, x = space_of(name, False), []
    for heads, channels in left:
        x += [0, int(heads is None), 4 - (heads or 0) if heads is not None else 0]
        x += [int(channels is None), 40 - (channels or 0) if channels is not None else 0]
    return subject_of(name, space, np.array(x))


def candidate(space: Space, drops: float, widths: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = np.zeros(space.n_var, dtype=np.int64)
    for index, each in enumerate(space.genes):
        chance = drops if any(isinstance(option, Drop) for option in each.options) else widths
        hit = rng.random(each.width) < chance
        x[space.columns(index)] = np.where(hit, rng.integers(1, each.levels, each.width), 0)
    return x


def check(subject: ExportSubject) -> Any:
    """Returns the smaller model, its logits and its cached decoding found equal."""
    model = differ(subject)
    expected = subject.logits(TOKENS)
    with torch.inference_mode():
        found = model(torch.from_numpy(TOKENS), use_cache=False).logits.numpy()
        assert np.abs(found - expected).max() <= 1e-9 * np.abs(expected).max()
        assert fresh.stepwise(model, PROMPTS) <= 1e-9
    assert all(parameter.numel() for parameter in model.parameters())
    return model


@pytest.mark.parametrize("name", MODELS)
@given(
    bits=st.booleans(),
    drops=st.sampled_from([0.0, 0.2, 0.5, 0.8]),
    widths=st.sampled_from([0.0, 0.5, 1.0]),
    seed=st.integers(0, 2**20),
)
@settings(max_examples=35, deadline=None, derandomize=True)
def test_random_patterns(name: str, bits: bool, drops: float, widths: float, seed: int) -> None:
    space = space_of(name, bits)
    subject = subject_of(name, space, candidate(space, drops, widths, seed))
    if kept_blocks(space, subject.pattern):
        check(subject)  # differ() holds the parameters against the cost table


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("left", EXTREMES.values(), ids=EXTREMES)
def test_extremes(name: str, left: list) -> None:
    subject = of_widths(name, left)
    model = check(subject)
    model.generation_config.eos_token_id = None
    assert len(model.model.layers) == sum(parts != (None, None) for parts in left)
    with torch.inference_mode():
        assert fresh.greedy(model, PROMPTS) <= 1e-9


@pytest.mark.parametrize("left", EXTREMES.values(), ids=EXTREMES)
def test_no_flops_are_spent_on_what_is_gone(left: list) -> None:
    subject = of_widths("tied Llama", left)
    table = subject.family.table(subject.model, TOKENS.shape[1])
    model, X = differ(subject), subject.space.encode([subject.pattern])
    with torch.inference_mode():
        executed = executed_flops(lambda: model(torch.from_numpy(TOKENS), use_cache=False))
    assert executed == table.cost("flops", subject.space, X)[0] * TOKENS.size


@pytest.mark.parametrize("name", MODELS)
def test_a_static_cache_has_a_slot_for_each_layer_that_attends(name: str) -> None:
    model = differ(of_widths(name, [(None, 40), (2, 9), (None, 5), (4, None)]))
    cache, pieces = StaticCache(config=model.config, max_cache_len=24), []
    with torch.inference_mode():
        full = model(PROMPTS, use_cache=False).logits
        for start, end in ((0, 9), (9, 10), (10, 13), (13, 16)):
            out = model(PROMPTS[:, start:end], past_key_values=cache, use_cache=True)
            pieces.append(out.logits)
    assert len(cache.layers) == 2 and all(layer.is_initialized for layer in cache.layers)
    assert fresh.difference(torch.cat(pieces, dim=1), full) <= 1e-9


def test_sliding_windows_go_with_their_layers() -> None:
    model = differ(of_widths("sliding Qwen2", [(None, 40), (2, 40), (4, None), (4, 9)]))
    cache = StaticCache(config=model.config, max_cache_len=24)
    assert cache.is_sliding == [True, False, True]
    with torch.inference_mode():
        assert fresh.stepwise(model, PROMPTS) <= 1e-9


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_kernels_agree(attention: str) -> None:
    subject = of_widths("Qwen3", EXTREMES["layer 0 does not attend"])
    model = differ(subject)
    model.set_attn_implementation(attention)
    with torch.inference_mode():
        found = model(torch.from_numpy(TOKENS)).logits.numpy()
        # In float64 the library's eager attention is NaN where all is padding.
        assert fresh.stepwise(model.float(), PROMPTS) <= 1e-4
    expected = subject.logits(TOKENS)
    # Eager attention has its softmax in float32.
    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()


def test_beams_do_not_depend_on_the_cache() -> None:
    model = copy.deepcopy(differ(of_widths("Qwen3", EXTREMES["layer 0 does not attend"])))
    tokens, mask = fresh.left_padded(PROMPTS)
    settings = {"num_beams": 3, "max_new_tokens": 6, "eos_token_id": None, "do_sample": False}
    found = [
        model.generate(tokens, attention_mask=mask, use_cache=cached, **settings)
        for cached in (True, False)
    ]
    assert torch.equal(*found)


def test_sampling_and_hidden_states() -> None:
    model = differ(of_widths("tied Llama", EXTREMES["layer 0 does not attend"]))
    tokens, mask = fresh.left_padded(PROMPTS)
    torch.manual_seed(0)
    made = model.generate(
        tokens, attention_mask=mask, max_new_tokens=5, do_sample=True, eos_token_id=None
    )
    assert made.shape == (2, fresh.WIDTH + 5)
    out = model(PROMPTS, output_hidden_states=True, labels=PROMPTS)
    assert len(out.hidden_states) == 1 + len(model.model.layers)
    assert torch.isfinite(out.loss)


def test_the_layers_are_said_in_a_table() -> None:
    subject = of_widths("Qwen3", [(None, None), (2, 40), (None, 7), (4, 40)])
    assert layer_table(subject) == [
        {"layer": "0", "in the base": "1", "heads": "2 of 4", "channels": "40 of 40"},
        {"layer": "1", "in the base": "2", "heads": "–", "channels": "7 of 40"},
        {"layer": "2", "in the base": "3", "heads": "4 of 4", "channels": "40 of 40"},
    ]


def test_the_configuration_says_what_differs() -> None:
    config = differ(of_widths("tied Llama", [(4, 40), (2, 40), (None, 7), (4, 40)])).config
    said = config.to_dict()
    assert said["model_type"] == "evoprune_llama"
    assert said["per_layer_config"] == {
        "1": {"num_attention_heads": 4, "num_key_value_heads": 2},
        "2": {"intermediate_size": 7, "skip": ["attention"]},
    }
    assert config.hidden_act == "silu" and said["hidden_act"] != "silu"
    assert type(config).from_dict(said).to_dict() == said
