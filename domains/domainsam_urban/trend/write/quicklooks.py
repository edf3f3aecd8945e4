"""Draw pictures of the common ground: imagery, outlines and change."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyproj
import rasterio
from affine import Affine
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from pyproj import Transformer
from rasterio import features
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from scipy import ndimage

from domainsam.errors import DomainSamError
from domainsam.io.charts import encode_jpeg, encode_png
from domainsam.io.rasters import open_raster
from domainsam_urban.read.geodesy import find_geographic_crs
from domainsam_urban.trend.measure.objects import ChangeObjects
from domainsam_urban.trend.stack import YearLayer, YearStack
from domainsam_urban.trend.write.charts import GAIN, INK, KEPT, LOSS, UNSEEN
from domainsam_urban.write.preview import round_below
from domainsam_urban.write.sceneview import read_scene_picture

log = logging.getLogger(__name__)

LONGEST = 1000
"""Longest side of a picture, in its own pixels."""
LARGEST_ZOOM = 4
FINE = 2
"""Outlines are drawn this many times finer, then shrunk, so that they are smooth."""
OUTLINE = "#ffd400"
QUALITY = 82
"""Of JPEG files."""
NEAR_POLE = 89.0
"""Degrees of latitude from which on north is somewhere else at every edge of a map."""
BLANK = 236
"""Grey of ground without imagery."""
HALO = [patheffects.withStroke(linewidth=2.5, foreground="white")]
BAR = 3.0
"""Width of the scale's line in points."""
BAR_HALO = [patheffects.withStroke(linewidth=BAR + 2.5, foreground="white")]
LETTERS: dict[str, Any] = {"fontsize": 8, "color": INK, "ha": "center", "path_effects": HALO}
"""Of words on a map."""

Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class View:
    """Size ``(width, height)`` of the pictures and the affine from their corners to the ground's CRS."""

    size: tuple[int, int]
    affine: Affine
    metre: float

    @classmethod
    def of(cls, stack: YearStack) -> View:
        """The whole ground, small grounds enlarged a little."""
        ground = stack.ground
        zoom = min(LONGEST / max(ground.shape), LARGEST_ZOOM)
        size = max(1, round(ground.width * zoom)), max(1, round(ground.height * zoom))
        affine = ground.affine @ Affine.scale(ground.width / size[0], ground.height / size[1])
        return cls(size, affine, ground.pixel_m * ground.width / size[0])


@dataclass(frozen=True, eq=False)
class Pictures:
    """All pictures of a report.

    Parameters
    ----------
    imagery
        JPEG of each year, by label.
    outlines
        PNG with transparency of each year's settlements, by label.
    change
        PNG with transparency: gained, kept and lost ground between the first and the last year.
    change_map
        ``(h, w, 3)``: the same over the last year's imagery in grey.
    view
        How they lie.
    """

    imagery: dict[str, bytes]
    outlines: dict[str, bytes]
    change: bytes
    change_map: Bytes
    view: View


def draw_pictures(stack: YearStack, found: ChangeObjects) -> Pictures:
    """Draw everything; memory follows the pictures' size, not the ground's."""
    view = View.of(stack)
    unseen = ~_seen(stack, view)
    masks = [_mask(stack, found, index, view) for index in range(len(stack.years))]
    imagery = {year.label: read_year_picture(stack, year, view) for year in stack.years}
    last = imagery[stack.labels[-1]]
    shades = _change(masks[0], masks[-1], unseen)
    return Pictures(
        {label: encode_jpeg(picture, QUALITY) for label, picture in imagery.items()},
        {
            year.label: encode_png(_outlined(mask, unseen))
            for year, mask in zip(stack.years, masks, strict=True)
        },
        encode_png(shades),
        _over(last.mean(axis=-1, keepdims=True).repeat(3, axis=-1), shades),
        view,
    )


def draw_change_map(pictures: Pictures, stack: YearStack) -> Figure:
    """The map of change with its legend, longitude and latitude, scale and north, as a figure."""
    height, width = pictures.change_map.shape[:2]
    figure = Figure(figsize=(7.2, 7.2 * height / width + 0.7), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(pictures.change_map, extent=(0, width * pictures.view.metre, 0, height * pictures.view.metre))
    _mark_degrees(axes, pictures.view, stack.ground.wkt)
    _mark_scale(axes, pictures.view)
    _mark_north(axes, pictures.view, stack.ground.wkt)
    colours = {"became settlement": GAIN, "stayed": KEPT, "ceased to be": LOSS, "not compared": UNSEEN}
    patches = [Patch(color=colour, label=label) for label, colour in colours.items()]
    figure.legend(
        handles=patches,
        title=f"{stack.labels[0]} to {stack.labels[-1]}",
        loc="outside upper center",
        ncols=4,
        frameon=False,
        fontsize=8,
        title_fontsize=9,
    )
    return figure


def _mark_degrees(axes: Axes, view: View, wkt: str) -> None:
    """Longitudes along the map's horizontal middle and latitudes along its vertical one, as ticks."""
    width, height = view.size
    to_degrees = Transformer.from_crs(pyproj.CRS.from_wkt(wkt), "EPSG:4326", always_xy=True)
    metre = view.metre
    for number, length in enumerate((width, height)):
        along = np.linspace(0, length, 65)
        middle = np.full_like(along, view.size[1 - number] / 2)
        column, row = (along, middle) if number == 0 else (middle, length - along)
        degrees = np.asarray(to_degrees.transform(*(view.affine @ (column, row)))[number])
        if not np.isfinite(degrees).all() or (np.diff(degrees) <= 0).any():
            # Around a pole or over the antimeridian degrees do not grow along a side.
            axes.tick_params(labelbottom=False, labelleft=False, bottom=False, left=False)
            return
        ticks = MaxNLocator(4).tick_values(degrees[0], degrees[-1])
        ticks = ticks[(ticks >= degrees[0]) & (ticks <= degrees[-1])]
        digits = next(n for n in range(9) if n == 8 or np.allclose(ticks, ticks.round(n), rtol=0, atol=1e-9))
        places = np.interp(ticks, degrees, along) * metre
        labels = [_name_degree(tick, number, digits) for tick in ticks]
        if number == 0:
            axes.set_xticks(places, labels)
        else:
            axes.set_yticks(places, labels, rotation=90, va="center")
    axes.tick_params(labelsize=7)


def _name_degree(degree: float, axis: int, digits: int) -> str:
    letter = ("EW", "NS")[axis][int(degree < 0)]
    return f"{abs(degree):.{digits}f}° {letter}"


def _mark_scale(axes: Axes, view: View) -> None:
    """A bar of a round length at the lower left."""
    width, height = (side * view.metre for side in view.size)
    length = round_below(0.25 * width)
    left, low = 0.03 * width, 0.04 * height
    axes.plot([left, left + length], [low, low], color=INK, linewidth=BAR, path_effects=BAR_HALO)
    words = f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
    place = (left + length / 2, low)
    axes.annotate(words, place, (0, 4), textcoords="offset points", va="bottom", **LETTERS)
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)


def _mark_north(axes: Axes, view: View, wkt: str) -> None:
    """An arrow to true north at the upper right; none near a pole."""
    width, height = (side * view.metre for side in view.size)
    middle = view.affine @ (view.size[0] / 2, view.size[1] / 2)
    base, degrees = find_geographic_crs(CRS.from_wkt(wkt))
    crs = pyproj.CRS.from_wkt(wkt)
    lon, lat = Transformer.from_crs(crs, base, always_xy=True).transform(*middle)
    if not abs(lat * degrees) < NEAR_POLE:
        return
    x, y = Transformer.from_crs(base, crs, always_xy=True).transform(lon, lat + 0.01 / degrees)
    north = np.array([x - middle[0], y - middle[1]])
    north /= max(float(np.hypot(*north)), 1e-9)
    right, up = float(north[0]), float(north[1])
    head, shaft = (0.95 * width, 0.9 * height), 0.07 * min(width, height)
    foot = head[0] - right * shaft, head[1] - up * shaft
    arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.4, "path_effects": HALO}
    axes.annotate("", head, foot, arrowprops=arrow)
    offset = (6 * right, 6 * up)
    axes.annotate("N", head, offset, textcoords="offset points", va="center", weight="bold", **LETTERS)


def read_year_picture(stack: YearStack, year: YearLayer, view: View) -> Bytes:
    """A year's scene on the ground, ``(h, w, 3)``; grey where there is none, or it cannot be drawn."""
    blank = np.full((view.size[1], view.size[0], 3), BLANK, np.uint8)
    if year.scene is None:
        return blank
    try:
        with open_raster(year.scene) as dataset:
            if dataset.crs is None:
                return blank
            extra = {"add_alpha": True} if dataset.nodata is None else {}
            with WarpedVRT(
                dataset,
                crs=stack.ground.crs,
                transform=view.affine,
                width=view.size[0],
                height=view.size[1],
                resampling=Resampling.bilinear,
                **extra,
            ) as warped:
                bands = (1, 2, 3) if dataset.count >= 3 else (1,)
                picture = read_scene_picture(warped, bands, view.size)
    except (DomainSamError, RasterioError) as error:
        log.warning("%s: no picture of it in the report (%s)", year.label, error)
        return blank
    return np.asarray(np.rint(picture * 255), np.uint8)


def _seen(stack: YearStack, view: View) -> Bools:
    """Ground ``(h, w)`` that all years saw."""
    with rasterio.open(stack.common_valid) as valid:
        seen = valid.read(1, out_shape=(view.size[1], view.size[0]), resampling=Resampling.nearest)
    return np.asarray(seen == 1)


def _mask(stack: YearStack, found: ChangeObjects, year: int, view: View) -> Bools:
    """Settlements of a year, :data:`FINE` times finer than the picture."""
    shape = view.size[1] * FINE, view.size[0] * FINE
    polygons = found.years[year].polygons
    if not len(polygons):
        return np.zeros(shape, bool)
    affine = view.affine @ Affine.scale(1 / FINE)
    return np.asarray(features.rasterize(polygons, shape, transform=affine, dtype="uint8") == 1)


def _outlined(mask: Bools, unseen: Bools) -> Bytes:
    """Light fill, dark rim and bright outline, ``(h, w, 4)``."""
    width = FINE
    inner = ndimage.binary_erosion(mask, iterations=width)
    rim = ndimage.binary_dilation(mask, iterations=1) & ~ndimage.binary_erosion(mask, iterations=width + 1)
    picture = np.zeros((*mask.shape, 4), np.float32)
    picture[mask] = (*_rgb(OUTLINE), 46)
    picture[rim] = (20, 20, 20, 190)
    picture[mask & ~inner] = (*_rgb(OUTLINE), 255)
    return _hatched(_shrunk(picture), unseen)


def _change(early: Bools, late: Bools, unseen: Bools) -> Bytes:
    picture = np.zeros((*early.shape, 4), np.float32)
    for where, colour, alpha in (
        (early & late, KEPT, 150),
        (late & ~early, GAIN, 205),
        (early & ~late, LOSS, 205),
    ):
        picture[where] = (*_rgb(colour), alpha)
    return _hatched(_shrunk(picture), unseen)


def _hatched(picture: Bytes, unseen: Bools) -> Bytes:
    """Diagonal lines where not all years saw the ground."""
    row, column = np.indices(unseen.shape)
    lines = unseen & ((row + column) % 9 < 2)
    picture[unseen] = (*_rgb(UNSEEN), 60)
    picture[lines] = (*_rgb(UNSEEN), 210)
    return picture


def _shrunk(picture: NDArray[np.float32]) -> Bytes:
    """Averaged over :data:`FINE` squared pixels, colours weighted by their opacity."""
    rows, columns = picture.shape[0] // FINE, picture.shape[1] // FINE
    parts = picture.reshape(rows, FINE, columns, FINE, 4)
    alpha = parts[..., 3:].sum(axis=(1, 3))
    colour = (parts[..., :3] * parts[..., 3:]).sum(axis=(1, 3)) / np.maximum(alpha, 1e-6)
    return np.asarray(np.concatenate([colour, alpha / FINE**2], axis=-1).round(), np.uint8)


def _over(picture: NDArray[np.float64], shades: Bytes) -> Bytes:
    alpha = shades[..., 3:] / 255
    return np.asarray((picture * (1 - alpha) + shades[..., :3] * alpha).round(), np.uint8)


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
