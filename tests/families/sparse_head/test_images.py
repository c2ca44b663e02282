"""Image data: splits that share nothing, and what lies outside them."""

import io

import numpy as np
import pytest

from evoprune.core.errors import DataError
from evoprune.data.images import FRACTIONS, LabelledImages, digits, npz, patches, split


def no_label(images):
    """Returns images as labelled ones, to take their digests."""
    return LabelledImages(images, np.zeros(len(images), int))


@pytest.fixture(scope="module")
def data():
    """Returns the digits."""
    pytest.importorskip("PIL")
    return digits()


def test_no_image_is_in_two_splits_inside_or_outside(data):
    digests = [digest for part in data.inside.values() for digest in part.digests]
    for kinds in data.outside.values():
        digests += [digest for images in kinds.values() for digest in no_label(images).digests]

    assert len(digests) == len(set(digests))
    assert len(digests) > 1700 + 300


def test_every_split_has_every_class_in_proportion(data):
    total = sum(len(part) for part in data.inside.values())
    for name, part in data.inside.items():
        assert set(part.labels) == set(range(8))
        assert len(part) / total == pytest.approx(FRACTIONS[name], abs=0.01)


def test_outside_looks_as_the_inside_does(data):
    assert data.classes == tuple("01234567")
    for kinds in data.outside.values():
        for images in kinds.values():
            assert images.shape[1:] == (8, 8)
            assert len(images) >= 50
            assert (images.min((1, 2)) == 0).all() and (images.max((1, 2)) == 1).all()
            assert np.array_equal(images * 16, np.rint(images * 16))


def test_digits_are_the_same_each_time(data):
    again = digits()

    assert all(again.inside[k].digests == data.inside[k].digests for k in data.inside)
    assert np.array_equal(again.outside["report"]["far"], data.outside["report"]["far"])


def test_crops_are_area_averages_and_flat_ones_are_left_out():
    photograph = np.zeros((70, 64, 3), np.uint8)
    photograph[:32, :16] = 200

    crops = patches(photograph)

    assert crops.shape == (1, 8, 8)
    assert np.array_equal(crops[0], np.tile([1.0] * 4 + [0.0] * 4, (8, 1)))


def test_splits_ignore_order_and_repeats():
    images = np.random.default_rng(0).random((40, 4, 4))
    whole = LabelledImages(images, np.arange(40) % 2)
    turned = LabelledImages(np.concatenate([images[::-1], images]), np.tile(whole.labels, 2))
    turned.labels[:40] = whole.labels[::-1]

    first, second = split(whole, FRACTIONS), split(turned, FRACTIONS)

    assert all(sorted(first[k].digests) == sorted(second[k].digests) for k in FRACTIONS)


def test_mistakes_are_explained(tmp_path):
    with pytest.raises(DataError, match=r"held-out digits are \(8, 8\)"):
        digits(near=(8, 8))
    with pytest.raises(DataError, match="sum to 1"):
        split(no_label(np.zeros((2, 2, 2))), {"training": 0.5})
    with pytest.raises(DataError, match="cannot be read"):
        npz(tmp_path / "missing.npz")
    np.savez(tmp_path / "other.npz", pictures=np.zeros(3))
    with pytest.raises(DataError, match="none of the expected arrays"):
        npz(tmp_path / "other.npz")


def test_archives_of_arrays_and_of_jpegs_load(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    np.savez(tmp_path / "plain.npz", images=np.ones((2, 4, 4)), labels=[0, 1])
    stream = io.BytesIO()
    pillow.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(stream, "JPEG")
    one = np.frombuffer(stream.getvalue(), np.uint8)
    packed = {"jpeg": np.concatenate([one, one]), "offsets": [0, len(one), 2 * len(one)]}
    np.savez(tmp_path / "packed.npz", y=[1, 0], **packed)

    assert npz(tmp_path / "plain.npz").images.shape == (2, 4, 4)
    loaded = npz(tmp_path / "packed.npz", size=8)
    assert loaded.images.shape == (2, 8, 8, 3)
    assert list(loaded.labels) == [1, 0]
    assert abs(int(loaded.images[0, 0, 0, 0]) - 90) < 3


def test_archives_of_bytes_are_cut_off_and_resized(tmp_path):
    pytest.importorskip("PIL.Image")
    bytes_ = np.arange(3 * 8 * 8 * 3, dtype=np.uint8).reshape(3, 8, 8, 3)
    np.savez(tmp_path / "bytes.npz", x=bytes_, y=[2, 1, 0])
    np.savez(tmp_path / "floats.npz", x=bytes_ / 255, y=[2, 1, 0])

    loaded = npz(tmp_path / "bytes.npz", size=4, most=2)

    assert loaded.images.shape == (2, 4, 4, 3)
    assert loaded.images.dtype == np.uint8
    assert list(loaded.labels) == [2, 1]
    assert len(npz(tmp_path / "bytes.npz", most=9)) == 3
    with pytest.raises(DataError, match="float64, which are not resized"):
        npz(tmp_path / "floats.npz", size=4)


def test_noise_belongs_to_the_image_and_not_to_its_place(data):
    noisy, again = digits(noise=0.3), digits(near=(9, 8), noise=0.3)

    for name, clean in data.inside.items():
        drawn = noisy.inside[name].images
        assert np.array_equal(noisy.inside[name].labels, clean.labels)
        assert drawn.min() >= 0 and drawn.max() <= 1
        # Where nothing is cut off the noise has the standard deviation asked for.
        middle = np.abs(clean.images - 0.5) < 0.1
        assert abs(np.std((drawn - clean.images)[middle]) - 0.3) < 0.06
    seen, unseen = noisy.outside["search"]["near"], again.outside["report"]["near"]
    assert {image.tobytes() for image in seen} < {image.tobytes() for image in unseen}
    with pytest.raises(DataError, match="noise is -1"):
        digits(noise=-1)


@pytest.mark.assets
def test_cataract_images_load(assets_dir):
    loaded = npz(assets_dir / "cataract" / "cataract_test_96px_jpeg.npz", size=128)

    assert loaded.images.shape == (800, 128, 128, 3)
    assert np.bincount(loaded.labels).tolist() == [400, 400]
