"""Every criterion beside its definition, written out over the tensors of a Llama by name."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from evoprune.core.registry import CRITERIA
from evoprune.criteria.subject import Subject
from evoprune.families.decoder import Decoder

TOKENS = torch.from_numpy(np.random.default_rng(0).integers(0, 200, (3, 9)))
# The last positions of the first row are padding.
REAL = torch.ones(TOKENS.shape, dtype=torch.bool)
REAL[0, 6:] = False


@pytest.fixture(scope="module")
def model(tiny_llama):
    found = AutoModelForCausalLM.from_pretrained(tiny_llama, dtype=torch.float64)
    return found.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def subject(model):
    family = Decoder()
    sites = [site for site in family.sites(model) if site.kind in ("heads", "channels")]

    def run():
        for row in range(len(TOKENS)):
            yield loss_of(model, row), REAL[row : row + 1]

    return Subject(model, family.table(model, 1), tuple(sites), run)


def loss_of(model, row):
    """Returns the loss of one text, summed over its real positions."""
    length = int(REAL[row].sum())
    logits = model(TOKENS[row : row + 1]).logits[0, : length - 1]
    return torch.nn.functional.cross_entropy(logits, TOKENS[row, 1:length], reduction="sum")


def units(model):
    """Yields for every unit its site, its number and its slices of (name, axis, start, stop)."""
    config = model.config
    size = model.model.layers[0].self_attn.head_dim
    share = config.num_attention_heads // config.num_key_value_heads
    for layer in range(config.num_hidden_layers):
        at = f"model.layers.{layer}"
        for group in range(config.num_key_value_heads):
            one, many = (group, group + 1), (group * share, (group + 1) * share)
            cuts = [("k_proj", 0, one), ("v_proj", 0, one), ("q_proj", 0, many)]
            pieces = [
                (f"{at}.self_attn.{name}.weight", axis, low * size, high * size)
                for name, axis, (low, high) in [*cuts, ("o_proj", 1, many)]
            ]
            yield layer, "heads", group, pieces
        for channel in range(config.intermediate_size):
            pieces = [
                (f"{at}.mlp.{name}.weight", axis, channel, channel + 1)
                for name, axis in (("gate_proj", 0), ("up_proj", 0), ("down_proj", 1))
            ]
            yield layer, "channels", channel, pieces


def inputs_of(model):
    """Returns what each reading layer is given at every real position, by its weight's name."""
    seen, handles = {}, []
    for name, module in model.named_modules():
        if name.endswith(("o_proj", "down_proj")):
            keep = seen.setdefault(f"{name}.weight", [])
            handles.append(module.register_forward_pre_hook(lambda _, x, keep=keep: keep.append(x)))
    for row in range(len(TOKENS)):
        model(TOKENS[row : row + 1])
    for handle in handles:
        handle.remove()
    return {
        name: torch.cat([x[0][0, REAL[row]] for row, x in enumerate(rows)])
        for name, rows in seen.items()
    }


def magnitude(model, pieces, inputs):
    return sum(
        float((model.get_parameter(name).narrow(axis, low, high - low) ** 2).sum())
        for name, axis, low, high in pieces
    )


def activation(model, pieces, inputs):
    name, _, low, high = pieces[-1]
    weight, total = model.get_parameter(name), 0.0
    for column in range(low, high):
        norm = float((inputs[name][:, column] ** 2).sum()) ** 0.5
        total += sum(abs(float(w)) * norm for w in weight[:, column])
    return total


def flap(model, pieces, inputs):
    name, _, low, high = pieces[-1]
    weight, total = model.get_parameter(name), 0.0
    for column in range(low, high):
        x = inputs[name][:, column]
        total += float(((x - x.mean()) ** 2).mean()) * float((weight[:, column] ** 2).sum())
    return total


@pytest.mark.parametrize("define", [magnitude, activation, flap])
def test_scores_are_those_of_the_definition(define, model, subject):
    scores = CRITERIA.load(define.__name__)().scores(subject)

    inputs, sites = inputs_of(model), iter(subject.sites)
    by_place = {(site.kind, i): site.name for i, site in enumerate(sites)}
    names = {
        kind: [n for (k, _), n in by_place.items() if k == kind] for kind in ("heads", "channels")
    }
    checked = 0
    for layer, kind, unit, pieces in units(model):
        found = scores[names[kind][layer]][unit]
        assert found == pytest.approx(define(model, pieces, inputs), rel=1e-9)
        checked += 1
    assert checked == sum(site.units for site in subject.sites)


def test_taylor_scores_are_those_of_finite_differences(model, subject):
    scores = CRITERIA.load("taylor")().scores(subject)
    names = [site.name for site in subject.sites if site.kind == "channels"]
    step = 3e-3  # the norms of a Llama compute in float32, whose rounding is divided by it

    def loss():
        return sum(float(loss_of(model, row)) for row in range(len(TOKENS)))

    for layer, kind, unit, pieces in units(model):
        if kind != "channels" or unit != 5:
            continue
        total = 0.0
        for name, axis, low, _ in pieces:
            entries = model.get_parameter(name).select(axis, low)
            for i, weight in enumerate(entries.clone()):
                entries[i] = weight + step
                above = loss()
                entries[i] = weight - step
                total += abs(float(weight) * (above - loss()) / (2 * step))
                entries[i] = weight
        assert scores[names[layer]][unit] == pytest.approx(total, rel=5e-3)
