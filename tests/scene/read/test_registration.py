"""Other sizes and shifts between sensors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from domainsam_scene.generated.scenes import make_scene
from domainsam_scene.read.layouts.base import align_sensors
from domainsam_scene.read.modalities import Plane
from domainsam_scene.read.registration import find_shift, resize_plane, resize_to_reference, undo_shift


def plane(image: np.ndarray) -> Plane:
    return Plane(image.astype(np.float32), np.ones(image.shape[1:], bool))


def ramp(rows: int, cols: int) -> Plane:
    """Values that depend on the place in the picture alone, edge to edge."""
    across = (np.arange(cols) + 0.5) / cols
    down = (np.arange(rows) + 0.5) / rows
    return plane(
        np.stack([np.broadcast_to(across, (rows, cols)), np.broadcast_to(down[:, None], (rows, cols))] * 2)[
            :3
        ]
    )


@pytest.mark.parametrize("size", [(20, 30), (80, 120), (41, 61)])
def test_resizing_keeps_places(size: tuple[int, int]) -> None:
    small = resize_plane(ramp(40, 60), size, nearest=False)
    expected = ramp(*size).image
    inner = np.s_[:, 3:-3, 3:-3]
    np.testing.assert_allclose(small.image[inner], expected[inner], atol=2e-3)
    nearest = resize_plane(ramp(40, 60), size, nearest=True)
    np.testing.assert_allclose(nearest.image, expected, atol=0.02)


def test_what_is_not_valid_does_not_bleed() -> None:
    image = np.ones((3, 8, 8), np.float32)
    valid = np.ones((8, 8), bool)
    image[:, :, 4:], valid[:, 4:] = 0, False
    small = resize_plane(Plane(image, valid), (4, 4), nearest=False)
    np.testing.assert_allclose(small.image[:, small.valid], 1, atol=1e-6)
    assert small.valid[:, 0].all()
    assert not small.valid[:, 3].any()


def test_all_sensors_come_to_the_camera_whatever_the_order() -> None:
    planes = {"depth": ramp(20, 30), "rgb": ramp(40, 60), "lidar": ramp(41, 61)}
    done, notes, _ = resize_to_reference(planes, "a")
    assert {name: laid.shape for name, laid in done.items()} == dict.fromkeys(planes, (40, 60))
    assert [note.split()[0] for note in notes] == ["depth", "lidar"]


def test_other_aspects_are_left_out_unless_the_layout_stretches() -> None:
    planes = {"rgb": ramp(40, 60), "depth": ramp(40, 40)}
    done, _, misfits = resize_to_reference(planes, "a")
    assert list(done) == ["rgb"]
    assert "rgb is 60 x 40 pixels and depth 40 x 40" in misfits["depth"]
    done, _, _ = resize_to_reference(planes, "a", any_aspect=True)
    assert done["depth"].shape == (40, 60)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.0, -4.0), (-2.0, 5.0), (1.5, 2.5)])
def test_shift_between_camera_and_depth_is_found(shift: tuple[float, float]) -> None:
    scene = make_scene(4, 160, "day", "none")
    depth = np.stack(
        [
            ndimage.shift(ndimage.median_filter(c, 3), shift, order=1, mode="nearest")
            for c in scene.images["depth"]
        ]
    )
    grey = plane(np.repeat(scene.images["depth"].mean(axis=0, keepdims=True), 3, axis=0))
    found = find_shift(grey, plane(depth))
    assert (found.down, found.right) == pytest.approx(shift, abs=0.6)
    assert found.believed == (shift != (0.0, 0.0))
    back = undo_shift(plane(depth), found, nearest=False)
    inner = np.s_[12:-12, 12:-12]
    before = np.abs(depth[0] - scene.images["depth"][0])[inner].mean()
    after = np.abs(back.image[0] - scene.images["depth"][0])[inner].mean()
    assert after <= before + 1e-3


def test_unrelated_pictures_are_left_alone() -> None:
    rng = np.random.default_rng(0)
    planes = {
        name: plane(np.clip(0.5 + ndimage.gaussian_filter(rng.standard_normal((3, 96, 96)), (0, 3, 3)), 0, 1))
        for name in ("rgb", "depth")
    }
    done, notes = align_sensors(planes)
    assert notes == ()
    assert done["depth"] is planes["depth"]
