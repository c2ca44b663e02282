from pathlib import Path

import pytest
import yaml

from evoprune.core.registry import DATA
from evoprune.data.documents import assign_splits

FILE = Path(__file__).parents[2] / "experiments" / "quickstart" / "data.yaml"


@pytest.mark.slow
def test_quickstart_has_every_kind_in_every_split():
    section = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    source = dict(section["source"])
    documents = DATA.load(source.pop("type"))(**source).documents()
    splits = assign_splits(documents, section["fractions"])
    kinds = {one.kind for one in documents}
    assert len(kinds) >= 5
    assert all({one.kind for one in members} == kinds for members in splits.values())
