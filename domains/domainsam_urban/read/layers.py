"""Read labels and predictions, polygons or rasters in any CRS, on one scene's grid."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio import features
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.windows import Window as RasterWindow

from domainsam.errors import InputError, MissingInputError
from domainsam.io.rasters import open_raster, silence_rasterio
from domainsam.io.vectors import list_layers, read_table
from domainsam.protocols import Window
from domainsam.reading import reads
from domainsam_urban.read.geodesy import keep_polygons, parse_crs
from domainsam_urban.read.place import Place, require_same_ground, to_extent
from domainsam_urban.settings import GRID, SETTLEMENTS

IGNORE = 255
"""What a label layer holds where nobody has looked."""
PROBABILITY_STEPS = 254
"""An 8-bit probability ``p`` is stored as ``round(254 p)``; 255 is nodata."""


class Layer(Protocol):
    """Something known about every pixel of a scene's grid.

    ``notes`` are sentences about liberties that were taken in reading it.
    """

    notes: tuple[str, ...]

    def labels(self, window: Window) -> NDArray[np.uint8]:
        """``(H, W)``: 1 settlement, 0 not, 255 unknown; the window lies inside the scene."""
        ...


@dataclass(frozen=True)
class Choice:
    """Which of a vector file's features are settlements.

    Parameters
    ----------
    layer
        Name of the layer; by default the one called ``settlements``, else the first that holds shapes.
    field
        Column of classes; with ``values`` alone, the first of :data:`CLASS_FIELDS` that is there.
    values
        Classes that count; by default all features do.
    """

    layer: str | None = None
    field: str | None = None
    values: tuple[str, ...] = ()


POLYGONS = "polygons; expected GeoPackage, GeoParquet or GeoJSON"
ALL = Choice()
CLASS_FIELDS = ("class", "class_name", "classname", "label", "category", "type", "kind", "value")
"""Columns that are taken for one of classes, by their names in small letters."""
MOST_CLASSES = 20
"""A column of more different values is no column of classes."""
FARTHEST_LON, FARTHEST_LAT = 720.0, 100.0
"""Degrees beyond any that people write, longitudes that were counted on over the antimeridian included."""


@reads(POLYGONS)
def read_polygons(path: Path, choice: Choice = ALL) -> tuple[Any, tuple[str, ...]]:
    """Polygons of a vector file with their CRS (a GeoSeries), and notes on what was chosen or mended.

    A file without features gives no polygon: ground where somebody looked and
    found nothing.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it cannot be read, has no CRS or one that its numbers contradict, lacks the layer, column or
        class asked for, or holds features but no polygon.
    """
    if not path.exists():
        raise MissingInputError(f"'{path}' does not exist: check the path")
    layer, chosen = _choose_layer(path, choice.layer)
    table = read_table(path, layer, POLYGONS)
    if not len(table):
        crs = getattr(table, "crs", None) or "EPSG:4326"
        return gpd.GeoSeries([], crs=crs), (*chosen, f"{path.name}: holds no feature, read as no settlement")
    if not isinstance(table, gpd.GeoDataFrame):
        raise InputError(f"'{path}' is a table without shapes; expected polygons")
    _require_degrees(table, path)
    table, classes = _choose_class(table, path, choice)
    shapes = table.geometry
    given = np.asarray(shapes.values, dtype=object)
    empty = shapely.is_missing(given) | shapely.is_empty(given)
    invalid = int((~shapely.is_valid(given[~empty])).sum())
    polygons, owners = keep_polygons(given[~empty])
    useless = int((~empty).sum()) - len(np.unique(owners))
    if len(given) and not len(polygons):
        raise InputError(f"'{path}' holds {len(given)} geometries and no polygon with an area")
    counts = (
        (int(empty.sum()), "empty, left out"),
        (invalid, "invalid, mended"),
        (useless, "no area, left out"),
    )
    notes = [
        f"{number} of {len(given)} geometries in {path.name}: {what}" for number, what in counts if number
    ]
    return gpd.GeoSeries(polygons, crs=shapes.crs), (*chosen, *classes, *notes)


def _choose_layer(path: Path, asked: str | None) -> tuple[str | None, tuple[str, ...]]:
    """The layer to read, None for a file that has but one, and a note where others are passed over."""
    names = list_layers(path, POLYGONS)
    if asked is not None:
        if asked not in names:
            has = f"it has {', '.join(names)}" if names else "its format has none"
            raise InputError(f"'{path}' has no layer '{asked}': {has}")
        return asked, ()
    if len(names) < 2:
        return (names[0] if names else None), ()
    layer = SETTLEMENTS if SETTLEMENTS in names else names[0]
    others = [name for name in names if name not in (layer, GRID)]
    if not others:
        return layer, ()
    return layer, (f"{path.name}: has layers {', '.join(names)}; {layer} is read (choose with --layer)",)


def _require_degrees(table: Any, path: Path) -> None:
    """Refuse numbers that are none of degrees in a file that says so."""
    if table.crs is None:
        raise InputError(f"polygons '{path}' have no CRS: assign the one they were drawn in")
    extent = table.total_bounds
    if not table.crs.is_geographic or not np.isfinite(extent).all():
        return
    if np.abs(extent[::2]).max() <= FARTHEST_LON and np.abs(extent[1::2]).max() <= FARTHEST_LAT:
        return
    geojson = " (GeoJSON always means degrees)" if path.suffix.lower() in (".geojson", ".json") else ""
    raise InputError(
        f"polygons '{path}' say {table.crs.name}, which is in degrees{geojson}, but reach over "
        f"{to_extent(tuple(extent))}: these are metres of another CRS; name it with "
        "ogr2ogr -a_srs EPSG:... out.gpkg, or export them in degrees"
    )


def _choose_class(table: Any, path: Path, choice: Choice) -> tuple[Any, tuple[str, ...]]:
    """The features of the classes that count, and a note where there are several and none was chosen."""
    columns = [str(column) for column in table.columns if column != table.geometry.name]
    if choice.field is not None and choice.field not in columns:
        raise InputError(
            f"'{path}' has no column '{choice.field}' (--class-field): it has {', '.join(columns) or 'none'}"
        )
    lower = {column.lower(): column for column in reversed(columns)}
    field = choice.field or next((lower[name] for name in CLASS_FIELDS if name in lower), None)
    if field is None:
        if choice.values:
            raise InputError(
                f"'{path}' has no column of classes: name one of {', '.join(columns)} with --class-field"
            )
        return table, ()
    words = table[field].map(_word)
    known = sorted(set(words) - {""})
    if choice.values:
        wanted = {_word(value) for value in choice.values}
        counts = words.isin(wanted)
        kept = f"{int(counts.sum())} of {len(table)} features have {field} {', '.join(sorted(wanted))}"
        return table[counts], (f"{path.name}: {kept}",)
    if choice.field is None and not 1 < len(known) <= MOST_CLASSES:
        return table, ()
    if len(known) < 2:
        return table, ()
    return table, (
        f"{path.name}: column {field} holds {', '.join(known[:MOST_CLASSES])}; all count as settlement "
        "(choose with --class-value)",
    )


def _word(value: Any) -> str:
    """A class as people write it: ``3.0`` is ``3``, capitals and blanks around do not matter."""
    if value is None or value != value:
        return ""
    return str(value).strip().casefold().removesuffix(".0")


@dataclass
class PolygonLayer:
    """Polygons burnt into a grid: a pixel is settlement where its centre lies inside one.

    Raises
    ------
    InputError
        If the grid has no CRS, or (``must_touch``) lies outside the extent of polygons that there are.
    """

    polygons: Any
    place: Place
    name: str
    must_touch: bool = True
    notes: tuple[str, ...] = ()
    _here: Any = field(init=False)
    touches: bool = field(init=False)

    def __post_init__(self) -> None:
        if self.place.crs is None:
            raise InputError(
                f"polygons '{self.name}' cannot be laid on a scene without CRS: give the scene one"
            )
        self._here = self.polygons.to_crs(parse_crs(self.place.crs))
        extent, scene = shapely.box(*self._here.total_bounds), shapely.box(*self.place.bounds)
        # No polygon at all is an answer: somebody looked, and there is no settlement.
        self.touches = not len(self._here) or bool(extent.intersects(scene))
        if not self.touches and not self.must_touch:
            self.notes += (f"{self.name}: none of its polygons lies on this scene, read as no settlement",)
        if self.must_touch and not self.touches:
            raise InputError(
                f"polygons '{self.name}' do not overlap the scene: they cover {to_extent(extent.bounds)} "
                f"in its CRS, the scene {to_extent(scene.bounds)}; check that both cover the same ground"
            )

    def labels(self, window: Window) -> NDArray[np.uint8]:
        affine = self.place.affine @ Affine.translation(window.col, window.row)
        shape = (window.height, window.width)
        nearby = self._here.sindex.query(shapely.box(*Place(shape, affine, None).bounds))
        if not len(nearby):
            return np.zeros(shape, np.uint8)
        with silence_rasterio():
            burnt = features.rasterize(
                self._here.values[np.sort(nearby)], shape, transform=affine, dtype="uint8"
            )
        return np.asarray(burnt, np.uint8)


class PolygonAnswer:
    """Predicted polygons as a mask that is known everywhere."""

    kind = "mask"

    def __init__(self, layer: PolygonLayer) -> None:
        self._layer = layer
        self.notes = layer.notes

    def probability(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """1 inside polygons, 0 outside, ``(H, W)``; all of it known."""
        burnt = self._layer.labels(window)
        return burnt.astype(np.float32), np.ones(burnt.shape, bool)


class RasterLayer:
    """A mask or probability raster, brought to a grid by the nearest pixel where it lies on another.

    Anything but 0 and nodata is settlement in a mask. Values are taken for a
    probability if they are floats, or bytes of a file that says so or whose
    largest value is above 1 with 255 as nodata; ``kind`` overrides the guess.
    """

    def __init__(self, dataset: Any, place: Place, name: str, kind: str) -> None:
        self.notes: tuple[str, ...] = ()
        self.kind, self._name = kind, name
        own = Place.of(dataset)
        # A mask that declares 0 as nodata means "no settlement": ignoring it would leave no negatives.
        self._nodata = dataset.nodata if kind == "probability" or dataset.nodata != 0 else None
        if dataset.nodata == 0 and self._nodata is None:
            self.notes += (f"{name}: its nodata value 0 is read as 'no settlement'",)
        self._source, self._alpha = dataset, False
        if not own.aligned(place):
            self._warp(dataset, own, place)

    def _warp(self, dataset: Any, own: Place, place: Place) -> None:
        require_same_ground(self._name, own, place)
        if own.crs is None or place.crs is None:
            self.notes += (f"{self._name}: one CRS is missing; the same size is taken for the same place",)
            return
        self._alpha = self._nodata is None
        self._source = WarpedVRT(
            dataset,
            crs=place.crs,
            transform=place.affine,
            height=place.shape[0],
            width=place.shape[1],
            resampling=Resampling.nearest,
            **({"add_alpha": True} if self._alpha else {"nodata": self._nodata}),
        )
        self.notes += (f"{self._name}: on another grid, warped to the scene's by the nearest pixel",)

    def values(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Raw values ``(H, W)`` of the first band, and where there are any."""
        part = RasterWindow(window.col, window.row, window.width, window.height)
        try:
            raw = self._source.read(1, window=part)
            valid = np.ones(raw.shape, bool)
            if self._alpha:
                valid &= self._source.read(self._source.count, window=part) > 0
        except RasterioError as error:
            reason = error.__cause__ or error
            raise InputError(f"raster '{self._name}' is damaged: {reason}; make it again") from error
        if raw.dtype.kind == "f":
            valid &= np.isfinite(raw)
        if self._nodata is not None:
            valid &= raw != self._nodata
        return raw, valid

    def labels(self, window: Window) -> NDArray[np.uint8]:
        raw, valid = self.values(window)
        return np.where(valid, (raw != 0).astype(np.uint8), np.uint8(IGNORE))

    def probability(self, window: Window) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Probability ``(H, W)`` 0 to 1 (0 or 1 for a mask), and where it is known.

        Raises
        ------
        InputError
            If floats lie outside 0 to 1.
        """
        raw, valid = self.values(window)
        if self.kind == "mask":
            return (raw != 0).astype(np.float32), valid
        if raw.dtype.kind != "f":
            valid &= raw != IGNORE
            return (raw / np.float32(PROBABILITY_STEPS)).astype(np.float32), valid
        known = raw[valid]
        if known.size and (known.min() < 0 or known.max() > 1):
            raise InputError(
                f"raster '{self._name}' holds values {known.min():g} to {known.max():g}: "
                "expected probabilities from 0 to 1, or a mask of whole numbers"
            )
        return np.where(valid, raw, 0).astype(np.float32), valid


def guess_kind(dataset: Any) -> str:
    """``"mask"`` or ``"probability"``, from the values' type and, for bytes, a decimated look at them."""
    if np.dtype(dataset.dtypes[0]).kind == "f":
        return "probability"
    if dataset.nodata != IGNORE:
        return "mask"
    stride = max(1, max(dataset.shape) // 1024)
    small = dataset.read(1, out_shape=(-(-dataset.height // stride), -(-dataset.width // stride)))
    known = small[small != IGNORE]
    return "probability" if known.size and known.max() > 1 else "mask"


@contextmanager
def open_raster_layer(path: Path, place: Place, kind: str | None = None) -> Iterator[RasterLayer]:
    """Open a raster as a layer on a grid; ``kind`` is guessed where it is None."""
    with open_raster(path) as dataset:
        yield RasterLayer(dataset, place, path.name, kind or guess_kind(dataset))
