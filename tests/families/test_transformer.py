"""Transformers are found by rule and confirmed by numbers; what is not what it seems is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from strangers import data_of, settings_of

import evoprune
from evoprune.core.errors import DataError, EvopruneError, ModelError
from evoprune.families.stages import check_stages, forward
from evoprune.families.transformer.family import Transformer, sample
from evoprune.testing.models import KINDS, tiny_transformer

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "vocab_size": 96,
    "pad_token_id": 2,
}
GROUPED = {**SIZES, "num_key_value_heads": 2}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 96}
# What is unlike Llama in each: what is fused, capped, parallel, post-normed, in tuples.
ALL = ("attn", "heads", "mlp", "channels")
FOUND: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "soft caps": ("Gemma2ForCausalLM", {**GROUPED, "head_dim": 8}, ALL),
    "fused gates": ("Phi3ForCausalLM", GROUPED, ("attn", "mlp", "channels")),
    "norms after": ("Olmo2ForCausalLM", GROUPED, ("attn", "mlp", "channels")),
    "interleaved heads": ("GPTNeoXForCausalLM", SIZES, ALL),
    "parallel parts": ("GPTJForCausalLM", {**GPT, "rotary_dim": 4}, ALL),
    "learned positions": (
        "OPTForCausalLM",
        {k: v for k, v in SIZES.items() if k != "intermediate_size"}
        | {"ffn_dim": 48, "word_embed_proj_dim": 32},
        ALL,
    ),
    "experts": ("MixtralForCausalLM", {**GROUPED, "num_local_experts": 4}, ("attn", "heads")),
    "a state space": ("MambaForCausalLM", {"hidden_size": 32, "num_hidden_layers": 2}, ()),
    "other names": ("RobertaForSequenceClassification", SIZES, ALL),
    "gated and fused": ("ModernBertForSequenceClassification", SIZES, ALL),
    "the last token": ("GPT2ForSequenceClassification", {**GPT, "pad_token_id": 2}, ALL),
    "registers": (
        "Dinov2ForImageClassification",
        {k: v for k, v in SIZES.items() if k in ("hidden_size", "num_hidden_layers")}
        | {"num_attention_heads": 4, "image_size": 16, "patch_size": 4},
        ALL,
    ),
}


def made(name: str, options: dict[str, Any]) -> Any:
    """Returns a random model of a class."""
    kind = getattr(transformers, name)
    ends = {} if "image_size" in options else {"bos_token_id": 0, "eos_token_id": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(kind.config_class(**{**ends, **options}))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("case", FOUND)
def test_what_is_found_is_what_numbers_confirm(case):
    name, options, expected = FOUND[case]
    model, family = made(name, options), Transformer()
    assert family.misfit(model) is None
    sites = {site.name: site.kind for site in family.sites(model)}
    for block in range(2):
        here = {kind for name, kind in sites.items() if name.startswith(f"layers.{block}.")}
        assert here == set(expected), family.layout(model).blocks[block].why_not
    batch = sample(model)
    check_stages(model, family.stages(model), batch)
    counted = family.table(model, 12).dense("params")
    assert counted == sum(parameter.numel() for parameter in model.parameters())


def test_what_no_number_confirms_says_why():
    model = made("Olmo2ForCausalLM", GROUPED)
    why = Transformer().layout(model).blocks[0].why_not
    assert set(why) == {"heads"} and why["heads"].startswith("cut, the block fails: RuntimeError")


def test_a_model_of_two_stacks_is_refused():
    config = transformers.T5Config(d_model=8, d_ff=8, d_kv=4, num_heads=2, vocab_size=20)
    with pytest.raises(ModelError, match=r"has 2 stacks of blocks \(encoder.block, decoder.block"):
        Transformer().layout(transformers.T5ForConditionalGeneration(config))


def test_padding_changes_nothing_where_masks_are_read(tmp_path):
    model = transformers.BertForSequenceClassification.from_pretrained(
        tiny_transformer(tmp_path / "model", "bert")
    ).eval()
    stages = Transformer().stages(model)
    ids = torch.tensor([[5, 9, 7, 3]])
    padded = torch.cat([ids, torch.zeros((1, 5), dtype=torch.long)], dim=1)
    mask = (padded > 0).long()
    with torch.inference_mode():
        bare = stages.logits(forward(stages, {"input_ids": ids, "attention_mask": ids * 0 + 1}))
        full = stages.logits(forward(stages, {"input_ids": padded, "attention_mask": mask}))
    assert torch.allclose(bare, full, atol=1e-5)


def refused(kind: str, folder: Path, data: Any = None, **sections: Any) -> EvopruneError:
    """Returns the error of a search that is refused."""
    model = tiny_transformer(folder / "model", kind)
    settings = settings_of(model, kind, "transformer/depth") | {"output": str(folder / "run")}
    for name, section in sections.items():
        settings[name] = section
    with pytest.raises(EvopruneError) as caught:
        evoprune.search(settings, data=data_of(kind) if data is None else data, quiet=True)
    return caught.value


def test_a_classifier_is_no_language_model(tmp_path):
    sections = {"task": "causal_lm", "objectives": ["kl", "params"]}
    error = refused("bert", tmp_path, data_of("llama"), **sections)
    assert "says one thing of an example" in error.cause
    assert "task: text_classification" in error.remedy


def test_a_language_model_is_no_classifier(tmp_path):
    from evoprune.testing.models import byte_tokenizer

    folder = tiny_transformer(tmp_path / "model", "gpt2")
    tokenizer = byte_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    settings = settings_of(folder, "bert", "transformer/depth") | {"output": str(tmp_path / "run")}
    with pytest.raises(ModelError, match="and GPT2LMHeadModel knows"):
        data = [{**one, "label": 7} for one in data_of("bert")]
        evoprune.search(settings, data=data, quiet=True)
    with pytest.raises(ModelError, match="and a classifier one for each class"):
        data = [{**one, "label": i % 2} for i, one in enumerate(data_of("bert"))]
        evoprune.search(settings, data=data, quiet=True)


def test_labels_are_classes_of_the_network(tmp_path):
    data = [{**one, "label": f"LABEL_{one['label']}x"} for one in data_of("bert")]
    error = refused("bert", tmp_path, data)
    assert "'LABEL_0x', and BertForSequenceClassification knows LABEL_0" in error.cause
    assert error.remedy == "Did you mean 'LABEL_0'?"


def test_examples_without_labels_are_refused(tmp_path):
    error = refused("bert", tmp_path, data_of("llama"))
    assert isinstance(error, DataError) and "has no label" in error.cause


def test_a_tokenizer_is_no_image_processor(tmp_path):
    error = refused("bert", tmp_path, data_of("vit"), task="image_classification")
    assert "makes no pictures into inputs" in error.cause
    assert "preprocessor_config.json" in error.remedy


def test_pictures_are_no_texts(tmp_path):
    error = refused("vit", tmp_path, data_of("bert"))
    assert "holds no pictures" in error.cause


def test_a_model_without_its_head_is_refused(tmp_path):
    folder = tiny_transformer(tmp_path / "model", "bert")
    model = transformers.BertModel.from_pretrained(folder)
    model.config.architectures = ["BertForSequenceClassification"]
    model.save_pretrained(folder)
    config = transformers.BertConfig.from_pretrained(folder)
    config.architectures = ["BertForSequenceClassification"]
    config.save_pretrained(folder)
    settings = settings_of(folder, "bert", "transformer/depth") | {"output": str(tmp_path / "run")}
    with pytest.raises(ModelError, match="has no weights for 2 tensors of BertForSequ"):
        evoprune.search(settings, data=data_of("bert"), quiet=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_front_of_every_kind(kind, tmp_path):
    model = tiny_transformer(tmp_path / "model", kind)
    settings = settings_of(model, kind, "decoder/subblocks") | {"output": str(tmp_path / "run")}
    run = evoprune.search(settings, data=data_of(kind), quiet=True)
    values = run.front.array("search")
    assert len(run.front) >= 1 and np.isfinite(values).all()
    assert {"transformer"} == {run.folder.read_manifest()["family"]}
