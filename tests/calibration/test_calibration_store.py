from pathlib import Path

import numpy as np
import pytest

from evoprune.calibration.cluster import Clusters
from evoprune.calibration.samplers import Ccds
from evoprune.calibration.store import PoolLabels, load, save
from evoprune.core.errors import RunFolderError

CLUSTERS = Clusters(np.array([0, 1, 0, 0, 1, 2]), np.zeros((3, 2)), np.zeros(6), 0.0)
POOL = PoolLabels([f"file{i}.py" for i in range(6)], ["code", "prose, old"] * 3, "abc")
SELECTION = Ccds().select(np.zeros((6, 2)), CLUSTERS, 4, 7)


def test_a_saved_selection_is_loaded_unchanged(tmp_path: Path) -> None:
    save(tmp_path / "run" / "calibration", SELECTION, CLUSTERS, POOL)

    loaded = load(tmp_path / "run" / "calibration", digest="abc")

    assert np.array_equal(loaded.indices, SELECTION.indices)
    assert np.array_equal(loaded.clusters, SELECTION.clusters)
    assert (loaded.sampler, loaded.seed) == ("ccds", 7)
    assert loaded.indices.dtype == loaded.clusters.dtype == np.int64


def test_clusters_are_listed_with_what_was_taken(tmp_path: Path) -> None:
    save(tmp_path, SELECTION, CLUSTERS, POOL)

    assert (tmp_path / "clusters.csv").read_text() == (
        "cluster,size,selected,kind,purity\n"
        "0,3,2,code,0.666667\n"
        "1,2,1,code,0.500000\n"
        '2,1,1,"prose, old",1.000000\n'
    )


def test_saving_twice_gives_the_same_bytes_and_leaves_nothing_else(tmp_path: Path) -> None:
    names = ["clusters.csv", "indices.json"]

    save(tmp_path, SELECTION, CLUSTERS, POOL)
    before = [(tmp_path / name).read_bytes() for name in names]
    save(tmp_path, SELECTION, CLUSTERS, POOL)

    assert [(tmp_path / name).read_bytes() for name in names] == before
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_other_data_are_refused(tmp_path: Path) -> None:
    save(tmp_path, SELECTION, CLUSTERS, POOL)

    with pytest.raises(RunFolderError, match=r"other data .digest abc, now xyz"):
        load(tmp_path, digest="xyz")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"indices": [1], "clusters": []}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "indices.json").write_text(text)

    with pytest.raises(RunFolderError, match=r"indices\.json' is damaged"):
        load(tmp_path)


def test_a_missing_file_and_a_folder_that_cannot_be_made_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(RunFolderError, match="No such file"):
        load(tmp_path / "none")
    with pytest.raises(RunFolderError, match="cannot be written"):
        save(tmp_path / "file", SELECTION, CLUSTERS, POOL)
