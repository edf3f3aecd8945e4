"""Clean-up slice by slice gives what labelling the whole volume gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from domainsam_ct.measure.cleanup import CleanUp, clean_up, fill_holes, remove_parts
from domainsam_ct.read.staged import StagedVolume

MILLIMETRE = (1.0, 1.0, 1.0)


def staged(path: Path, volume: np.ndarray) -> StagedVolume:
    """A canonical volume ``(X, Y, Z)`` as a file."""
    made = StagedVolume.create(path, volume.shape)
    made.write(0, np.ascontiguousarray(np.moveaxis(volume, 2, 0)))
    return made


def whole(volume: StagedVolume) -> np.ndarray:
    return np.moveaxis(volume.read(0, volume.depth), 0, 2)


def connection() -> np.ndarray:
    """Edges and corners inside a slice, faces between slices."""
    shape = np.zeros((3, 3, 3), int)
    shape[:, :, 1] = 1
    shape[1, 1, :] = 1
    return shape


def removed_at_once(volume: np.ndarray, values: list[int], share: float) -> np.ndarray:
    done = volume.copy()
    for value in values:
        parts, count = ndimage.label(volume == value, connection())
        sizes = np.bincount(parts.ravel())[1:]
        for number in range(count):
            if sizes[number] < share * sizes.max():
                done[parts == number + 1] = 0
    return done


def filled_at_once(volume: np.ndarray, values: list[int]) -> np.ndarray:
    done = volume.copy()
    parts, count = ndimage.label(volume == 0)
    for number in range(1, count + 1):
        hole = parts == number
        places = np.argwhere(hole)
        if (places == 0).any() or (places == np.array(volume.shape) - 1).any():
            continue
        around = ndimage.binary_dilation(hole) & ~hole
        found = np.unique(volume[around])
        if len(found) == 1 and found[0] in values:
            done[hole] = found[0]
    return done


def blobs(seed: int, shape: tuple[int, int, int] = (23, 19, 37)) -> np.ndarray:
    """Organs of random form, with parts and holes of many sizes."""
    random = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(random.normal(size=(4, *shape)), (0, 1.3, 1.3, 1.3))
    return np.where(fields.max(axis=0) > 0.05, fields.argmax(axis=0), 0).astype(np.uint8)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.05, 0.5, 1.0])
def test_parts_removed_are_those_of_the_whole_volume(tmp_path: Path, seed: int, share: float) -> None:
    volume = blobs(seed)
    with staged(tmp_path / "mask", volume) as mask:
        options = CleanUp(frozenset({1, 3}), keep_share=share, keep_within_mm=1e9)
        removed = remove_parts(mask, options, MILLIMETRE)
        expected = removed_at_once(volume, [1, 3], share)
        np.testing.assert_array_equal(whole(mask), expected)
    assert removed == {
        value: int(((volume == value) & (expected == 0)).sum())
        for value in (1, 3)
        if ((volume == value) & (expected == 0)).any()
    }
    assert removed, "nothing to remove proves nothing"


@pytest.mark.parametrize("seed", range(6))
def test_holes_filled_are_those_of_the_whole_volume(tmp_path: Path, seed: int) -> None:
    # Dense organs, so that background is enclosed here and there.
    random = np.random.default_rng(seed)
    volume = np.where(random.random((17, 15, 33)) < 0.25, 0, 1).astype(np.uint8)
    volume[:, 8:] *= 2
    with staged(tmp_path / "mask", volume) as mask:
        filled = fill_holes(mask, frozenset({1, 2}))
        expected = filled_at_once(volume, [1, 2])
        np.testing.assert_array_equal(whole(mask), expected)
    assert set(filled) == {1, 2}
    assert sum(filled.values()) == int((expected != volume).sum())


def kidneys() -> np.ndarray:
    """Right kidney (2) large, left kidney (3) a tenth of it, a cavity in each and one between them."""
    volume = np.zeros((40, 12, 12), np.uint8)
    volume[22:38, 2:10, 2:10] = 2
    volume[2:6, 4:8, 4:8] = 3
    volume[30, 5, 5] = 0
    volume[4, 6, 6] = 0
    return volume


def test_a_pair_is_two_organs(tmp_path: Path) -> None:
    volume = kidneys()
    with staged(tmp_path / "mask", volume) as mask:
        clean_up(mask, CleanUp(frozenset({2, 3}), frozenset({2, 3}), keep_share=1.0), MILLIMETRE)
        done = whole(mask)
    assert (done == 3).sum() == 4 * 4 * 4, "the small kidney of a pair stays, its own cavity filled"
    assert done[30, 5, 5] == 2


@pytest.mark.parametrize(("spacing", "stays"), [((1, 1, 1), True), ((2, 1, 1), False), ((1, 1, 9), True)])
def test_parts_far_from_the_largest_go(
    tmp_path: Path, spacing: tuple[float, float, float], stays: bool
) -> None:
    volume = np.zeros((40, 8, 8), np.uint8)
    volume[:10], volume[28:36] = 5, 5
    with staged(tmp_path / "mask", volume) as mask:
        removed = remove_parts(mask, CleanUp(frozenset({5}), keep_within_mm=20), spacing)
        assert (whole(mask)[28:36] == 5).all() == stays
    assert removed == ({} if stays else {5: 8 * 8 * 8})


def test_parts_that_the_network_doubts_go_however_large(tmp_path: Path) -> None:
    volume, certain = np.zeros((20, 6, 9), np.uint8), np.zeros((20, 6, 9), np.uint8)
    volume[:10], certain[:10] = 2, 150
    volume[12:16], certain[12:16] = 2, 200
    volume[18:], certain[18:, :, :4], certain[18:, :, 4:] = 3, 255, 90
    with staged(tmp_path / "mask", volume) as mask, staged(tmp_path / "certain", certain) as confidence:
        options = CleanUp(frozenset({2, 3}), keep_confidence=0.64)
        removed = remove_parts(mask, options, MILLIMETRE, confidence)
        done = whole(mask)
    assert removed == {2: int((volume[:10] > 0).sum())}, (
        "the doubtful part is not what others are measured by"
    )
    np.testing.assert_array_equal(done[10:], volume[10:])


def test_what_two_organs_enclose_stays_open(tmp_path: Path) -> None:
    volume = np.full((9, 9, 9), 2, np.uint8)
    volume[:5] = 3
    volume[4:6, 4, 4] = 0
    with staged(tmp_path / "mask", volume) as mask:
        assert fill_holes(mask, frozenset({2, 3})) == {}
        np.testing.assert_array_equal(whole(mask), volume)


def test_what_is_switched_off_is_left_alone(tmp_path: Path) -> None:
    volume = blobs(0)
    with staged(tmp_path / "mask", volume) as mask:
        done = clean_up(mask, CleanUp(), MILLIMETRE)
        np.testing.assert_array_equal(whole(mask), volume)
    assert not done.removed
    assert not done.filled


@pytest.mark.parametrize("depth", [1, 2])
def test_thin_and_empty_volumes(tmp_path: Path, depth: int) -> None:
    everything = CleanUp(frozenset({1}), frozenset({1}))
    for value in (0, 1):
        with staged(tmp_path / "mask", np.full((5, 4, depth), value, np.uint8)) as mask:
            done = clean_up(mask, everything, MILLIMETRE)
            assert (whole(mask) == value).all()
        assert not done.removed
        assert not done.filled


def test_small_pieces_of_a_thin_organ_stay(tmp_path: Path) -> None:
    volume = np.zeros((40, 8, 8), np.uint8)
    volume[:20, :4], volume[:20, 5:] = 1, 2
    volume[22:24, :4], volume[22:24, 5:] = 1, 2
    gone = {2: int((volume[22:24] == 2).sum())}
    with staged(tmp_path / "mask", volume) as mask:
        usual = CleanUp(frozenset({1, 2}), thin=frozenset({1}))
        assert remove_parts(mask, usual, MILLIMETRE) == gone
    with staged(tmp_path / "again", volume) as mask:
        largest = CleanUp(frozenset({1, 2}), keep_share=1.0, thin=frozenset({1}))
        assert set(remove_parts(mask, largest, MILLIMETRE)) == {1, 2}
