"""What a raster holds and what ``domainsam urban map`` would do with it, for ``domainsam info``."""

from __future__ import annotations

from domainsam_urban.model import shipped_resolution
from domainsam_urban.outputs import scene_stem
from domainsam_urban.provenance import Acquisition, acquisition
from domainsam_urban.raster import RasterSource
from domainsam_urban.workgrid import SceneProfile


def describe(path: str) -> dict[str, object]:
    """Facts about a raster, in the order a person wants to read them.

    Raises
    ------
    InputError
        If it is no raster, is damaged, or holds no data.
    """
    with RasterSource(path, resolution=shipped_resolution(), allow_no_crs=True) as source:
        profile, place = source.profile_info, source.transform
    acquired = acquisition(scene_stem(path), profile.tags)
    rows, cols = profile.shape
    return {
        "format": profile.driver,
        "size": f"{cols} x {rows} pixels, {rows * cols / 1e6:.1f} Mpx",
        "bands": f"{profile.band_count}, {profile.dtype}",
        "CRS": profile.crs or "none",
        "pixel on the ground": _metres(profile.ground_pixel),
        "upper left corner": f"{place.c:.10g}, {place.f:.10g}" if profile.crs else "none",
        "nodata": "none declared" if profile.nodata is None else f"{profile.nodata:g}",
        "taken": _taken(acquired),
        "map reads": f"bands {', '.join(map(str, profile.bands))} as red, green, blue; {_scaling(profile)}",
        "map runs": _verdict(profile),
    }


def _metres(pixel: tuple[float, float] | None) -> str:
    if pixel is None:
        return "unknown"
    height, width = pixel
    # A difference below a percent is the ellipsoid's, and tells nobody anything.
    return f"{width:.3g} m" if abs(height / width - 1) < 0.01 else f"{width:.3g} x {height:.3g} m"


def _taken(acquired: Acquisition) -> str:
    if acquired.instant is not None:
        return acquired.instant.isoformat()
    return "unknown" if acquired.start is None else f"in {acquired.start.year}"


def _scaling(profile: SceneProfile) -> str:
    radiometry = profile.radiometry
    pairs = {f"{low:g} to {high:g}" for low, high in zip(radiometry.low, radiometry.high, strict=True)}
    where = "the data type's range" if radiometry.rule == "dtype" else "the scene's percentiles"
    return f"scaled by {where}, {' and '.join(sorted(pairs))}"


def _verdict(profile: SceneProfile) -> str:
    if profile.crs is None:
        return "not without a CRS; --allow-no-crs accepts pixel units, without areas"
    if not profile.resampled:
        return "at the scene's own resolution"
    rows, cols = profile.work_shape
    return f"resampled to {_metres(profile.work_pixel)}, {cols} x {rows} pixels"
