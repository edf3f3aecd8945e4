"""How far one picture is displaced against another."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from domainsam.infer.blend import hann_window
from domainsam.metrics.registration import correlate_phase


def drawn_pair(seed: int, shape: tuple[int, int] = (192, 150)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two noisy pictures of one place with a gap in both, and the second's displacement."""
    rng = np.random.default_rng(seed)
    ground = ndimage.gaussian_filter(rng.normal(size=(300, 300)), 1.2)
    moved = rng.uniform(-6, 6, 2)
    pictures = []
    for place in ((60.0, 60.0), 60 - moved):
        rows, cols = np.indices(shape, dtype=np.float64) + np.reshape(place, (2, 1, 1))
        seen = ndimage.map_coordinates(ground, [rows, cols], order=3)
        seen += rng.normal(size=shape) * 0.05 * ground.std()
        seen[-30:, :40] = seen.mean()
        pictures.append(((seen - seen.mean()) * hann_window(*shape)).astype(np.float32))
    return pictures[0], pictures[1], moved


@pytest.mark.parametrize("blur", [0.0, 1.0])
def test_thirty_drawn_displacements_are_found_to_a_tenth_of_a_pixel(blur: float) -> None:
    wrong = []
    for seed in range(30):
        first, second, moved = drawn_pair(seed)
        found = correlate_phase(first, second, blur, reach=(12, 12))
        wrong.append(np.hypot(found.rows - moved[0], found.cols - moved[1]))
    assert np.median(wrong) < 0.03
    assert max(wrong) < 0.1


def test_the_peak_is_looked_for_within_reach() -> None:
    first, second, _ = drawn_pair(1)
    far = np.roll(second, (40, 0), (0, 1))
    found = correlate_phase(first, far, reach=(5, 7))
    assert abs(found.rows) <= 6
    assert abs(found.cols) <= 8
    assert found.peak < correlate_phase(first, far).peak


def test_nothing_to_compare() -> None:
    flat = np.zeros((40, 31), np.float32)
    assert correlate_phase(flat, flat).peak == 0
