"""Surfaces by area: known areas, and figures that the package ``surface-distance`` 0.1 gave."""

from __future__ import annotations

import numpy as np
import pytest

from domainsam.metrics.surfaces import (
    CORNERS,
    compute_areas,
    compute_robust_hausdorff,
    compute_surface_dice,
    encode_cubes,
    measure_surfaces,
)

SPACING = (0.8, 1.1, 2.5)


def lump(centre: tuple[float, ...], radii: tuple[float, ...], gap: int) -> np.ndarray:
    """An ellipsoid with single voxels missing, so that all sorts of cubes occur."""
    grid = np.indices((20, 18, 12))
    inside = sum(((grid[n] - centre[n]) / radii[n]) ** 2 for n in range(3)) < 1
    return np.asarray(inside & ((grid[0] * 7 + grid[1] * 5 + grid[2] * 3) % gap != 0))


def test_figures_of_the_package() -> None:
    one, other = lump((9, 8, 5), (7, 6, 4), 11), lump((10.5, 8, 6), (6, 6.5, 4.5), 13)
    there, back = measure_surfaces(one, other, SPACING)
    assert (there.areas.sum(), back.areas.sum()) == pytest.approx((881.5952621065246, 961.7931641569969))
    found = [compute_surface_dice(there, back, tolerance) for tolerance in (0.9, 1.5, 2.0)]
    assert found == pytest.approx([0.7788123077671049, 0.863721420746818, 0.9149444486189278])
    assert compute_robust_hausdorff(there, back, 95) == pytest.approx(2.7313000567495327)
    assert compute_robust_hausdorff(there, back, 70) == pytest.approx(0.8)


def test_areas_of_a_box() -> None:
    """Faces, edges cut at 45 degrees, corners cut off: as marching cubes shape a box."""
    x, y, z = SPACING
    box = np.zeros((9, 9, 9), bool)
    box[1:6, 2:8, 3:7] = True
    there, back = measure_surfaces(box, box, SPACING)
    a, b, c = 4 * x, 5 * y, 3 * z
    faces = 2 * (a * b + b * c + a * c)
    edges = 4 * (a * np.hypot(y, z) + b * np.hypot(x, z) + c * np.hypot(x, y)) / 2
    corner = np.linalg.norm([y * z, x * z, x * y]) / 8
    assert there.areas.sum() == pytest.approx(faces + edges + 8 * corner)
    assert there.distances.max() == back.distances.max() == 0
    assert compute_surface_dice(there, back, 0) == 1


@pytest.mark.parametrize(
    ("inside", "area"),
    [
        ([0], 3**0.5 / 8),
        ([0, 1], 0.5**0.5),
        ([0, 3], 2 * 3**0.5 / 8),
        ([0, 1, 2], 0.5 + 3 * 3**0.5 / 8),
        ([0, 1, 2, 3], 1.0),
        ([0, 1, 2, 4], 6 * 3**0.5 / 8),
        ([0, 3, 5, 6], 4 * 3**0.5 / 8),
        ([0, 1, 3, 7], 4 * 3**0.5 / 8 + 0.5**0.5),
    ],
)
def test_areas_of_single_cubes(inside: list[int], area: float) -> None:
    """However the cube is turned, and for what is inside and outside alike."""
    areas = compute_areas((1, 1, 1))
    code = sum(1 << bit for bit in inside)
    assert areas[code] == pytest.approx(area)
    assert areas[255 - code] == pytest.approx(area)
    turned = sum(1 << CORNERS.index((1 - z, y, x)) for x, y, z in (CORNERS[bit] for bit in inside))
    assert areas[turned] == pytest.approx(area)


def test_a_corner_is_one_cube() -> None:
    mask = np.zeros((2, 2, 2), bool)
    mask[1, 0, 1] = True
    codes = encode_cubes(mask)
    assert codes.shape == (3, 3, 3)
    assert codes[1, 0, 1] == 1 << CORNERS.index((1, 1, 1))
    assert np.count_nonzero(codes) == 8


def test_masks_must_be_comparable() -> None:
    some = np.ones((2, 2, 2), bool)
    for other in (np.zeros((2, 2, 2), bool), np.ones((2, 2, 3), bool)):
        with pytest.raises(ValueError, match="none empty"):
            measure_surfaces(some, other, SPACING)
