"""Every point of the shipped uniform space is a model of the stock class."""

import numpy as np
import pytest

from evoprune.config.sections import SpaceConfig, load_space
from evoprune.export.export import export_pattern
from evoprune.export.subject import ExportSubject


@pytest.mark.parametrize("kind", ["Llama", "Qwen3"])
def test_points_of_the_uniform_space_load_in_the_stock_class(make_source, tmp_path, tokens, kind):
    import torch
    import transformers

    source, sites = make_source(kind, "float64")
    space = SpaceConfig.model_validate(load_space("decoder/uniform")).build(sites)
    X = np.concatenate(
        [space.corners[1:], np.random.default_rng(2).integers(0, space.upper + 1, (3, space.n_var))]
    )
    for number, pattern in enumerate(space.patterns(X)):
        path = tmp_path / str(number)
        done = export_pattern(
            source, space, pattern, path, scores={}, provenance={}, verify=number == 0
        )
        model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype="auto").eval()
        with torch.inference_mode():
            logits = model(torch.from_numpy(tokens)).logits.numpy()
        expected = ExportSubject.load(source, space, pattern, "float64").logits(tokens)
        assert done.rung == "homogeneous" and type(model).__name__ == f"{kind}ForCausalLM"
        assert np.abs(logits - expected).max() < 1e-9 * np.abs(expected).max()
