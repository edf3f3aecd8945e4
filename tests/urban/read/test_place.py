"""Places of scenes: the size of a pixel on the ground."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine

from domainsam_urban.read.place import Place
from tests.urban.mask_files import METRE, UTM


def test_pixel_metres_are_true_ground_metres() -> None:
    mercator = Place((10, 10), Affine(1, 0, 12_970_000, 0, -1, 4_886_000), "EPSG:3857")
    assert mercator.pixel_metres() == pytest.approx(np.cos(np.radians(40.13)), rel=3e-3)
    degrees = Place((10, 10), Affine(1e-5, 0, 116, 0, -1e-5, 40), "EPSG:4326")
    assert degrees.pixel_metres() == pytest.approx(np.sqrt(1.1104 * 0.8538), rel=1e-3)
    assert Place((10, 10), METRE, UTM).pixel_metres() == pytest.approx(1, abs=1e-3)
    assert Place((10, 10), Affine.identity(), None).pixel_metres() == 1
