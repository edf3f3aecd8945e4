"""Read a satellite scene by windows, as blocks for the networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from domainsam.io.resample import LEAST_COVER, AxisWeights, compute_axis_weights, resample
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
from domainsam_urban.read.turn import Turn
from domainsam_urban.read.warp import Warp
from domainsam_urban.read.workgrid import Straight, WorkGrid, lay_on_file, lay_on_ground

CHUNK_PIXELS = 1 << 19
"""Source pixels held at a time while resampling."""


@dataclass(frozen=True)
class Overview:
    """What a look at a whole scene has told: how its values are scaled, and which stands for no data."""

    radiometry: Radiometry
    fill: Fill | None


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
        ``on_ground`` is stricter.
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
    on_ground
        Look at the scene through the grid of
        :func:`~domainsam_urban.read.workgrid.lay_on_ground`, so that the same
        ground falls on the same pixels whatever file shows it. Scenes without a
        place are read as ever.
    known
        :attr:`overview` of the same scene read alike, in another process perhaps: it is not looked at as a
        whole again, which of a huge file without overviews of its own means to read all of it.

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
        on_ground: bool = False,
        known: Overview | None = None,
    ) -> None:
        self.path = str(path)
        self._known = known
        self._north_up, self._on_ground = north_up, on_ground and north_up
        self._handles = Handles(path)
        self._area: PixelArea | None = None
        self._turn, self._corner = Turn(), (0, 0)
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
            self._filed = (int(dataset.height), int(dataset.width))
            self._fill: Fill | None = None
            self._named = describe_choice(dataset, self.bands) if bands is None else None
            self.crs, self._beside = self._find_crs(dataset)
            place = dataset.transform
            self._check_place(dataset, allow_no_crs)
            if place.is_identity:
                # Also of a part: its window moves the pixels' frame and gives them no place on the ground.
                self.crs = None
            self.radiometry = self._choose_radiometry(dataset, normalize, stats, whole=area is None)
            wanted = place if area is None else self._choose_area(area, place)
            self.scene_transform: Affine = wanted
            if not self._on_ground or self.crs is None:
                self._see_only()
                place = wanted
            self._lay(place, resolution)
            self.profile_info = self._profile(dataset)
            self._files = [Path(name) for name in dataset.files]
        frame = self.work_crs.to_wkt() if self.work_crs is not None else "pixel"
        self._grid = Grid(self._work.shape, to_centre_affine(self.transform), frame)

    def _choose_area(self, area: WantedArea, place: Affine) -> Affine:
        """Keep what is wanted; returns the place of the window that holds it."""
        self._area = area.on(self.path, Place(self._filed, place, self.crs))
        window = self._area.window
        return place @ Affine.translation(window.col, window.row)

    def _see_only(self) -> None:
        """From now on see only the window that is wanted, even as what lies around."""
        if self._area is not None:
            window = self._area.window
            self._filed, self._corner = self.scene_shape, (window.row, window.col)

    def _lay(self, place: Affine, resolution: float | None) -> None:
        """Choose how the scene is turned, and the grid that it is looked at through."""
        if self._north_up and self.crs is not None:
            self._turn = Turn.upright(place)
        self._view = self._find_view(place)
        self._ground = self._measure(self._view.affine)
        wanted = Place(self.scene_shape, self.scene_transform, self.crs)
        work = None
        if self._on_ground and self.crs is not None and self._ground is not None:
            work = lay_on_ground(self._view, wanted, self._ground, resolution)
        self._laid = work is not None
        if work is None:
            if self._on_ground:
                self._see_only()
                self._view = self._find_view(self.scene_transform)
            shape = compute_work_shape(self._view.shape, self._ground, resolution)
            work = lay_on_file(Place(self._view.shape, self._view.affine, self.crs), shape)
        self._work = work
        self._warp = None if work.straight is not None else work.warp_from(self._view)
        self.transform: Affine = work.transform
        self.work_crs = work.crs

    def _find_view(self, place: Affine) -> Place:
        return Place(self._turn.shape(self._filed), self._turn.place(place, self._filed), self.crs)

    @property
    def scene_shape(self) -> tuple[int, int]:
        """Rows and columns of the scene's own grid, as far as it is wanted."""
        if self._area is None:
            return self._filed
        return self._area.window.height, self._area.window.width

    @property
    def turn(self) -> Turn:
        """How the view that the work grid lies on is found in the file."""
        return self._turn

    @property
    def work(self) -> WorkGrid:
        """The grid that networks look at."""
        return self._work

    @property
    def on_ground(self) -> bool:
        """Whether the work grid lies on the ground's lattice instead of on the file."""
        return self._laid

    def find_shape_at(self, resolution: float | None) -> tuple[int, int]:
        """Rows and columns of a grid of the scene's extent with pixels of so many metres, or about so."""
        view = self._turn.shape(self.scene_shape)
        return self._turn.shape(compute_work_shape(view, self._ground, resolution))

    @property
    def on_own_grid(self) -> bool:
        """Whether the work grid is the scene's own, pixel for pixel."""
        straight = self._work.straight
        whole = straight is not None and straight.whole and straight.starts == (0.0, 0.0)
        return whole and not self._turn.any and self._work.shape == self.scene_shape

    @property
    def view(self) -> Place:
        """The scene as it is looked at: turned round to be as near to north-up as it can."""
        return self._view

    @property
    def corner(self) -> tuple[int, int]:
        """Row and column of the view where what is wanted begins."""
        if self._area is None or self._filed == self.scene_shape:
            return 0, 0
        window = self._area.window
        rows, cols = self._turn.to_view(
            (window.row, window.row + window.height), (window.col, window.col + window.width), self._filed
        )
        return rows[0], cols[0]

    def find_seen(self, rows: tuple[int, int]) -> NDArray[np.bool_]:
        """Which pixels ``(h, w)`` of some rows of the scene's own grid hold data.

        Raises
        ------
        InputError
            If the file turns out to be damaged there.
        """
        first = (0, 0) if self._area is None else (self._area.window.row, self._area.window.col)
        with self._handles.reading(f"rows {rows[0]} to {rows[1]}") as dataset:
            _, seen, wanted = self._read_file(
                dataset,
                (rows[0] + first[0], rows[1] + first[0]),
                (first[1], first[1] + self.scene_shape[1]),
            )
        return seen & wanted

    @property
    def window(self) -> Window | None:
        """The native pixels that the work grid covers; None for all."""
        return None if self._area is None else self._area.window

    @property
    def overview(self) -> Overview:
        """What the scene as a whole has told of its values."""
        return Overview(self.radiometry, self._fill)

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
        if self.crs is None:
            return None
        try:
            return measure_ground_pixel(self.crs, transform, self._view.shape)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error

    def _choose_radiometry(
        self, dataset: Any, normalize: str, stats: Radiometry | Mapping[str, Any] | None, whole: bool
    ) -> Radiometry:
        if self._known is not None:
            self._fill = self._known.fill
            return self._known.radiometry
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
            samples, valid = self._read_overview(dataset)
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

    def _read_overview(self, dataset: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Raw values ``(C, h, w)`` of the whole scene, decimated, and their validity."""
        rows, cols = self._filed
        values, seen, _ = self._read_file(dataset, (0, rows), (0, cols), overview_size(self._filed))
        return values, seen

    def _any_valid_part(self, dataset: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """The first rows of the scene that hold any data, in full resolution."""
        rows, cols = self._filed
        step = max(1, CHUNK_PIXELS // cols)
        for row in range(0, rows, step):
            samples, valid, _ = self._read_file(dataset, (row, min(row + step, rows)), (0, cols))
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
    ) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]:
        """Raw values ``(C, h, w)`` of the view's pixels, where they hold data, and where they are wanted."""
        rows, cols = self._turn.to_file(rows, cols, self._filed)
        row, col = self._corner
        parts = self._read_file(dataset, (rows[0] + row, rows[1] + row), (cols[0] + col, cols[1] + col), size)
        values, seen, wanted = map(self._turn.as_view, parts)
        return values, seen, wanted

    def _read_file(
        self,
        dataset: Any,
        rows: tuple[int, int],
        cols: tuple[int, int],
        size: tuple[int, int] | None = None,
    ) -> tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.bool_]]:
        """As :meth:`_read_raw`, of the file's rows and columns and in its order."""
        bands = sorted(set(self.bands))
        shape = None if size is None else (len(bands), *size)
        values = dataset.read(bands, window=(rows, cols), out_shape=shape)
        seen = find_valid_pixels(dataset, bands, values, (rows, cols), self._nodata)
        if self._fill is not None:
            seen &= ~(values == self._fill.value).all(axis=0)
        wanted = np.ones_like(seen) if self._area is None else self._area.inside(rows, cols)
        return values[[bands.index(band) for band in self.bands]], seen, wanted

    def _profile(self, dataset: Any) -> SceneProfile:
        work_pixel = None
        straight = self._work.straight
        if self._ground is not None and straight is not None:
            work_pixel = self._ground[0] * straight.scale[0], self._ground[1] * straight.scale[1]
        elif self._ground is not None:
            work_pixel = measure_ground_pixel(self.work_crs, self.transform, self._work.shape)
        declared = self._nodata if self._nodata is not None else dataset.nodata
        if self._fill is not None and declared is None:
            declared = self._fill.value
        return SceneProfile(
            path=self.path,
            driver=dataset.driver,
            shape=self.scene_shape,
            band_count=dataset.count,
            dtype=dataset.dtypes[self.bands[0] - 1],
            bands=self.bands,
            nodata=None if declared is None else float(declared),
            crs=None if self.crs is None else self.crs.to_string(),
            ground_pixel=self._ground,
            work_shape=self._work.shape,
            work_pixel=work_pixel,
            resampled=straight is None or straight.scale != (1.0, 1.0),
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
            if self._warp is not None:
                return self._read_warped(dataset, window, self._warp)
            straight = self._work.straight
            assert straight is not None
            if straight.whole:
                return self._read_native(dataset, window, straight)
            return self._read_resampled(dataset, window, straight)

    def _read_native(self, dataset: Any, window: Window, straight: Straight) -> Block:
        image = np.zeros((len(self.bands), window.height, window.width), dtype=np.float32)
        valid = np.zeros((window.height, window.width), dtype=bool)
        seen = np.zeros_like(valid)
        down, across = (int(start) for start in straight.starts)
        view = Window(window.row + down, window.col + across, window.height, window.width)
        part = clip_window(view, (0, self._view.shape[0]), (0, self._view.shape[1]))
        if part.height and part.width:
            rows, cols = (part.row, part.row + part.height), (part.col, part.col + part.width)
            inside = slice_within(part, (view.row, view.col))
            image[:, *inside], seen[inside], wanted = self._scaled(dataset, rows, cols)
            valid[inside] = seen[inside] & wanted
        return Block(window, image, valid, seen=seen)

    def _scaled(
        self, dataset: Any, rows: tuple[int, int], cols: tuple[int, int]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
        """The picture ``(C, h, w)`` of the view's pixels, where it shows data, and where it is wanted."""
        values, seen, wanted = self._read_raw(dataset, rows, cols)
        image = self.radiometry.apply(values)
        image *= seen
        return image, seen, wanted

    def _read_resampled(self, dataset: Any, window: Window, straight: Straight) -> Block:
        """Resample a few output rows at a time, so that a strong reduction does not fill the memory."""
        scale, offset, length = straight.scale, straight.offset, self._view.shape
        row, col = straight.first[0] + window.row, straight.first[1] + window.col
        across = compute_axis_weights(col, window.width, scale[1], length[1], offset[1])
        image = np.zeros((len(self.bands), window.height, window.width), dtype=np.float32)
        valid = np.zeros((window.height, window.width), dtype=bool)
        seen = np.zeros_like(valid)
        step = max(1, int(CHUNK_PIXELS / max(1, across.end - across.first) / max(scale[0], 1.0)))
        for start in range(0, window.height, step):
            count = min(step, window.height - start)
            down = compute_axis_weights(row + start, count, scale[0], length[0], offset[0])
            if down.end == down.first or across.end == across.first:
                continue
            part = slice(start, start + count)
            image[:, part], valid[part], seen[part] = self._resampled_part(dataset, down, across)
        return Block(window, image, valid, seen=seen)

    def _resampled_part(
        self, dataset: Any, down: AxisWeights, across: AxisWeights
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
        source, seen, wanted = self._scaled(dataset, (down.first, down.end), (across.first, across.end))
        image, shown = resample(source, seen, down.matrix, across.matrix)
        if self._area is None:
            return image, shown, shown
        _, asked = resample(source[:1], seen & wanted, down.matrix, across.matrix)
        return image, asked & shown, shown

    def _read_warped(self, dataset: Any, window: Window, warp: Warp) -> Block:
        count = len(self.bands)

        def read(rows: tuple[int, int], cols: tuple[int, int]) -> NDArray[np.float32]:
            image, seen, wanted = self._scaled(dataset, rows, cols)
            return np.concatenate([image, seen[None], (seen & wanted)[None]]).astype(np.float32)

        planes = warp.sample(window, read, count + 2)
        cover = planes[count]
        # A hair of tolerance, for weights are rounded to float32.
        seen, wanted = cover >= LEAST_COVER - 1e-6, planes[count + 1] >= LEAST_COVER - 1e-6
        image = np.divide(planes[:count], cover, out=np.zeros_like(planes[:count]), where=seen)
        return Block(window, np.clip(image, 0, 1), wanted & seen, seen=seen)

    def blocks(self, size: int, overlap: int) -> Iterator[Block]:
        """Blocks of side ``size`` that cover the scene, row by row, neighbours sharing ``overlap`` pixels."""
        for window in TileGrid.cover(self._work.shape, size, overlap).windows():
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
                "shape": list(self._work.shape),
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
