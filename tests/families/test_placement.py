"""A network over several devices.

Torch's fake tensors on two made-up devices play the GPUs: they refuse to add what lies on two of
them. On the CPU values are the same to the last bit.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import LlamaConfig, LlamaForCausalLM, OlmoConfig, OlmoForCausalLM

from evoprune.config.schema import load_config
from evoprune.core.errors import ConfigError, ModelError
from evoprune.evaluation.worker import Worker
from evoprune.families import load
from evoprune.families.decoder import Decoder
from evoprune.families.load import load_base, load_model, write_base
from evoprune.families.placement import (
    balanced,
    check_device,
    home,
    is_streamed,
    spread,
    streamed,
    visible,
    visiting,
)
from evoprune.families.stages import forward
from evoprune.progress.console import Console
from evoprune.session import open_session


def small(tied: bool) -> LlamaForCausalLM:
    return (
        LlamaForCausalLM(
            LlamaConfig(
                vocab_size=300,
                hidden_size=32,
                intermediate_size=48,
                num_hidden_layers=4,
                num_attention_heads=4,
                num_key_value_heads=2,
                tie_word_embeddings=tied,
                attn_implementation="sdpa",
            )
        )
        .eval()
        .requires_grad_(False)
    )


def whole_pass(model, device="cpu:0") -> dict[str, torch.Tensor]:
    """Runs what a worker and a check run; returns where things ended."""
    stages = Decoder().stages(model)
    tokens = torch.zeros((2, 16), dtype=torch.long, device=device)
    with torch.no_grad():
        features = forward(stages, {"tokens": tokens})
        part = forward(stages, {"tokens": tokens}, {"layers.1", "layers.2.attn"})
        logits = stages.logits(features)
        library = model(tokens, use_cache=False).logits
    return {"features": features, "part": part, "logits": logits, "library": library}


@pytest.mark.parametrize("tied", [True, False])
def test_blocks_lie_on_two_gpus_and_all_else_on_the_first(tied):
    with FakeTensorMode():
        model = spread(Decoder(), small(tied), ["cpu:0", "cpu:1"])
        places = [str(home(layer)) for layer in model.model.layers]
        assert places[0] == "cpu:0" and places[-1] == "cpu:1" and places == sorted(places)
        assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
        found = whole_pass(model)
    assert {str(value.device) for value in found.values()} == {"cpu:0"}


def test_a_state_that_is_not_moved_would_be_noticed(monkeypatch):
    monkeypatch.setattr("evoprune.families.decoder.at", lambda device, value: value)
    with FakeTensorMode():
        model = spread(Decoder(), small(True), ["cpu:0", "cpu:1"])
        with pytest.raises(RuntimeError, match="cpu:1"):
            whole_pass(model)


def worker_of(tiny_config, folder, device_map) -> Worker:
    """Returns a worker on a run that was prepared so."""
    config = load_config(tiny_config(output=str(folder)))
    model = config.model.model_copy(update={"device_map": device_map})
    config = config.model_copy(update={"model": model})
    session = open_session(config, Console(stream=None))
    session.close()
    return Worker(session.spec)


def test_a_run_over_two_places_is_the_run_of_one_device(tiny_config, tmp_path, monkeypatch):
    one = worker_of(tiny_config, tmp_path / "one", None)
    monkeypatch.setattr(load, "visible", lambda device: ["cpu", "cpu"])
    two = worker_of(tiny_config, tmp_path / "two", "balanced")
    assert two.model.model.layers[0]._forward_pre_hooks and not one.model.model._forward_pre_hooks
    for choices in ([0, 0, 0, 0], [0, 1, 0, 1], [1, 1, 1, 1]):
        (pattern,) = one.space.patterns([choices])
        assert one.evaluate(pattern).values == two.evaluate(pattern).values
    identities = {
        (tmp_path / name / "manifest.json").read_text().split('"identity"')[1][:80]
        for name in ("one", "two")
    }
    assert len(identities) == 1, "where a model lies is no part of what a run is"


def test_what_is_spread_over_the_cpu_stays_mapped(tiny_llama, tmp_path):
    write_base(load_model(str(tiny_llama)), tmp_path)
    model = load_base(tmp_path, "float32", "cpu")
    before = [parameter.data_ptr() for parameter in model.parameters()]
    spread(Decoder(), model, ["cpu", "cpu"])
    assert [parameter.data_ptr() for parameter in model.parameters()] == before


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=60),
    rest=st.integers(0, 100),
    count=st.integers(1, 8),
)
def test_blocks_stay_in_order_and_no_device_holds_much_more_than_its_share(sizes, rest, count):
    places = balanced(sizes, rest, count)
    assert places == sorted(places) and set(places) <= set(range(count))
    held = np.bincount(places, weights=sizes, minlength=count) + np.eye(count)[0] * rest
    assert held.max() <= max((rest + sum(sizes)) / count, rest) + max(sizes)


def test_without_gpus_or_blocks_it_is_refused(tiny_config, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ModelError, match=r"there is none for 'cuda'.*Leave device_map out"):
        visible("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert visible("cuda") == ["cuda:0", "cuda:1"]

    class Whole:
        name = "whole"

    for place in (lambda *it: spread(*it, ["cpu"]), lambda *it: streamed(*it, "cpu")):
        with pytest.raises(ModelError, match="family 'whole' runs on one device"):
            place(Whole(), torch.nn.Linear(1, 1))
    model = tiny_config()["model"]
    with pytest.raises(ConfigError, match="set device: cuda"):
        load_config(tiny_config(model={**model, "device_map": "balanced"}))


def test_a_streamed_block_is_on_the_gpu_only_while_it_runs():
    seen = []
    with FakeTensorMode():
        model = streamed(Decoder(), small(True), "cpu:1")
        layers = model.model.layers
        for index, layer in enumerate(layers):
            layer.mlp.register_forward_pre_hook(
                lambda module, args, index=index: seen.append(
                    (index, [i for i, one in enumerate(layers) if str(home(one)) == "cpu:1"])
                )
            )
        assert is_streamed(Decoder(), model) and not is_streamed(Decoder(), small(True))
        assert str(home(model.lm_head)) == str(home(model.model.norm)) == "cpu:1"
        found = whole_pass(model, "cpu:1")
        assert {str(home(layer)) for layer in layers} == {"cpu"}
    assert {str(value.device) for value in found.values()} == {"cpu:1"}
    assert len(seen) == 4 + 3 + 4 and all(there == [index] for index, there in seen)


def test_a_block_that_does_not_fit_leaves_nothing_there():
    with FakeTensorMode():
        model = streamed(Decoder(), small(True), "cpu:1")
        layer = model.model.layers[1]
        weight = layer.mlp.down_proj.weight
        weight.detach = lambda: (_ for _ in ()).throw(MemoryError("full"))
        with pytest.raises(MemoryError, match="full"), visiting(layer):
            pass
        del weight.detach
        assert str(home(layer)) == "cpu" and layer.mlp.down_proj.weight is weight
        with visiting(layer), visiting(layer):
            assert str(home(layer)) == "cpu:1"
        assert str(home(layer)) == "cpu"


def test_gradients_of_a_streamed_model_are_refused():
    with FakeTensorMode():
        model = streamed(Decoder(), small(True), "cpu:1")
        model.requires_grad_(True)
        with pytest.raises(ModelError, match=r"no gradients.*Choose another criterion"):
            model(torch.zeros((1, 4), dtype=torch.long, device="cpu:1"))


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps", "gpu", "", "meta"])
def test_a_device_that_is_not_there_is_one_sentence(tiny_config, monkeypatch, device):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    settings = tiny_config()
    settings["model"] |= {"device": device}
    with pytest.raises(ModelError) as caught:
        open_session(load_config(settings), Console(stream=None))
    assert caught.value.cause == f"`model.device` is '{device}', and this torch finds cpu here."
    assert caught.value.remedy.startswith("Set model.device=cpu; for an accelerator")


def test_of_two_accelerators_a_third_is_refused(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda: torch.device("cuda"), raising=False
    )
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    for device in ("cpu", "cuda", "cuda:1"):
        check_device(device)
    with pytest.raises(ModelError, match=r"finds cpu, cuda, cuda:0, cuda:1 here.*device=cuda "):
        check_device("cuda:2")


def test_a_run_that_is_resumed_without_its_device_says_so(tiny_config, tmp_path):
    worker = worker_of(tiny_config, tmp_path / "run", None)
    with pytest.raises(ModelError, match=r"`model.device` is 'cuda'"):
        Worker(replace(worker.spec, device="cuda"))


def test_norms_without_weights_are_spread_like_others():
    with FakeTensorMode():
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4}
        config = OlmoConfig(vocab_size=300, num_attention_heads=4, **sizes)
        model = OlmoForCausalLM(config).eval().requires_grad_(False)
        found = whole_pass(spread(Decoder(), model, ["cpu:0", "cpu:1"]))
    assert {str(value.device) for value in found.values()} == {"cpu:0"}
