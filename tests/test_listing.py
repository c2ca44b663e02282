"""What ``evoprune ls`` shows."""

import json

import pytest

from evoprune.errors import EvopruneError
from evoprune.listing import listing
from evoprune.run import search
from evoprune.testing import tiny_decoder


def sentence(call, *arguments):
    """Returns cause and remedy with which something is refused."""
    with pytest.raises(EvopruneError) as caught:
        call(*arguments)
    return caught.value.cause, caught.value.remedy


def changed(folder, **settings):
    """Returns a model's folder with some settings of its configuration changed."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    return folder


def windowed(folder):
    """Returns the folder of a tiny Mistral that looks back 20 tokens."""
    return changed(
        tiny_decoder(folder),
        architectures=["MistralForCausalLM"],
        model_type="mistral",
        sliding_window=20,
    )


def test_sites_of_a_model_folder_have_the_parameters_in_them(tiny_llama):
    header, rows = listing("sites", str(tiny_llama), ())
    assert header == ["site", "kind", "units", "parent", "parameters"]
    assert [row[0] for row in rows[:3]] == ["layers.0", "layers.0.attn", "layers.0.attn.heads"]
    block, attn, _, mlp, _ = (int(row[4].replace(",", "") or 0) for row in rows[:5])
    assert block == attn + mlp > 0


def test_sites_and_search_refuse_a_short_window_in_the_same_words(tmp_path, tiny_config):
    folder = windowed(tmp_path / "model")
    said = sentence(listing, "sites", str(folder), ())
    settings = tiny_config(model={"name_or_path": str(folder)})
    settings["data"]["chunk_tokens"] = 128
    settings["data"]["max_chunks_per_document"] = None
    assert sentence(search, settings) == said
    assert said == (
        "In model.layers.0.self_attn of MistralForCausalLM a token sees 20 tokens "
        "(sliding_window), and an example has 128.",
        "Set data.chunk_tokens=20 or less: blocks are run without a window.",
    )


def test_sites_of_a_model_of_no_family_name_what_is_in_the_way(tmp_path):
    import transformers

    config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=20)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    cause, _ = sentence(listing, "sites", str(tmp_path), ())
    assert cause == (
        "No family takes GPT2LMHeadModel apart (decoder: it holds transformer, lm_head (20, 8), "
        "and no blocks at model.layers)."
    )


def test_a_typo_in_a_model_folder_is_said_by_sites_as_by_search(tmp_path, tiny_config, monkeypatch):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    said = sentence(listing, "sites", "models/mien", ())
    assert said == ("There is no model folder 'models/mien'.", "Did you mean 'models/mine'?")
    assert sentence(search, tiny_config(model={"name_or_path": "models/mien"})) == said


def test_a_backbone_has_no_sites_without_data():
    assert sentence(listing, "sites", "digits", ())[0].startswith("'digits' is a backbone")
