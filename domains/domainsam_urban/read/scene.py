"""Read a satellite scene by windows, as blocks for the networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS as RasterCRS

from domainsam.errors import InputError
from domainsam.grid import Grid
from domainsam.infer.blend import clip_window, slice_within
from domainsam.infer.tiling import TileGrid
from domainsam.io.rasters import (
    RASTER_ERRORS,
    Handles,
    overview_size,
    reason,
    silence_rasterio,
    to_centre_affine,
)
from domainsam.io.resample import AxisWeights, compute_axis_weights, resample
from domainsam.protocols import Block, Window
from domainsam.versions import content_digest, file_facts
from domainsam_urban.read.area import PixelArea, SceneProfile, WantedArea, compute_work_shape
from domainsam_urban.read.bands import (
    Radiometry,
    choose_bands,
    choose_rule,
    describe_choice,
    find_valid_pixels,
    is_always_valid,
    make_full_range,
    stretch,
)
from domainsam_urban.read.fill import Fill, find_fill
from domainsam_urban.read.place import Place, measure_ground_pixel

CHUNK_PIXELS = 1 << 22
"""Source pixels held at a time while resampling."""


class RasterSource:
    """A raster that GDAL can read, as three bands of float32 in 0..1.

    Parameters
    ----------
    path
        File, ``/vsi`` path or VRT.
    bands
        Band numbers, from 1: three, or one to be repeated. By default red,
        green and blue as the file names them, else the first three.
    nodata
        Value that means no data, in place of the one the file declares.
    resolution
        Wanted ground pixel in metres. A scene that differs by more than
        :data:`~domainsam_urban.read.area.RESAMPLE_FACTOR` is read through a resampled work grid of the
        same extent: area means when coarser, linear interpolation when finer.
    normalize
        ``"auto"`` (8-bit as it is, everything else stretched), ``"scene"``
        (stretched between the scene's percentiles) or ``"dtype"`` (the data
        type's range).
    stats
        Radiometry of a reference scene, in place of ``normalize``.
    allow_no_crs
        Accept a scene without CRS or geotransform; its frame is ``"pixel"``.
    area
        The part that is wanted. The work grid then covers only the window
        that holds it, and pixels outside it have no data. Percentiles are
        still those of the whole scene, so that a part gives what the whole does.
    north_up
        Turn round rows that run from south to north, and columns from east to west.

    Raises
    ------
    MissingInputError
        If the path does not exist or cannot be opened.
    InputError
        If it is no raster, damaged, without place on the Earth, wholly
        nodata, or the bands asked for are not there.
    """

    def __init__(
        self,
        path: str | Path,
        bands: Sequence[int] | None = None,
        nodata: float | None = None,
        resolution: float | None = None,
        normalize: str = "auto",
        stats: Radiometry | Mapping[str, Any] | None = None,
        allow_no_crs: bool = False,
        area: WantedArea | None = None,
        north_up: bool = True,
    ) -> None:
        self.path = str(path)
        self._north_up = north_up
        self._handles = Handles(path)
        self._area: PixelArea | None = None
        self._turned = (False, False)
        try:
            self._prepare(bands, nodata, resolution, normalize, stats, allow_no_crs, area)
        except BaseException:
            self._handles.close()
            raise

    def _prepare(
        self,
        bands: Sequence[int] | None,
        nodata: float | None,
        resolution: float | None,
        normalize: str,
        stats: Radiometry | Mapping[str, Any] | None,
        allow_no_crs: bool,
        area: WantedArea | None,
    ) -> None:
        with self._handles.reading("its header") as dataset:
            self.bands = choose_bands(self.path, dataset, bands)
            self._nodata = nodata
            self._native = (int(dataset.height), int(dataset.width))
            self._fill: Fill | None = None
            self._named = describe_choice(dataset, self.bands) if bands is None else None
            self.crs, self._beside = self._find_crs(dataset)
            native_transform = dataset.transform
            self._check_place(dataset, allow_no_crs)
            self.radiometry = self._choose_radiometry(dataset, normalize, stats, whole=area is None)
            if area is not None:
                native_transform = self._cut(area, native_transform)
            self.scene_transform: Affine = native_transform
            native_transform = self._face_north(native_transform)
            self._ground = self._measure(native_transform)
            self._shape = compute_work_shape(self._native, self._ground, resolution)
            scale = self._native[1] / self._shape[1], self._native[0] / self._shape[0]
            self._resampled = self._shape != self._native
            self.transform: Affine = native_transform @ Affine.scale(*scale)
            self.profile_info = self._profile(dataset)
            self._files = [Path(name) for name in dataset.files]
        frame = self.crs.to_wkt() if self.crs is not None else "pixel"
        self._grid = Grid(self._shape, to_centre_affine(self.transform), frame)

    def _cut(self, area: WantedArea, transform: Affine) -> Affine:
        """From now on see only what is wanted; returns the place of the window that holds it."""
        crs = None if transform.is_identity else self.crs
        self._area = area.on(self.path, Place(self._native, transform, crs))
        window = self._area.window
        self._native = (window.height, window.width)
        return transform @ Affine.translation(window.col, window.row)

    def _face_north(self, transform: Affine) -> Affine:
        """From now on count rows from the north and columns from the west; returns the place of that view.

        Networks have learnt ground with north at the top. Rows that run from south to north, and columns
        that run from east to west, are turned round as they are read.
        """
        rows, cols = self._native
        # Of a grid turned by more than an eighth of a circle neither is nearer to north than the other.
        upright = self._north_up and self.crs is not None and not transform.is_identity
        upright &= abs(transform.a) > abs(transform.b) and abs(transform.e) > abs(transform.d)
        self._turned = upright and transform.e > 0, upright and transform.a < 0
        if self._turned[0]:
            transform = transform @ Affine.translation(0, rows) @ Affine.scale(1, -1)
        if self._turned[1]:
            transform = transform @ Affine.translation(cols, 0) @ Affine.scale(-1, 1)
        return transform

    @property
    def scene_shape(self) -> tuple[int, int]:
        """Rows and columns of the scene's own grid, as far as it is wanted."""
        return self._native

    @property
    def turned(self) -> tuple[bool, bool]:
        """Whether the work grid's rows, and its columns, run against the scene's own."""
        return self._turned

    @property
    def on_own_grid(self) -> bool:
        """Whether the work grid is the scene's own, pixel for pixel."""
        return not self._resampled and not any(self._turned)

    def find_seen(self, rows: tuple[int, int]) -> NDArray[np.bool_]:
        """Which pixels ``(h, w)`` of some rows of the scene's own grid hold data.

        Raises
        ------
        InputError
            If the file turns out to be damaged there.
        """
        height, width = self._native
        view = (height - rows[1], height - rows[0]) if self._turned[0] else rows
        with self._handles.reading(f"rows {rows[0]} to {rows[1]}") as dataset:
            _, valid = self._read_raw(dataset, view, (0, width))
        return self._as_filed(valid)

    def _as_filed(self, values: NDArray[Any]) -> NDArray[Any]:
        """Pixels ``(..., h, w)`` of the north-up view in the file's order, or the other way round."""
        if self._turned[0]:
            values = values[..., ::-1, :]
        return values[..., ::-1] if self._turned[1] else values

    @property
    def window(self) -> Window | None:
        """The native pixels that the work grid covers; None for all."""
        return None if self._area is None else self._area.window

    @property
    def notes(self) -> tuple[str, ...]:
        """What was concluded in reading the scene and stands nowhere in it, a line each."""
        fill = None if self._fill is None else self._fill.note
        return tuple(f"{self.path}: {note}" for note in (self._beside, self._named, fill) if note)

    def _find_crs(self, dataset: Any) -> tuple[Any, str | None]:
        """The scene's CRS, if need be from a ``.prj`` beside a world file, and a note that it is."""
        beside = Path(self.path).with_suffix(".prj")
        if dataset.crs is not None or dataset.transform.is_identity or not beside.is_file():
            return dataset.crs, None
        try:
            with silence_rasterio():
                crs = RasterCRS.from_wkt(beside.read_text(errors="replace"), morph_from_esri_dialect=True)
        except (*RASTER_ERRORS, ValueError) as error:
            raise InputError(
                f"{self.path}: has no CRS, and {beside.name} beside it holds none that can be read "
                f"({reason(error)}); give the scene one (gdal_translate -a_srs EPSG:...)"
            ) from error
        return crs, f"its CRS is that of {beside.name} beside it"

    def _check_place(self, dataset: Any, allow_no_crs: bool) -> None:
        if allow_no_crs:
            return
        if self.crs is None:
            hint = "give it one (gdal_edit.py -a_srs EPSG:...), or allow pixel units with --allow-no-crs"
            if dataset.gcps[0]:
                hint = "it has ground control points only: run gdalwarp on it first"
            elif dataset.rpcs is not None:
                hint = "it has rational polynomials (RPCs) only: run gdalwarp -rpc on it first"
            raise InputError(f"{self.path}: has no coordinate reference system (CRS); {hint}")
        if dataset.transform.is_identity:
            raise InputError(
                f"{self.path}: has a CRS but no geotransform, so its pixels have no place; "
                "georeference it, or allow pixel units with --allow-no-crs"
            )

    def _measure(self, transform: Affine) -> tuple[float, float] | None:
        if self.crs is None or transform.is_identity:
            self.crs = None
            return None
        try:
            return measure_ground_pixel(self.crs, transform, self._native)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error

    def _choose_radiometry(
        self, dataset: Any, normalize: str, stats: Radiometry | Mapping[str, Any] | None, whole: bool
    ) -> Radiometry:
        dtype, count = np.dtype(dataset.dtypes[self.bands[0] - 1]), len(self.bands)
        rule = choose_rule(dtype, normalize)
        chosen = Radiometry.from_dict(stats) if isinstance(stats, Mapping) else stats
        if chosen is not None and len(chosen.low) != count:
            raise InputError(
                f"{self.path}: the reference radiometry is for {len(chosen.low)} bands, not {count}"
            )
        if chosen is None and rule == "dtype":
            chosen = make_full_range(dtype, count)
        # Of a part nothing is read that it does not need, not even to see whether there is any data.
        if chosen is not None and not whole:
            return chosen
        try:
            samples, valid = self._overview(dataset)
        except RASTER_ERRORS:
            if chosen is None or self._nodata is not None or not is_always_valid(dataset, self.bands):
                raise
            # Wherever the file is damaged, reading that part will say so.
            return chosen
        if self._nodata is None:
            self._fill = find_fill(samples, valid)
            if self._fill is not None:
                valid &= ~(samples == self._fill.value).all(axis=0)
        if not valid.any():
            samples, valid = self._any_valid_part(dataset)
        return chosen or stretch([band[valid] for band in samples])

    def _overview(self, dataset: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Raw values ``(C, h, w)`` of the whole scene, decimated, and their validity."""
        rows, cols = self._native
        return self._read_raw(dataset, (0, rows), (0, cols), overview_size(self._native))

    def _any_valid_part(self, dataset: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """The first rows of the scene that hold any data, in full resolution."""
        rows, cols = self._native
        step = max(1, CHUNK_PIXELS // cols)
        for row in range(0, rows, step):
            samples, valid = self._read_raw(dataset, (row, min(row + step, rows)), (0, cols))
            if valid.any():
                return samples, valid
        declared = self._nodata if self._nodata is not None else dataset.nodata
        reason = f"nodata ({declared:g})" if declared is not None else "nodata"
        raise InputError(
            f"{self.path}: holds no data, all {rows} x {cols} pixels are {reason}; check the file or --nodata"
        )

    def _read_raw(
        self,
        dataset: Any,
        rows: tuple[int, int],
        cols: tuple[int, int],
        size: tuple[int, int] | None = None,
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Raw values ``(C, h, w)`` of native pixels and their validity ``(h, w)``."""
        if self._turned[0]:
            rows = self._native[0] - rows[1], self._native[0] - rows[0]
        if self._turned[1]:
            cols = self._native[1] - cols[1], self._native[1] - cols[0]
        if self._area is not None:
            corner = self._area.window
            rows = rows[0] + corner.row, rows[1] + corner.row
            cols = cols[0] + corner.col, cols[1] + corner.col
        wanted = sorted(set(self.bands))
        shape = None if size is None else (len(wanted), *size)
        values = dataset.read(wanted, window=(rows, cols), out_shape=shape)
        valid = find_valid_pixels(dataset, wanted, values, (rows, cols), self._nodata)
        if self._fill is not None:
            valid &= ~(values == self._fill.value).all(axis=0)
        if self._area is not None:
            valid &= self._area.inside(rows, cols)
        return self._as_filed(values[[wanted.index(band) for band in self.bands]]), self._as_filed(valid)

    def _profile(self, dataset: Any) -> SceneProfile:
        work_pixel = None
        if self._ground is not None:
            ratio = self._native[0] / self._shape[0], self._native[1] / self._shape[1]
            work_pixel = (self._ground[0] * ratio[0], self._ground[1] * ratio[1])
        declared = self._nodata if self._nodata is not None else dataset.nodata
        if self._fill is not None and declared is None:
            declared = self._fill.value
        return SceneProfile(
            path=self.path,
            driver=dataset.driver,
            shape=self._native,
            band_count=dataset.count,
            dtype=dataset.dtypes[self.bands[0] - 1],
            bands=self.bands,
            nodata=None if declared is None else float(declared),
            crs=None if self.crs is None else self.crs.to_string(),
            ground_pixel=self._ground,
            work_shape=self._shape,
            work_pixel=work_pixel,
            resampled=self._resampled,
            radiometry=self.radiometry,
            tags=dict(dataset.tags()),
        )

    @property
    def grid(self) -> Grid:
        """The work grid; its frame is the CRS as WKT, or ``"pixel"``."""
        return self._grid

    def read(self, window: Window) -> Block:
        """One block of the work grid; parts outside the scene are invalid. Any thread may call this.

        Raises
        ------
        InputError
            If the file turns out to be damaged there.
        """
        what = (
            f"rows {window.row} to {window.row + window.height}, "
            f"columns {window.col} to {window.col + window.width}"
        )
        with self._handles.reading(what) as dataset:
            if self._resampled:
                return self._read_resampled(dataset, window)
            return self._read_native(dataset, window)

    def _read_native(self, dataset: Any, window: Window) -> Block:
        image = np.zeros((len(self.bands), window.height, window.width), dtype=np.float32)
        valid = np.zeros((window.height, window.width), dtype=bool)
        part = clip_window(window, (0, self._native[0]), (0, self._native[1]))
        if part.height and part.width:
            rows, cols = (part.row, part.row + part.height), (part.col, part.col + part.width)
            inside = slice_within(part, (window.row, window.col))
            image[:, *inside], valid[inside] = self._scaled(dataset, rows, cols)
        return Block(window, image, valid)

    def _scaled(
        self, dataset: Any, rows: tuple[int, int], cols: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        values, valid = self._read_raw(dataset, rows, cols)
        image = self.radiometry.apply(values)
        image *= valid
        return image, valid

    def _read_resampled(self, dataset: Any, window: Window) -> Block:
        """Resample a few output rows at a time, so that a strong reduction does not fill the memory."""
        scale = self._native[0] / self._shape[0], self._native[1] / self._shape[1]
        across = compute_axis_weights(window.col, window.width, scale[1], self._native[1])
        image = np.zeros((len(self.bands), window.height, window.width), dtype=np.float32)
        valid = np.zeros((window.height, window.width), dtype=bool)
        step = max(1, int(CHUNK_PIXELS / max(1, across.end - across.first) / max(scale[0], 1.0)))
        for start in range(0, window.height, step):
            count = min(step, window.height - start)
            down = compute_axis_weights(window.row + start, count, scale[0], self._native[0])
            if down.end == down.first or across.end == across.first:
                continue
            part = slice(start, start + count)
            image[:, part], valid[part] = self._resampled_part(dataset, down, across)
        return Block(window, image, valid)

    def _resampled_part(
        self, dataset: Any, down: AxisWeights, across: AxisWeights
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        source, seen = self._scaled(dataset, (down.first, down.end), (across.first, across.end))
        return resample(source, seen, down.matrix, across.matrix)

    def blocks(self, size: int, overlap: int) -> Iterator[Block]:
        """Blocks of side ``size`` that cover the scene, row by row, neighbours sharing ``overlap`` pixels."""
        for window in TileGrid.cover(self._shape, size, overlap).windows():
            yield self.read(window)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What tells this scene, read in this way, from any other: for a journal."""
        files = [path for path in self._files if path.is_file()]
        return {
            "source": [file_facts(path) for path in files],
            "source_content": content_digest(files),
            "source_reading": {
                "bands": list(self.bands),
                "nodata": self._nodata if self._fill is None else self._fill.value,
                "area": None if self._area is None else self._area.digest,
                "shape": list(self._shape),
                "transform": list(self.transform[:6]),
                "crs": self._grid.frame,
                "radiometry": self.radiometry.to_dict(),
            },
        }

    def close(self) -> None:
        """Close the files of all threads."""
        self._handles.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
