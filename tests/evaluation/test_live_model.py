"""A live model is searched like the same model from a folder, and stays as it is."""

import pytest
import torch
from transformers import AutoModelForCausalLM

import evoprune


def live(folder, **settings):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **settings)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_live_model_gives_the_front_of_its_folder(tiny_config, tiny_llama, tmp_path, attention):
    settings = tiny_config(space="decoder/depth_width")
    named = evoprune.search(settings | {"output": str(tmp_path / "named")}, quiet=True)
    model = live(tiny_llama, attn_implementation=attention).train()
    run = evoprune.search(settings, model=model, quiet=True)
    assert run.folder.front_csv.read_bytes() == named.folder.front_csv.read_bytes()


def test_a_live_model_stays_as_it_is(tiny_config, tiny_llama):
    model = live(tiny_llama, attn_implementation="eager").train()
    parameters = dict(model.named_parameters())
    before = {name: tensor.detach().clone() for name, tensor in parameters.items()}
    evoprune.search(tiny_config(space="decoder/depth_width"), model=model, quiet=True)
    assert model.training and model.config._attn_implementation == "eager"
    for name, tensor in model.named_parameters():
        assert tensor is parameters[name] and tensor.requires_grad
        assert torch.equal(tensor, before[name])


def test_a_live_model_is_searched_in_the_dtype_that_is_asked_for(tiny_config, tiny_llama):
    run = evoprune.search(tiny_config(), model=live(tiny_llama).to(torch.bfloat16), quiet=True)
    assert run.front.dense["val_kl"] == 0
