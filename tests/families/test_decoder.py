"""The decoder family against the library's own models."""

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from evoprune.core.errors import ModelError
from evoprune.core.genes import GeneSpec, build_space
from evoprune.families.decoder import Decoder
from evoprune.families.load import family_of
from evoprune.families.stages import check_stages, forward

SIZES = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}
FITTING = ("Llama", "Mistral", "Qwen2", "Qwen3", "Gemma", "Olmo", "biased Llama")


def made(kind: str, **settings: Any) -> Any:
    """Returns a random float64 model, its biases and norms random as well."""
    if kind.startswith("biased"):
        settings |= {"attention_bias": True, "mlp_bias": True}
    name = kind.split()[-1]
    config = getattr(transformers, f"{name}Config")(**SIZES | settings)
    model = getattr(transformers, f"{name}ForCausalLM")(config).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


def some_tokens(rows: int = 3, length: int = 21) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 90, (rows, length)))


def dense_cost(model: Any, metric: str, context: int = 16) -> float:
    family = Decoder()
    space = build_space("", family.sites(model), [GeneSpec("block", drop=True)])
    return float(family.table(model, context).cost(metric, space, np.zeros((1, 3), int))[0])


@pytest.mark.parametrize("kind", FITTING)
def test_fits_models_built_like_llama(kind):
    assert isinstance(family_of(made(kind)), Decoder)


@pytest.mark.parametrize(
    "model",
    [
        lambda: transformers.GPT2LMHeadModel(
            transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2)
        ),
        lambda: transformers.Gemma2ForCausalLM(transformers.Gemma2Config(**SIZES)),
        lambda: transformers.Phi3ForCausalLM(transformers.Phi3Config(**SIZES, pad_token_id=0)),
        lambda: made("Llama").model,
        lambda: nn.Sequential(nn.Linear(2, 2)),
    ],
    ids=["GPT-2", "Gemma 2", "Phi 3", "a body without head", "a plain module"],
)
def test_refuses_other_models(model):
    refused = model()
    assert not Decoder().fits(refused)
    with pytest.raises(ModelError, match=type(refused).__name__):
        family_of(refused, "decoder")


UNLIKE = {
    "Phi3": (
        r"model\.layers\.0\.self_attn holds qkv_proj \(64, 32\) and has no q_proj, k_proj, v_proj; "
        r"model\.layers\.0\.mlp holds gate_up_proj \(80, 32\), activation_fn and has no gate_proj",
        {"pad_token_id": 0},
    ),
    "Olmo2": (
        r"model\.layers\.0 holds post_feedforward_layernorm \(32,\) and has no input_layernorm",
        {},
    ),
    "GPT2": (r"it holds transformer, lm_head \(50, 8\), and no blocks at model\.layers", {}),
}


@pytest.mark.parametrize("kind", UNLIKE)
def test_a_refusal_names_the_child_and_its_shape(kind):
    message, settings = UNLIKE[kind]
    if kind == "GPT2":
        config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=50)
        model = transformers.GPT2LMHeadModel(config)
    else:
        model = made(kind, **settings)
    with pytest.raises(ModelError, match=message):
        family_of(model, "decoder")


@pytest.mark.parametrize("kind", FITTING)
def test_stages_are_the_model(kind):
    model, tokens = made(kind), some_tokens()
    stages = Decoder().stages(model)
    with torch.inference_mode():
        theirs = model(tokens, use_cache=False).logits
        ours = stages.logits(forward(stages, {"tokens": tokens}))
    assert (ours - theirs).abs().max() <= 1e-9 * theirs.abs().max()
    check_stages(model, stages, {"tokens": tokens})


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("Granite", {"residual_multiplier": 0.5}), ("Mistral", {"sliding_window": 4})],
)
def test_a_model_that_only_looks_like_llama_is_refused(kind, settings):
    model = made(kind, **settings)
    assert Decoder().fits(model)
    with pytest.raises(
        ModelError, match=r"other logits .*part in block 0, which gives \(3, 21, 32"
    ):
        check_stages(model, Decoder().stages(model), {"tokens": some_tokens()})


def test_a_window_shorter_than_an_example_is_named():
    model = made("Mistral", sliding_window=16)
    Decoder().check_numbers(model, some_tokens(length=16))
    with pytest.raises(ModelError, match=r"layers\.0.* sees 16 tokens .* has 21.*chunk_tokens=16"):
        Decoder().check_numbers(model, some_tokens(length=21))
    # A class that never reads what its configuration says has no window.
    Decoder().check_numbers(made("Granite", sliding_window=16), some_tokens(length=21))


def test_a_dense_model_with_nan_logits_is_refused():
    model = made("Llama")
    model.model.norm.weight.data[0] = torch.nan
    with pytest.raises(ModelError, match="NaN"):
        check_stages(model, Decoder().stages(model), {"tokens": some_tokens()})


@pytest.mark.parametrize("kind", FITTING)
def test_padding_at_the_right_changes_nothing_before_it(kind):
    stages, tokens = Decoder().stages(made(kind)), some_tokens()
    other = tokens.clone()
    other[:, 12:] = 0
    with torch.inference_mode():
        difference = (
            forward(stages, {"tokens": tokens})[:, :12] - forward(stages, {"tokens": other})[:, :12]
        )
    assert difference.abs().max() == 0


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", FITTING)
def test_counted_parameters_are_the_real_ones(kind, tied):
    model = made(kind, tie_word_embeddings=tied)
    real = sum(parameter.numel() for parameter in model.parameters())
    assert dense_cost(model, "params") == real
    assert dense_cost(model, "bytes") == 8 * real


@pytest.mark.parametrize("kind", FITTING)
def test_counted_cache_is_the_real_one(kind):
    model = made(kind)
    cache = model(some_tokens(1, 16), use_cache=True).past_key_values
    layers = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    assert dense_cost(model, "kv_bytes") == sum(tensor.nbytes for tensor in layers) / 16


@pytest.mark.parametrize("tied", [True, False])
def test_every_tensor_of_the_state_dict_has_one_row(tied):
    model = made("Qwen3", tie_word_embeddings=tied)
    names = [row.name for row in Decoder().table(model, 8).tensors()]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())


def test_a_tensor_of_an_unexpected_shape_is_named():
    model = made("Llama")
    model.model.layers[1].mlp.down_proj.weight.data = torch.zeros(32, 41)
    with pytest.raises(ModelError, match=r"layers\.1\.mlp\.down_proj\.weight"):
        Decoder().table(model, 8)


def test_sites_nest_and_count_their_units():
    sites = {site.name: site for site in Decoder().sites(made("Qwen2"))}
    assert len(sites) == 3 * 5
    assert (sites["layers.1.attn.heads"].units, sites["layers.1.mlp.channels"].units) == (2, 40)
    assert sites["layers.2.mlp.channels"].parent == "layers.2.mlp"
    assert sites["layers.2.mlp"].parent == "layers.2"
