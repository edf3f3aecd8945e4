"""Scaling of pixel values."""

from __future__ import annotations

import json

import numpy as np
import pytest

from domainsam.errors import InputError
from domainsam_urban.read.bands import Radiometry, choose_rule, make_full_range, stretch


def test_stretch_maps_percentiles_to_0_and_1() -> None:
    samples = [np.arange(0, 1001, dtype=np.uint16) + shift for shift in (0, 500, 2000)]
    radiometry = stretch(samples)
    assert radiometry.low == (20.0, 520.0, 2020.0)
    assert radiometry.high == (980.0, 1480.0, 2980.0)
    image = radiometry.apply(
        np.array([[[20, 500, 2000]], [[520, 1000, 0]], [[2020, 2500, 9000]]], dtype=np.uint16)
    )
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, [[[0, 0.5, 1]], [[0, 0.5, 0]], [[0, 0.5, 1]]])


def test_stretch_leaves_nan_out_and_survives_constant_bands() -> None:
    values = np.array([np.nan, 1, 2, 3, np.inf], dtype=np.float32)
    radiometry = stretch([values, np.full(5, 7.0), np.full(5, np.nan)])
    assert np.isfinite(radiometry.low).all()
    assert (np.array(radiometry.high) > np.array(radiometry.low)).all()
    assert radiometry.apply(np.full((3, 1, 1), 7.0))[1] == 0
    assert np.isfinite(radiometry.apply(np.full((3, 1, 1), np.nan))).all()


def test_auto_leaves_8_bit_alone_and_stretches_the_rest() -> None:
    assert choose_rule(np.dtype(np.uint8), "auto") == "dtype"
    assert {choose_rule(np.dtype(kind), "auto") for kind in ("uint16", "int16", "float32")} == {"scene"}
    assert choose_rule(np.dtype(np.uint8), "scene") == "scene"
    with pytest.raises(InputError, match="expected auto, scene or dtype"):
        choose_rule(np.dtype(np.uint8), "tile")


def test_full_range_divides_8_bit_by_255() -> None:
    values = np.array([0, 51, 255], dtype=np.uint8).reshape(1, 1, 3).repeat(3, axis=0)
    expected = (values / 255).astype(np.float32)
    np.testing.assert_array_equal(make_full_range(np.dtype(np.uint8), 3).apply(values), expected)


def test_survives_json() -> None:
    radiometry = stretch([np.arange(17) / 3, np.arange(9), np.arange(5)])
    assert Radiometry.from_dict(json.loads(json.dumps(radiometry.to_dict()))) == radiometry


@pytest.mark.parametrize(
    "values",
    [{}, {"low": [0], "high": [0], "rule": "scene"}, {"low": [0], "high": [1], "rule": "tile"}, {"low": 3}],
)
def test_refuses_other_metadata(values: dict[str, object]) -> None:
    with pytest.raises(InputError, match="radiometry needs"):
        Radiometry.from_dict(values)
