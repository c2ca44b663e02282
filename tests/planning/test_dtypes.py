"""Another number format beside the configuration's own, on the same candidates."""

import pytest
import yaml

from evoprune.config.schema import load_config
from evoprune.core.errors import ConfigError
from evoprune.planning.dtypes import compare, rows


def test_a_coarser_format_differs_and_ranks_nearly_alike(tiny_config):
    found = compare(load_config(tiny_config(objectives=["kl", "nll", "params"])), "bfloat16")
    assert list(found.ranks) == ["kl", "nll"]
    assert all(0.8 < rank <= 1 for rank in found.ranks.values())
    assert all(0 < far < 0.5 for far in found.farthest.values())
    assert found.dtypes == ("float32", "bfloat16") and found.speed > 0
    assert 8 <= found.candidates <= 15  # of sixteen, without the dense model


def test_plan_says_it_and_refuses_what_is_no_format(tiny_config, tmp_path):
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(tiny_config(objectives=["kl", "sparsity"])))
    told = rows(config, [], "bfloat16")
    assert told[0][0] == "bfloat16 beside float32" and "times as fast" in told[0][1]
    assert told[1][0].strip() == "kl" and "rank correlation" in told[1][1] and len(told) == 2
    with pytest.raises(ConfigError, match=r"'model.dtype' is 'bfloat17'"):
        rows(config, [], "bfloat17")
    with pytest.raises(ConfigError, match="The model runs in float32 anyway"):
        rows(config, [], "float32")
