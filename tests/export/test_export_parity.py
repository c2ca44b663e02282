"""The exported model computes what the realised pattern computes."""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pytest

from evoprune.core.export_rungs import UnfitError
from evoprune.core.genes import GeneSpec, build_space
from evoprune.export.export import Source
from evoprune.export.homogeneous import shrink, smaller_config
from evoprune.export.masked import mask
from evoprune.export.subject import ExportSubject

MODELS = [
    ("Llama", {"tie_word_embeddings": True}),
    ("Llama", {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True}),
    ("Qwen2", {"tie_word_embeddings": True}),
    ("Qwen3", {"tie_word_embeddings": False}),
]
DEPTHS = [[0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 0], [0, 1, 1, 1, 1], [0, 1, 0, 1, 1]]
BLOCKS = GeneSpec("block", drop=True)


def subject_of(
    made: tuple[Source, list], specs: Sequence[GeneSpec], levels: Sequence[int]
) -> ExportSubject:
    source, sites = made
    space = build_space("s", sites, specs)
    return ExportSubject.load(source, space, space.pattern(np.array(levels)), source.dtype)


def error(model, subject: ExportSubject, tokens: np.ndarray) -> float:
    import torch

    with torch.inference_mode():
        found = model(torch.from_numpy(tokens), use_cache=False).logits.numpy()
    expected = subject.logits(tokens)
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(("model", "levels"), product(MODELS, DEPTHS))
def test_shrunk_depth_equals_realised(make_source: Callable, tokens, model, levels) -> None:
    subject = subject_of(make_source(model[0], **model[1]), [BLOCKS], levels)
    shrunk = shrink(subject)
    assert len(shrunk.model.layers) == levels.count(0)
    assert error(shrunk, subject, tokens) < 1e-9


@pytest.mark.parametrize("model", MODELS)
def test_shrunk_equal_widths_equal_realised(make_source: Callable, tokens, model) -> None:
    specs = [BLOCKS, GeneSpec("heads", keep=(0.5,)), GeneSpec("channels", keep=(0.25,))]
    levels = [0, 1, 0, 0, 1, 1, 0, 1, 1, 0, 1, 0, 1, 1, 0]
    subject = subject_of(make_source(model[0], **model[1]), specs, levels)
    shrunk = shrink(subject)
    sizes = shrunk.config
    assert (sizes.num_key_value_heads, sizes.num_attention_heads, sizes.head_dim) == (2, 4, 6)
    assert sizes.intermediate_size == 10
    assert error(shrunk, subject, tokens) < 1e-9


def test_shrunk_bits_keep_the_right_units(make_source: Callable, tokens) -> None:
    bits = np.random.default_rng(2).permuted(np.tile([0, 1, 0, 1], (5, 1)), axis=1)
    specs = [GeneSpec("heads", bits=True)]
    subject = subject_of(make_source("Qwen3"), specs, bits.ravel())
    assert error(shrink(subject), subject, tokens) < 1e-9


@pytest.mark.parametrize("model", MODELS)
def test_masked_equals_realised(make_source: Callable, tokens, model) -> None:
    specs = [
        BLOCKS,
        GeneSpec("attn", drop=True),
        GeneSpec("mlp", drop=True),
        GeneSpec("heads", keep=(0.75, 0.25)),
        GeneSpec("channels", keep=(0.5,)),
    ]
    levels = [0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1, 2, 0, 0, 1, 0, 1, 0, 0]
    subject = subject_of(make_source(model[0], **model[1]), specs, levels)
    assert error(mask(subject), subject, tokens) < 1e-9


def test_masking_leaves_the_base_as_it_was(make_source: Callable) -> None:
    subject = subject_of(make_source(), [GeneSpec("heads", keep=(0.5,))], [1, 0, 0, 1, 0])
    before = {name: tensor.clone() for name, tensor in subject.model.state_dict().items()}
    mask(subject)
    after = subject.model.state_dict()
    assert all(bool((after[name] == tensor).all()) for name, tensor in before.items())


def test_lists_with_an_entry_per_layer_are_cut(make_source: Callable) -> None:
    types = ["full_attention", "sliding_attention", "full_attention"]
    types += ["sliding_attention", "full_attention"]
    made = make_source(
        "Qwen3",
        layer_types=types,
        use_sliding_window=True,
        sliding_window=64,
        eos_token_id=[2, 3, 4, 5, 6],
    )
    config = smaller_config(subject_of(made, [BLOCKS], [0, 1, 1, 0, 0]))
    assert config.layer_types == [types[0], types[3], types[4]]
    assert config.eos_token_id == [2, 3, 4, 5, 6]


def test_a_config_that_its_class_refuses_does_not_fit(make_source: Callable) -> None:
    specs = [GeneSpec("heads", keep=(0.75,))]
    made = make_source("Llama", hidden_size=32)
    with pytest.raises(UnfitError, match="not a multiple of the number of attention heads"):
        shrink(subject_of(made, specs, [1] * 5))
