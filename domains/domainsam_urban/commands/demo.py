"""The urban pack's demo: its main job on a scene that it draws itself."""

from __future__ import annotations

import json
import math
from pathlib import Path

import click

from domainsam_cli.console import echo, get_command_line
from domainsam_cli.options import demo_folder_option, json_option, overwrite_option, seed_option
from domainsam_urban.job import make_scene_stem
from domainsam_urban.model.settlement import get_method, get_shape_settings, read_shipped_resolution
from domainsam_urban.read.profile import MOST_ENLARGED, SceneProfile
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.settings import MapOptions, OutputOptions, RunOptions
from domainsam_urban.write.provenance import Acquisition, find_acquisition

SIDE = 1024
"""Pixels of the sample, both ways: about 85 hectares."""
MIN_AREA_M2 = 1000.0
"""Nobody outlines a settlement smaller than a couple of house plots."""


@click.command()
@demo_folder_option
@seed_option
@overwrite_option
@json_option
def demo(out: Path, seed: int, overwrite: bool, as_json: bool) -> None:
    """Draw a scene of settlements and map it with the weights inside the package."""
    from domainsam_urban.generated import measure_agreement, write_sample
    from domainsam_urban.map import map_scenes

    scene, truth = out / "sample.tif", out / "sample_truth.tif"
    write_sample(scene, truth, SIDE, seed, overwrite)
    outputs = OutputOptions(
        vectors=(out / "settlements.gpkg",),
        probability=out / "probability.tif",
        mask=out / "mask.tif",
        preview=out / "preview.png",
        summary=out / "summary.json",
        overwrite=overwrite,
    )
    batch = map_scenes(
        [str(scene)],
        MapOptions(
            outputs,
            run=RunOptions(method=get_method(None)),
            shape=get_shape_settings(None, {"min_area": MIN_AREA_M2}),
            made_by=get_command_line(),
        ),
    )
    result = batch.results[0]
    iou = measure_agreement(out / "mask.tif", truth)
    if as_json:
        echo(json.dumps({**result.document(), "generated": True, "iou_with_truth": iou}, indent=2))
        return
    echo("This scene is generated. It shows that the tool works here, not how good the model is.")
    echo(result.sentence())
    for kind, path in {"scene": scene, "truth": truth, **result.paths}.items():
        echo(f"  {kind:<12} {path}")
    echo(f"Agreement with the generator's truth: IoU {iou:.2f}.")
    echo("Your own scene: domainsam urban map scene.tif -o settlements.gpkg")


def describe(path: str) -> dict[str, object]:
    """Facts about a raster, in the order a person wants to read them.

    Raises
    ------
    InputError
        If it is no raster, is damaged, or holds no data.
    """
    with RasterSource(
        path, resolution=read_shipped_resolution(), allow_no_crs=True, on_ground=True
    ) as source:
        profile, place = source.profile_info, source.view.affine
        notes = {"concluded": "; ".join(source.notes)} if source.notes else {}
    acquired = find_acquisition(make_scene_stem(path), profile.tags)
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
        **notes,
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
    if profile.ground_pixel is not None and profile.work_pixel is not None:
        coarser = math.sqrt(math.prod(profile.ground_pixel) / math.prod(profile.work_pixel))
        if coarser > MOST_ENLARGED:
            return (
                f"refused: {coarser:.0f} times as coarse as the model has learnt; a finer scene, or "
                "--resolution, is needed"
            )
    return f"resampled to {_metres(profile.work_pixel)}, {cols} x {rows} pixels"
