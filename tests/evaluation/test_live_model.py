"""A live model is searched like the same model from a folder, and stays as it is."""

import pytest
import torch
from transformers import AutoModelForCausalLM

import evoprune
from evoprune.core.errors import ModelError, RunFolderError


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


def test_a_path_is_no_live_model(tiny_config, tiny_llama):
    with pytest.raises(ModelError, match="The model handed over is str, no module"):
        evoprune.search(tiny_config(), model=str(tiny_llama), quiet=True)


def test_a_network_for_images_is_no_language_model(tiny_config):
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Flatten())
    with pytest.raises(
        ModelError, match=r"is Sequential, no model of transformers.*`task: classif"
    ):
        evoprune.search(tiny_config(), model=network, quiet=True)


def test_another_live_model_on_a_prepared_folder_is_refused(tiny_config, tiny_llama):
    settings, model = tiny_config(), live(tiny_llama)
    run = evoprune.search(settings, quiet=True)
    again = evoprune.search(settings, model=model, quiet=True)
    assert again.front == run.front, "the same weights, named and live, are the same model"
    with torch.no_grad():
        model.model.layers[2].mlp.up_proj.weight[3, 1] += 1e-3
    with pytest.raises(RunFolderError, match=r"run' was prepared with other weights than those"):
        evoprune.search(settings, model=model, quiet=True)
    assert evoprune.search(settings, quiet=True).front == run.front
