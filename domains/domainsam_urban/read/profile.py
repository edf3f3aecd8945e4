"""Facts about a scene, for people and for run metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from domainsam_urban.read.bands import Radiometry
from domainsam_urban.read.layout import SceneLayout
from domainsam_urban.read.pixels import RawPixels

MUCH_ENLARGED, MOST_ENLARGED = 5.0, 20.0
"""Times that a scene's pixels are as coarse as what the model has learnt, to be told, and to be refused."""


@dataclass(frozen=True)
class SceneProfile:
    """Facts about a scene.

    ``ground_pixel`` is the native pixel's height and width in metres at the
    scene's centre, None without a CRS; ``work_pixel`` that of the work grid.
    """

    path: str
    driver: str
    shape: tuple[int, int]
    band_count: int
    dtype: str
    bands: tuple[int, ...]
    nodata: float | None
    crs: str | None
    ground_pixel: tuple[float, float] | None
    work_shape: tuple[int, int]
    work_pixel: tuple[float, float] | None
    resampled: bool
    radiometry: Radiometry
    tags: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)


def make_profile(
    path: str, dataset: Any, layout: SceneLayout, pixels: RawPixels, radiometry: Radiometry
) -> SceneProfile:
    """Facts about an open ``rasterio`` dataset, and about how it is read."""
    straight, crs = layout.work.straight, layout.wanted.crs
    return SceneProfile(
        path=path,
        driver=dataset.driver,
        shape=layout.wanted.shape,
        band_count=dataset.count,
        dtype=dataset.dtypes[pixels.bands[0] - 1],
        bands=tuple(pixels.bands),
        nodata=pixels.find_nodata(dataset),
        crs=None if crs is None else crs.to_string(),
        ground_pixel=layout.ground,
        work_shape=layout.work.shape,
        work_pixel=layout.work_pixel,
        resampled=straight is None or straight.scale != (1.0, 1.0),
        radiometry=radiometry,
        tags=dict(dataset.tags()),
    )
