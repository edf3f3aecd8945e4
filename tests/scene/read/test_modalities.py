"""The scale on which networks see sensors."""

from __future__ import annotations

import numpy as np
import pytest

from domainsam.errors import ConfigError, InputError
from domainsam_scene.read.images import RawImage
from domainsam_scene.read.modalities import FAR_M, is_blank, parse_range, scale_plane


def raw(values: np.ndarray) -> RawImage:
    return RawImage(values, np.isfinite(values.astype(float)).all(axis=0))


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("rgb", np.array([[[0, 255]]], np.uint8), [0, 1]),
        ("nir", np.array([[[0, 65535]]], np.uint16), [0, 1]),
        ("depth", np.array([[[0, 8000]]], np.uint16), [0, 8 / FAR_M]),
        ("depth", np.array([[[20.0, 500.0]]], np.float32), [20 / FAR_M, 1]),
        ("dolp", np.array([[[0.25, 1.0]]], np.float64), [0.25, 1]),
        ("mask", np.array([[[False, True]]]), [0, 1]),
    ],
)
def test_natural_scales(name: str, values: np.ndarray, expected: list[float]) -> None:
    plane = scale_plane(name, raw(values), "x")
    np.testing.assert_allclose(plane.image[0, 0], expected, atol=1e-6)
    assert plane.image.dtype == np.float32


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_three_channels_always(channels: int) -> None:
    values = np.arange(1, channels + 1, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    image = scale_plane("x", raw(values), "x").image[:, 0, 0] * 255
    expected = {1: [1, 1, 1], 2: [1, 2, 0], 3: [1, 2, 3], 4: [1, 2, 3]}[channels]
    np.testing.assert_allclose(image, expected, atol=1e-4)


def test_given_range_clips_and_may_be_reversed() -> None:
    values = raw(np.array([[[0.0, 5.0, 10.0, 20.0]]], np.float32))
    np.testing.assert_allclose(scale_plane("x", values, "x", (0, 10)).image[0, 0], [0, 0.5, 1, 1])
    np.testing.assert_allclose(scale_plane("x", values, "x", (10, 0)).image[0, 0], [1, 0.5, 0, 0])


def test_floats_beyond_one_need_a_range() -> None:
    with pytest.raises(InputError, match="--range thermal=LOW,HIGH"):
        scale_plane("thermal", raw(np.array([[[280.0, 300.0]]], np.float32)), "a.npy")


def test_what_is_not_valid_is_zero() -> None:
    plane = scale_plane("x", raw(np.array([[[np.nan, 0.5]]], np.float32)), "x")
    assert plane.image[:, 0, 0].tolist() == [0, 0, 0]
    assert plane.valid.tolist() == [[False, True]]


def test_blank() -> None:
    assert is_blank(scale_plane("x", raw(np.full((1, 3, 3), 7, np.uint8)), "x"))
    assert is_blank(scale_plane("x", raw(np.full((1, 3, 3), np.nan, np.float32)), "x"))
    values = np.full((1, 3, 3), 7, np.uint8)
    values[0, 1, 1] = 8
    assert not is_blank(scale_plane("x", raw(values), "x"))


def test_ranges_as_typed() -> None:
    assert parse_range("depth=0,40") == ("depth", (0.0, 40.0))
    for text in ("depth", "depth=0", "=0,1", "depth=1,1", "depth=a,b", "depth=0,inf", "depth=0,1,2"):
        with pytest.raises(ConfigError, match="--range"):
            parse_range(text)
