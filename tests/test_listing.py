"""What ``evoprune ls`` shows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from evoprune.config.keys import keys
from evoprune.core.errors import EvopruneError
from evoprune.core.registry import REGISTRIES, kinds
from evoprune.listing import listing, markdown
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

    config = transformers.T5Config(d_model=8, d_ff=8, d_kv=4, num_heads=2, vocab_size=20)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    cause, _ = sentence(listing, "sites", str(tmp_path), ())
    assert cause == (
        "No family takes T5ForConditionalGeneration apart (decoder: it holds shared (20, 8), "
        "encoder, decoder, lm_head (20, 8), and no blocks at model.layers; transformer: "
        "T5ForConditionalGeneration has 2 stacks of blocks (encoder.block, decoder.block))."
    )


def test_a_typo_in_a_model_folder_is_said_by_sites_as_by_search(tmp_path, tiny_config, monkeypatch):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    said = sentence(listing, "sites", "models/mien", ())
    assert said == ("There is no model folder 'models/mien'.", "Did you mean 'models/mine'?")
    assert sentence(search, tiny_config(model={"name_or_path": "models/mien"})) == said


def test_a_backbone_has_no_sites_without_data():
    assert sentence(listing, "sites", "digits", ())[0].startswith("'digits' is a backbone")


SEARCH_KEYS = """\
search.algorithm | part | surrogate_nsga2 | What proposes candidates (`ls algorithms`).
search.n_eval | whole number ≥ 1 or null | null | End after so many evaluations.
search.n_gen | whole number ≥ 1 or null | null | End after so many generations.
search.tokens | number > 0 or null | null | End after so many dense-equivalent tokens.
search.seconds | number > 0 or null | null | End after so many seconds.
search.patience | whole number ≥ 1 or null | null | End after so many generations without a larger \
hypervolume.
search.seed | whole number ≥ 0 | 0 | Of the algorithm; the same seed gives the same search.
search.warm_starts | list of texts | ["dense", "uniform", "last_k"] | Where the search starts \
(`ls starts`).
"""


def test_keys_of_a_section():
    header, rows = listing("keys", "search.", ())
    assert header == ["key", "type", "default", "meaning"]
    assert "".join(" | ".join(row) + "\n" for row in rows) == SEARCH_KEYS


def test_every_key_has_a_type_and_a_meaning():
    every = keys()
    assert len(every) > 70 and len({key.name for key in every}) == len(every)
    assert [key for key in every if not key.meaning.endswith(".") or "anything" in key.kind] == []


def test_the_page_of_keys_is_what_the_command_prints():
    page = Path(__file__).parents[1] / "experiments" / "KEYS.md"
    assert page.read_text(encoding="utf-8") == markdown("keys", *listing("keys", None, ()))


def test_without_a_kind_the_kinds_are_listed():
    header, rows = listing(None, None, ())
    assert header == ["kind", "what"] and {*REGISTRIES, "keys", "sites"} <= {row[0] for row in rows}
    assert all(line for _, line in rows)


@pytest.mark.parametrize("kind", sorted(set(kinds()) - {"sites"}))
def test_every_kind_can_be_listed(kind):
    header, rows = listing(kind, None, ())
    assert rows and all(len(row) == len(header) and row[0] and row[-1] for row in rows)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("objetives", None), "Did you mean 'objectives'?"),
        (("keys", "serach"), "Did you mean 'search'?"),
        (("data", "mine.yaml"), "Leave it out: evoprune ls data."),
        (("sites", None), "evoprune ls sites MODEL."),
    ],
)
def test_what_cannot_be_listed_is_told(words, message):
    assert sentence(listing, *words, ())[1].endswith(message)


def test_the_help_of_ls_names_every_kind_and_loads_nothing_heavy():
    code = (
        "import sys; from typer.testing import CliRunner; from evoprune.cli import app\n"
        "print(CliRunner().invoke(app, ['ls', '--help']).output)\n"
        "print(sorted({'torch', 'ray', 'transformers', 'pymoo'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert said.strip().endswith("[]")
    assert all(kind in said for kind in kinds())
