"""Describe outputs as a STAC Item."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import shapely
import shapely.affinity
from affine import Affine
from pyproj import Transformer

import domainsam
from domainsam.grid import Float64
from domainsam.io.rasters import open_raster
from domainsam.limits import tell_moment
from domainsam.staging import Staging
from domainsam_urban.job import ALIKE, ASKED, EVERYTHING, MARKED, WORDED
from domainsam_urban.read.geodesy import apply_affine, parse_crs
from domainsam_urban.read.place import Place
from domainsam_urban.write.polygons import PROBABILITY_STEPS
from domainsam_urban.write.provenance import Provenance
from domainsam_urban.write.styles import OUTLINE

_SCHEMA = "https://stac-extensions.github.io/{}/schema.json"
EXTENSIONS = tuple(
    _SCHEMA.format(part) for part in ("projection/v2.0.0", "raster/v2.0.0", "processing/v1.1.0")
)
CLASSIFICATION = _SCHEMA.format("classification/v2.0.0")
COG = "image/tiff; application=geotiff; profile=cloud-optimized"
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
"""No picture of the ground that is mapped is older."""
_EDGE_POINTS = 17
_STRAIGHT = 1e-6
"""Degrees, a tenth of a metre: points of a footprint that bend less are left out."""
_DEGREES = 7
"""Decimals of longitude and latitude, as RFC 7946 advises against more: a centimetre."""


@dataclass(frozen=True)
class Output:
    """One file to list as an asset.

    Parameters
    ----------
    key
        Short name of the asset: ``polygons``, ``mask``, ``probability``, ...
    path
        Where it lies.
    media_type, title
        For people and programs that open it.
    roles
        STAC asset roles.
    extra
        Further asset fields.
    """

    key: str
    path: Path
    media_type: str
    title: str
    roles: tuple[str, ...] = ("data",)
    extra: Mapping[str, Any] = field(default_factory=dict)


def describe_mask(path: Path, labels: Mapping[int, str], what: str = "settlement") -> Output:
    """The mask raster, with the meaning of its values."""
    names = {0: "background"} | dict(labels)
    classes: list[dict[str, Any]] = [{"value": value, "name": name} for value, name in sorted(names.items())]
    classes[1]["color_hint"] = OUTLINE.removeprefix("#").upper()
    classes.append({"value": 255, "name": "nodata", "nodata": True})
    band = {"name": "mask", "data_type": "uint8", "nodata": 255, "classification:classes": classes}
    return Output(
        "mask", path, COG, f"{what.capitalize()} mask", ("data", "labels-raster"), {"bands": [band]}
    )


def describe_probability(path: Path, what: str = "settlement") -> Output:
    """The probability raster, with the scale of its steps."""
    scale = {"raster:scale": 1 / PROBABILITY_STEPS, "raster:offset": 0}
    band = {"name": "probability", "data_type": "uint8", "nodata": 255, **scale}
    return Output("probability", path, COG, f"Probability of {what}", ("data",), {"bands": [band]})


def describe_preview(path: Path) -> Output:
    """The preview picture."""
    return Output("preview", path, "image/png", "Preview", ("overview", "visual"))


def describe_summary(path: Path) -> Output:
    """The machine-readable summary of the run."""
    return Output("summary", path, "application/json", "Run summary", ("metadata",))


def describe_vector(path: Path, media_type: str, key: str = "polygons", what: str = "settlement") -> Output:
    """A vector file; see :func:`domainsam_urban.settings.find_vector_format` for its media type."""
    title = f"Share of {what} per grid cell" if key.startswith("grid") else f"{what.capitalize()} polygons"
    return Output(key, path, media_type, title, ("data",))


def make_item(
    item_path: Path,
    raster_path: Path | str,
    outputs: Sequence[Output],
    *,
    scene: str,
    provenance: Provenance,
    created: datetime | None = None,
    place: Place | None = None,
    seen: Callable[[Any], Any] | None = None,
) -> pystac.Item:
    """Describe a run.

    ``datetime`` is when the scene was taken. Where only its year is known it is
    null and ``start_datetime`` and ``end_datetime`` span that year. Where
    nothing is known, STAC still demands a span: it is all that can be true, from
    :data:`EARLIEST` to the processing, and ``domainsam:time`` is ``unknown``.
    The moment of processing is in ``created`` alone, so that nobody who looks
    for scenes of this year finds one of another.

    The model is named in ``domainsam:model``. The MLM extension is left out on
    purpose: its schema describes Items that *are* a model, and demands a model
    file among the assets.

    Parameters
    ----------
    item_path
        Where the Item will lie; hrefs of local files are relative to its folder.
    raster_path
        Raster that gives footprint, CRS and shape: the mask, or the scene.
    scene
        The scene as the user gave it: a path, a ``/vsi`` path or an address.
    place
        Footprint, CRS and shape in place of the raster's.
    seen
        The part of a footprint that holds data; all of it if not given.

    Returns
    -------
    pystac.Item
        Without a CRS its geometry is null.
    """
    created = created or tell_moment()
    acquired = provenance.acquired
    if place is None:
        with open_raster(raster_path) as dataset:
            place = Place.of(dataset)
    shape, affine, crs = place.shape, place.affine, place.crs
    known = acquired.instant is not None or acquired.start is not None
    properties: dict[str, Any] = {
        "created": _stamp(created),
        "processing:software": {"domainsam": domainsam.__version__},
        "processing:lineage": _lineage(provenance),
        "domainsam:model": provenance.model,
        "domainsam:time": "acquisition" if known else "unknown",
        **_projection(shape, affine, crs),
    }
    outline = None if crs is None else compute_footprint(shape, affine, crs)
    if outline is not None and seen is not None:
        outline = seen(outline)
    labelled = any(
        "classification:classes" in band for output in outputs for band in output.extra.get("bands", ())
    )
    item = pystac.Item(
        id=item_path.name.removesuffix(".json").removesuffix(".stac"),
        geometry=None if outline is None else json.loads(shapely.to_geojson(outline)),
        bbox=None if outline is None else _bbox(outline),
        datetime=acquired.instant,
        start_datetime=None if acquired.instant else acquired.start or EARLIEST,
        end_datetime=None if acquired.instant else acquired.end or created,
        properties=properties,
        stac_extensions=[*EXTENSIONS, *([CLASSIFICATION] if labelled else [])],
    )
    folder = item_path.parent
    for output in outputs:
        item.add_asset(
            output.key,
            pystac.Asset(
                _href(str(output.path), folder),
                title=output.title,
                media_type=output.media_type,
                roles=list(output.roles),
                extra_fields=dict(output.extra),
            ),
        )
    item.add_link(pystac.Link("derived_from", _href(scene, folder), title="Source scene"))
    return item


def write_item(item: pystac.Item, path: Path, *, overwrite: bool = False) -> None:
    """Write an Item; it appears complete or not at all.

    Raises
    ------
    OutputError
        If the file exists and may not be replaced, or cannot be written.
    """
    content = item.to_dict(include_self_link=False, transform_hrefs=False)
    with Staging([path], overwrite=overwrite) as staging:
        staging.write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def compute_footprint(shape: tuple[int, int], affine: Affine, crs: Any) -> Any:
    """Outline of a raster in WGS 84 longitude and latitude, as RFC 7946 wants it.

    Sides are followed by several points each, since a straight side of the CRS
    bends in degrees. An outline across the antimeridian is cut there into a
    MultiPolygon; one round a pole is closed along the pole. Rings run
    counter-clockwise.
    """
    rows, columns = shape
    step = np.linspace(0, 1, _EDGE_POINTS)[:-1]
    zero, one = np.zeros_like(step), np.ones_like(step)
    unit = np.column_stack((np.r_[step, one, 1 - step, zero], np.r_[zero, step, one, 1 - step]))
    world = apply_affine(affine, unit * (columns, rows))
    to_degrees = Transformer.from_crs(parse_crs(crs), "EPSG:4326", always_xy=True)
    lon, lat = (np.asarray(axis) for axis in to_degrees.transform(world[:, 0], world[:, 1]))
    # Unwrapped, so that a step over the antimeridian is a small one.
    lon = np.degrees(np.unwrap(np.radians(lon)))
    turns = _count_turns(lon)
    if turns:
        lon, lat = _close_round_pole(lon, lat, turns)
    ring = shapely.simplify(shapely.Polygon(np.column_stack((lon, lat))), _STRAIGHT)
    ring = shapely.transform(ring, lambda points: np.round(points, _DEGREES))
    if not shapely.is_valid(ring):
        ring = shapely.make_valid(ring, method="structure", keep_collapsed=False)
    pieces = []
    for turn in (-360.0, 0.0, 360.0):
        moved = shapely.affinity.translate(ring, xoff=turn)
        piece = shapely.intersection(moved, shapely.box(-180, -90, 180, 90))
        if shapely.area(piece) > 0:
            pieces.append(piece)
    if turns:
        pieces = [shapely.union_all(pieces)]
    whole = pieces[0] if len(pieces) == 1 else shapely.multipolygons(pieces)
    return shapely.orient_polygons(whole, exterior_cw=False)


def _count_turns(lon: Float64) -> int:
    """How often an unwrapped ring, its first point not repeated, goes round the Earth's axis: -1, 0 or 1."""
    last = (lon[0] - lon[-1] + 180) % 360 - 180
    return round(float(lon[-1] + last - lon[0]) / 360)


def _close_round_pole(lon: Float64, lat: Float64, turns: int) -> tuple[Float64, Float64]:
    """A ring round a pole as one whose sides run along a meridian to the pole, along it, and back."""
    pole = 90.0 if lat.mean() > 0 else -90.0
    end = lon[0] + 360 * turns
    return np.r_[lon, end, end, lon[0]], np.r_[lat, lat[0], pole, pole]


def _lineage(provenance: Provenance) -> str:
    method = f", {provenance.method}" if provenance.method else ""
    words = {
        MARKED: "Objects marked in",
        ALIKE: "Objects like an example in",
        EVERYTHING: "Everything seen in",
        ASKED: "Objects asked for by words in",
        WORDED: "Objects found by words in",
    }
    what = words.get(provenance.method, "Settlements mapped from")
    return f"{what} {provenance.source or 'a scene'}{method}"


def _bbox(outline: Any) -> list[float]:
    """West, south, east, north; west is the greater across the antimeridian (RFC 7946, 5.2)."""
    west, south, east, north = (float(side) for side in shapely.bounds(outline))
    if shapely.get_num_geometries(outline) > 1 and east - west > 180:
        parts = shapely.bounds(shapely.get_parts(outline))
        west, east = float(parts[:, 0].max()), float(parts[:, 2].min())
    return [west, south, east, north]


def _projection(shape: tuple[int, int], affine: Affine, crs: Any | None) -> dict[str, Any]:
    place: dict[str, Any] = {"proj:shape": list(shape), "proj:transform": list(affine)[:6], "proj:code": None}
    if crs is None:
        return place
    known = parse_crs(crs)
    authority = known.to_authority(min_confidence=100)
    if authority is None:
        return place | {"proj:wkt2": known.to_wkt()}
    return place | {"proj:code": ":".join(authority)}


def _href(target: str, folder: Path) -> str:
    """A path relative to ``folder``; addresses, ``/vsi`` paths and other drives as they are."""
    if "://" in target or target.startswith("/vsi"):
        return target
    try:
        relative = os.path.relpath(target, folder)
    except ValueError:
        return Path(target).absolute().as_uri()
    relative = Path(relative).as_posix()
    return relative if relative.startswith("..") else f"./{relative}"


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
