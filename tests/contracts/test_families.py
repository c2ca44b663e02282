"""Every family that ships, in every space that ships for it, keeps the contract of families."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from evoprune.config.shipped import shipped
from evoprune.core.registry import FAMILIES
from evoprune.evaluation.worker import Worker
from evoprune.export.head import HeadSubject, build
from evoprune.families.flops import executed_flops
from evoprune.families.sparse_head.modeling_head import PrunedNetwork
from evoprune.testing import FamilyContract, tiny_decoder
from evoprune.testing.families import Standalone, candidates
from evoprune.testing.parts import tiny_settings, tiny_texts

SPACES = [
    n.removeprefix("search_spaces/").removesuffix(".yaml")
    for n in shipped("search_spaces/*/*.yaml")
]
# A whole search twice over takes most of the time: in the richest space of each family.
SEARCHED = ("decoder/depth_width", "sparse_head/both")


class Backbone(nn.Module):
    """A small frozen network: a convolution, then a feature a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 12, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.last(torch.relu(self.first(images)))).mean((2, 3))


def backbone() -> nn.Module:
    """Returns a random backbone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Backbone()


class HeadContract(FamilyContract):
    """Heads are fitted anew for every pattern: what is standalone is the fitted network."""

    skipped = ("original",)
    tolerance = 1e-5  # backbones compute in float32

    @property
    def inputs(self) -> Any:
        whole = self.worker.examples("search")
        return whole.first(8)

    def zeroed(self, pattern: Any) -> None:
        """A head without a feature is fitted anew: to remove is not to set to zero."""

    def _subject(self, pattern: Any) -> HeadSubject:
        return HeadSubject.of(self.worker.family, self.worker.model, self.space, pattern)

    def realised(self, patterns: Any) -> torch.Tensor:
        """Returns the logits of the images that the base keeps."""
        network = self.worker.model
        options = [self.space.options(pattern) for pattern in patterns]
        found = []
        for start in range(0, len(options), 16):
            states = self.worker.runner.states(options[start : start + 16])
            found += [self._logits(state, network.sample_features) for state in states]
        return torch.stack(found)

    @staticmethod
    def _logits(state: dict[str, torch.Tensor], features: np.ndarray) -> torch.Tensor:
        from evoprune.families.sparse_head.heads import forward

        read = torch.from_numpy(features).double()[:, state["features"]]
        return forward(state, read / state["scale"])

    def _network(self, pattern: Any) -> tuple[PrunedNetwork, int]:
        config, tensors = build(self._subject(pattern), "standalone", "float64")
        params = sum(t.numel() for name, t in tensors.items() if t.is_floating_point())
        return PrunedNetwork(config, tensors), params

    def standalone(self, pattern: Any) -> Standalone:
        network, params = self._network(pattern)
        with torch.inference_mode():
            logits = network(torch.from_numpy(self.worker.model.samples).double())
        return Standalone(params, logits)

    def forward(self, pattern: Any) -> tuple[int, int]:
        network, _ = self._network(pattern)
        images = torch.from_numpy(self.worker.model.samples).double()
        with torch.inference_mode():
            return executed_flops(lambda: network(images)), len(images)

    def poison(self, worker: Worker) -> None:
        features = worker.model.training_features
        worker.model.training_features = features * np.nan

    def weights(self) -> str:
        return self.worker.model.training_features.tobytes().hex()


def decoder(folder: Path, space: str) -> FamilyContract:
    # With fewer blocks the space of whole ones has no 200 patterns.
    model = tiny_decoder(
        folder / "model", layers=8 if space == "decoder/depth" else 4, heads=(8, 4)
    )
    settings = tiny_settings(model, space) | {"output": str(folder / "run")}
    return FamilyContract(settings, tiny_texts())


def sparse_head(folder: Path, space: str) -> FamilyContract:
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    images = (rng.random((120, 6, 6)) + labels[:, None, None] * np.eye(6)).astype(np.float32)
    settings = {
        "model": {
            "family": "sparse_head",
            "factory": f"{__name__}:backbone",
            "options": {"hidden": [10], "steps": 4},
        },
        "task": "classification",
        "calibration": {"samples": 20, "clusters": 2},
        "validation": {"samples": 8},
        "report": {"samples": 8},
        "space": space,
        "objectives": ["accuracy", "units"],
        "search": {"algorithm": {"type": "nsga2", "pop_size": 6}, "n_eval": 12},
        "workers": {"backend": "local"},
        "controls": [],
        "export": {"picks": []},
        "output": str(folder / "run"),
    }
    return HeadContract(settings, list(zip(images, labels, strict=True)))


def transformer(folder: Path, space: str) -> FamilyContract:
    """Returns that of Llama taken apart by rule; other kinds are in test_transformers.py."""
    layers = 8 if space == "transformer/depth" else 4
    model = tiny_decoder(folder / "model", layers=layers, heads=(8, 4))
    settings = tiny_settings(model, space) | {"output": str(folder / "run")}
    settings["model"] |= {"family": "transformer"}
    return FamilyContract(settings, tiny_texts())


MAKERS: dict[str, Callable[[Path, str], FamilyContract]] = {
    "decoder": decoder,
    "sparse_head": sparse_head,
    "transformer": transformer,
}


@pytest.fixture(scope="module", params=SPACES)
def contract(request, tmp_path_factory) -> FamilyContract:
    space = request.param
    folder = tmp_path_factory.mktemp("contract")
    return MAKERS[space.partition("/")[0]](folder, space)


@pytest.mark.parametrize("check", FamilyContract.CHECKS)
def test_contract(contract, check):
    if check in contract.skipped:
        pytest.skip("not promised")
    if check == "search" and contract.config.space.name not in SEARCHED:
        pytest.skip("the richest space of the family is searched")
    getattr(contract, f"check_{check}")()


def test_two_hundred_patterns_and_the_extremes_are_tried(contract):
    assert len(contract.patterns) >= 200
    keys = {pattern.key for pattern in contract.patterns}
    upper, space = contract.space.upper, contract.space
    assert space.dense.key in keys and space.pattern(upper).key in keys
    for i in range(space.n_var):
        only, left = np.zeros_like(upper), upper.copy()
        only[i], left[i] = upper[i], 0
        assert space.pattern(only).key in keys and space.pattern(left).key in keys


def test_every_family_has_a_contract():
    ours = [n for n in FAMILIES.names() if FAMILIES.load(n).__module__.startswith("evoprune.")]
    assert sorted(MAKERS) == sorted(ours)
    assert {space.partition("/")[0] for space in SPACES} == set(MAKERS)


def test_candidates_of_a_small_space_are_all_of_it():
    from evoprune.testing.synthetic import BLOCKS, problem

    space = problem(3, (BLOCKS,)).space
    assert len(candidates(space, 200)) == 8
