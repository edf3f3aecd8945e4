"""Cached features: the foundation's own, whole or absent, bounded, and asked for once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from domainsam.errors import InputError, OutputError
from domainsam.foundation.fake import FakeFoundation
from domainsam.protocols import Features, Window
from domainsam.train.augment import DIHEDRAL, Sample
from domainsam.train.cache import FeatureCache, FixedTiles, TeacherCache, tile_windows
from domainsam.train.losses import IGNORE

PLENTY = 10**9


class Counting(FakeFoundation):
    """Counts the images it encodes."""

    encoded = 0

    def encode(self, images: torch.Tensor) -> Features:
        self.encoded += len(images)
        return super().encode(images)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def same(one: Features, other: Features) -> bool:
    parts = zip((one.image, *one.levels), (other.image, *other.levels), strict=True)
    return one.size == other.size and all(torch.equal(a, b) for a, b in parts)


def test_features_are_the_foundations_and_asked_for_once(tmp_path: Path, images: torch.Tensor) -> None:
    foundation = Counting()
    cache = FeatureCache(tmp_path / "f", foundation, PLENTY)
    first = cache.encode(images)
    direct = foundation.encode(images)
    for ours, theirs in zip((first.image, *first.levels), (direct.image, *direct.levels), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)
        assert ours.dtype == torch.float32
    foundation.encoded = 0
    again = FeatureCache(tmp_path / "f", foundation, PLENTY)
    assert same(again.encode(images[[2, 0]]), first[torch.tensor([2, 0])])
    assert foundation.encoded == 0
    assert (again.hits, again.misses) == (2, 0)
    mixed = torch.cat([images[:1], 1 - images[:1]])
    assert same(again.encode(mixed)[:1], first[:1])
    assert foundation.encoded == 1


def test_another_foundation_or_image_is_another_entry(tmp_path: Path, images: torch.Tensor) -> None:
    foundation = Counting()
    FeatureCache(tmp_path, foundation, PLENTY).encode(images[:1])
    foundation.sha256 = "0" * 64
    foundation.encoded = 0
    FeatureCache(tmp_path, foundation, PLENTY).encode(images[:1])
    assert foundation.encoded == 1
    changed = images[:1].clone()
    changed[0, 0, 0, 0] += 0.01
    FeatureCache(tmp_path, foundation, PLENTY).encode(changed)
    assert foundation.encoded == 2


def test_no_more_is_kept_than_allowed_and_the_answer_is_the_same(
    tmp_path: Path, images: torch.Tensor
) -> None:
    whole = FeatureCache(tmp_path / "a", FakeFoundation(), PLENTY)
    expected = whole.encode(images)
    entry = whole.size // 3
    small = FeatureCache(tmp_path / "b", FakeFoundation(), 2 * entry + 10)
    assert same(small.encode(images), expected)
    assert len(list((tmp_path / "b").iterdir())) == 2
    assert same(small.encode(images), expected)
    assert (small.hits, small.misses) == (2, 4)


def test_an_entry_that_was_not_finished_is_not_used(tmp_path: Path, images: torch.Tensor) -> None:
    cache = FeatureCache(tmp_path, FakeFoundation(), PLENTY)
    expected = cache.encode(images[:1])
    (entry,) = tmp_path.iterdir()
    entry.rename(tmp_path / ".new-left-by-a-crash")
    assert same(cache.encode(images[:1]), expected)
    assert cache.misses == 2


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/f"):
        FeatureCache(tmp_path / "file" / "f", FakeFoundation(), 1)


class Scene:
    """A scene whose image is its label."""

    def __init__(self, rows: int, cols: int, label: int = 1) -> None:
        self.shape, self.ratio, self.weight = (rows, cols), 1.0, 1.0
        self.anchors = np.zeros((0, 2), np.int64)
        self.truth = np.random.default_rng(0).integers(0, 2, (rows, cols)).astype(np.uint8)
        if label == IGNORE:
            self.truth[:] = IGNORE

    def sample(self, window: Window) -> Sample:
        labels = self.truth[window.slices]
        image = np.repeat((labels == 1)[None].astype(np.float32), 3, axis=0)
        return Sample(image, labels, np.ones(labels.shape, bool))


def test_every_tile_comes_once_in_each_turn_an_epoch() -> None:
    stream = FixedTiles([Scene(64, 96)], 32, 4, (0, 1))
    assert len(stream.tiles) == 6
    batches = [stream.batch(step) for step in range(6 * DIHEDRAL // 4)]
    images = {image.numpy().tobytes() for batch in batches for image in batch.images}
    assert len(images) == 6 * DIHEDRAL
    for batch in batches:
        assert torch.equal(batch.images[:, 0], batch.labels.float())
    again = FixedTiles([Scene(64, 96)], 32, 4, (0, 1))
    assert torch.equal(again.batch(7).images, stream.batch(7).images)
    assert not torch.equal(stream.batch(12).labels, stream.batch(0).labels)


def test_tiles_without_labels_are_left_out() -> None:
    assert len(FixedTiles([Scene(32, 32), Scene(32, 32, IGNORE)], 32, 1, (0,)).tiles) == 1
    with pytest.raises(InputError, match="no tile"):
        FixedTiles([Scene(32, 32, IGNORE)], 32, 1, (0,))


def test_tiles_cover_the_scene_and_stay_inside() -> None:
    covered = np.zeros((70, 50), int)
    for window in tile_windows((70, 50), 32):
        assert (window.height, window.width) == (32, 32)
        assert window.row + 32 <= 70
        assert window.col + 32 <= 50
        covered[window.slices] += 1
    assert covered.min() == 1
    assert tile_windows((20, 40), 32)[0] == Window(0, 0, 20, 32)


def test_features_come_back_under_reduced_precision(tmp_path: Path, images: torch.Tensor) -> None:
    cache = FeatureCache(tmp_path / "f", FakeFoundation(), PLENTY)
    plain = cache.encode(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert same(cache.encode(images), plain)


def test_a_teachers_cache_lies_in_shards_and_is_his_alone(tmp_path: Path, images: torch.Tensor) -> None:
    foundation = Counting()
    first = TeacherCache(tmp_path / "t", foundation, PLENTY, "float32").encode(images)
    entries = [path.parent for path in (tmp_path / "t").rglob("0.npy")]
    assert {entry.parent.name for entry in entries} == {entry.name[:2] for entry in entries}
    again = TeacherCache(tmp_path / "t", foundation, PLENTY, "float32")
    foundation.encoded = 0
    assert same(again.encode(images), first)
    assert foundation.encoded == 0
    with pytest.raises(InputError, match=r"is of teacher fake in float32 .* not of fake in bfloat16"):
        TeacherCache(tmp_path / "t", foundation, PLENTY, "bfloat16")
    foundation.sha256 = "0" * 64
    with pytest.raises(InputError, match=r"not of fake in float32 .sha256 000000000000"):
        TeacherCache(tmp_path / "t", foundation, PLENTY, "float32")


@pytest.mark.parametrize("fault", ["cut", "empty", "absent"])
def test_an_entry_that_was_cut_short_is_told_and_encoded_anew(
    tmp_path: Path, images: torch.Tensor, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    foundation = Counting()
    expected = TeacherCache(tmp_path, foundation, PLENTY, "float32").encode(images)
    for file in tmp_path.rglob("1.npy"):
        if fault == "cut":
            file.write_bytes(file.read_bytes()[:-10])
        elif fault == "empty":
            file.write_bytes(b"")
        else:
            file.unlink()
    foundation.encoded = 0
    cache = TeacherCache(tmp_path, foundation, PLENTY, "float32")
    assert same(cache.encode(images), expected)
    assert foundation.encoded == 1 + len(images)
    (line,) = [record.getMessage() for record in caplog.records]
    assert "was cut short" in line
    assert same(TeacherCache(tmp_path, foundation, PLENTY, "float32").encode(images), expected)
