"""Transformers unlike each other keep the contract of families, found by rule."""

from typing import Any

import pytest
from strangers import data_of, settings_of

from evoprune.core.pattern import Drop
from evoprune.testing import FamilyContract
from evoprune.testing.models import KINDS, tiny_transformer

# The richest spaces: parts dropped or cut; blocks dropped, heads and channels cut.
PARTS = [
    {"kind": "attn", "drop": True},
    {"kind": "mlp", "drop": True},
    {"kind": "heads", "keep": [0.75, 0.5, 0.25]},
    {"kind": "channels", "keep": [0.75, 0.5, 0.25]},
]
SPACES: dict[str, Any] = {
    "blocks and widths": "transformer/depth_width",
    "parts and widths": {"family": "transformer", "genes": PARTS},
}


class TransformerContract(FamilyContract):
    """A block that norms what it adds to is not left out by zeros, which the norm would scale."""

    def zeroed(self, pattern: Any) -> Any:
        options = self.space.options(pattern)
        gone = any(isinstance(o, Drop) and s.count(".") == 1 for s, o in options.items())
        norms_last = "Bert" in type(self.worker.model).__name__
        return None if gone and norms_last else super().zeroed(pattern)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_transformer_keeps_the_contract_of_families(kind, space, tmp_path):
    model = tiny_transformer(tmp_path / "model", kind)
    settings = settings_of(model, kind, SPACES[space]) | {"output": str(tmp_path / "run")}
    contract = TransformerContract(settings, data_of(kind))
    if space != "blocks and widths" or kind not in ("bert", "gpt2"):
        contract.skipped = ("search",)  # a whole search twice over takes most of the time
    contract.check()
