"""The arithmetic of memory, time and disk, and the recipe for a cluster."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from evoprune.config.schema import load_config
from evoprune.families.decoder import Decoder
from evoprune.families.load import load_model
from evoprune.families.stages import BATCH_TOKENS, forward
from evoprune.planning import arithmetic
from evoprune.planning.plan import plan
from evoprune.tasks.causal_lm import LOGITS_AT_ONCE, MIN_POSITIONS

ROOT = Path(__file__).resolve().parents[2]
SCALE = ROOT / "experiments" / "scale"
ARGUMENTS = [SCALE / "config.yaml", "--sizes", SCALE / "llama_8b"]


def script():
    spec = importlib.util.spec_from_file_location("scale_arithmetic", SCALE / "arithmetic.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_model_of_eight_billion_is_counted_without_its_weights():
    found = script().case(load_config(SCALE / "config.yaml"), SCALE / "llama_8b")
    # Its published count; and by hand: 2 per weight that is multiplied, 4 per key and head entry.
    assert found.parameters == 8_030_261_248
    embedding, norms = 128_256 * 4096, (2 * 32 + 1) * 4096
    flops = 2 * (found.parameters - embedding - norms) + 32 * 4 * 4096 * 2048
    assert found.sizes == arithmetic.Sizes(
        weights=2 * found.parameters,
        flops=flops,
        itemsize=2,
        hidden=4096,
        widest=14336,
        vocabulary=128_256,
        blocks=32,
    )
    assert (found.genes, found.tokens) == (96, 128 * 2048)


def test_the_readme_says_what_the_script_prints(tmp_path):
    # Whoever tried to download would fail here.
    closed = {"HF_HUB_OFFLINE": "1", "https_proxy": "http://127.0.0.1:1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, SCALE / "arithmetic.py", *ARGUMENTS],
        capture_output=True,
        text=True,
        env={**os.environ, **closed, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Arithmetic, not measurement.\n")
    said = (SCALE / "README.md").read_text()
    for words in ("8,030,261,248 parameters, 16.06 GB", "10.5 s", "7.8 h", "59 min", "7.3 min"):
        assert words in done.stdout and words in said


def test_weights_and_states_of_a_real_network_are_what_the_arithmetic_says(tiny_llama_untied):
    import torch

    model = load_model(str(tiny_llama_untied))
    table = Decoder().table(model, 32)
    blocks = model.config.num_hidden_layers
    sizes = arithmetic.Sizes.of(table, model.lm_head.weight.shape[0], blocks, 4)
    assert sizes.weights == sum(p.numel() * 4 for p in model.parameters())
    assert sizes.widest == model.config.intermediate_size

    stages, seen = Decoder().stages(model), []
    model.model.layers[0].mlp.act_fn.register_forward_hook(lambda *args: seen.append(args[2]))
    features = forward(stages, {"tokens": torch.zeros((2, 16), dtype=torch.long)})
    assert features.shape[-1] == sizes.hidden and seen[0].shape[-1] == sizes.widest
    assert stages.logits(features).shape[-1] == sizes.vocabulary
    held = arithmetic.memory(sizes, BATCH_TOKENS, LOGITS_AT_ONCE, MIN_POSITIONS, 384, 5)
    per_token = (blocks + 2) * features[0, 0].nbytes + 3 * seen[0][0, 0].nbytes
    assert held.states == BATCH_TOKENS * per_token + (5 << 20)
    assert held.logits == 2 * (LOGITS_AT_ONCE // 320) * 320 * 4


@given(
    n_eval=st.integers(1, 5000),
    together=st.integers(1, 100),
    workers=st.integers(1, 200),
)
def test_more_workers_help_up_to_a_generation(n_eval, together, workers):
    took = arithmetic.seconds(n_eval, together, 2.0, workers)
    assert arithmetic.seconds(n_eval, together, 2.0, 1) == 2.0 * n_eval
    assert took >= 2.0 * max(n_eval / workers, -(-n_eval // together))
    assert arithmetic.seconds(n_eval, together, 2.0, workers + 1) <= took
    if workers >= together:
        assert took == 2.0 * -(-n_eval // together)


def test_plan_prints_memory_time_and_disk_of_one_s_own(tiny_config):
    rows = dict(plan(tiny_config(), scale=True))
    assert {"memory, each worker", "memory, each GPU worker", "memory, each machine"} <= {*rows}
    assert "mapped once" in rows["memory, each machine"] and "journal" in rows["disk"]
    for count in ("1 such worker", "8 such workers", "64 such workers"):
        assert rows[f"search with {count}"].endswith("(arithmetic, not measurement)")


def test_a_streamed_model_needs_room_for_one_block(tiny_config):
    settings = tiny_config()
    weights = {}
    for place in (None, "streamed"):
        model = {**settings["model"], "device_map": place}
        listed = plan(settings | {"model": model}, scale=True)
        rows = dict(listed)
        (found,) = re.findall(r"weights ([0-9.]+) (.?B)", rows["memory, each GPU worker"])
        weights[place] = float(found[0]) * {"MB": 1e6, "kB": 1e3, "B": 1.0}[found[1]]
        assert any(how.startswith("streamed:") for _, how in listed) == (place is not None)
    assert weights["streamed"] < weights[None]


def test_the_cluster_file_is_one_that_ray_takes():
    from ray.autoscaler._private.util import prepare_config, validate_config

    cluster = yaml.safe_load((SCALE / "cluster.yaml").read_text())
    validate_config(prepare_config(cluster))
    with pytest.raises(Exception, match="typo"):
        validate_config(prepare_config({**cluster, "typo": 1}))


def test_the_configuration_is_one_that_is_taken():
    config = load_config(SCALE / "config.yaml")
    assert config.workers.num_gpus == 1 and config.workers.address == "auto"
    assert config.search.n_eval % config.search.algorithm.options["pop_size"] == 0
    assert np.isfinite(config.workers.timeout_s)
