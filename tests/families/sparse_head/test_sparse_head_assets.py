"""Trained networks, cut and exported (they do not ship with the code)."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from evoprune.export.export import Source
from evoprune.export.head import build, export_head
from evoprune.families.flops import executed_flops
from evoprune.families.sparse_head.heads import one_thread
from evoprune.families.sparse_head.modeling_head import PrunedNetwork
from tests.families.sparse_head.backbones import subjects, written

pytestmark = pytest.mark.assets


class Pooled(nn.Module):
    """A network's channels, averaged over places."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images):
        return self.body(images.expand(-1, 3, -1, -1)).mean((2, 3))


@pytest.fixture(scope="module")
def assets(assets_dir: Path):
    """Returns the loaders of the assets."""
    spec = importlib.util.spec_from_file_location("assets", assets_dir / "tools/load_assets.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["squeezenet", "resnet"])
def backbone(request, assets) -> nn.Module:
    """Returns a trained network without its classifier."""
    if request.param == "squeezenet":
        return Pooled(assets.squeezenet().features).requires_grad_(False)
    network = assets.cifar_resnet(20)
    layers = (network.conv1, network.bn1, nn.ReLU(inplace=True))
    blocks = (network.layer1, network.layer2, network.layer3)
    return Pooled(nn.Sequential(*layers, *blocks)).eval().requires_grad_(False)


def test_a_trained_network_is_cut_and_costs_what_it_is(backbone, tmp_path: Path):
    images = np.random.default_rng(0).random((4, 32, 32))
    inputs = torch.from_numpy(images).float()[:, None]
    with one_thread(), torch.inference_mode():
        network = written(backbone, tmp_path / "base", (8, 4), images)
        features = backbone(inputs).numpy()
        for subject in subjects(network, 5):
            built = PrunedNetwork(*build(subject, "standalone", "float32"))
            expected = subject.logits(features)
            error = np.abs(built(inputs).numpy() - expected).max() / np.abs(expected).max()
            assert error < 1e-4
            X = subject.space.encode([subject.pattern])
            counted = subject.table.cost("flops", subject.space, X)[0]
            assert executed_flops(lambda net=built: net(inputs[:1])) == pytest.approx(counted)
        source = Source(tmp_path, "network", "float32", "sparse_head")
        done = export_head(subject, source, tmp_path / "out", scores={}, provenance={})
    assert done.rung == "standalone" and done.max_error < 1e-4
    assert done.params < subject.params(subject.space.dense)
    assert "Cut in the backbone" in (done.path / "README.md").read_text()
