"""A satellite scene, opened: what it is, and its blocks for the networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from domainsam.grid import Grid
from domainsam.infer.tiling import TileGrid
from domainsam.io.rasters import Handles, to_centre_affine
from domainsam.protocols import Block, Window
from domainsam.versions import content_digest, file_facts
from domainsam_urban.read.area import WantedArea
from domainsam_urban.read.bands import Radiometry, choose_bands, describe_choice
from domainsam_urban.read.georeference import find_crs, require_place
from domainsam_urban.read.layout import lay_scene
from domainsam_urban.read.overview import Overview, look_over
from domainsam_urban.read.pixels import RawPixels
from domainsam_urban.read.place import Place
from domainsam_urban.read.profile import make_profile
from domainsam_urban.read.turn import Turn
from domainsam_urban.read.windows import WindowReader
from domainsam_urban.read.workgrid import WorkGrid


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
        :data:`~domainsam_urban.read.layout.RESAMPLE_FACTOR` is read through a resampled work grid of the
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
    surround
        Pixels on each side of the scene that such a grid reaches beyond it, for networks that sweep it
        (:data:`~domainsam_urban.read.workgrid.SURROUND`). They have no data, or are seen only.
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
        surround: int = 0,
        known: Overview | None = None,
    ) -> None:
        self.path = str(path)
        self._handles = Handles(path)
        try:
            with self._handles.reading("its header") as dataset:
                self.bands = choose_bands(self.path, dataset, bands)
                crs, beside = find_crs(self.path, dataset)
                if not allow_no_crs:
                    require_place(self.path, dataset, crs)
                pixels = RawPixels(self.bands, nodata)
                if known is None:
                    known = look_over(self.path, dataset, pixels, normalize, stats, whole=area is None)
                self._overview, self._pixels = known, replace(pixels, fill=known.fill)
                # Without a geotransform a CRS gives no place; nor to a part, whose window moves the frame.
                filed = Place.of(dataset)
                filed = replace(filed, crs=None if filed.affine.is_identity else crs)
                self._layout = lay_scene(
                    self.path, filed, area, resolution, north_up, on_ground and north_up, surround
                )
                self.profile_info = make_profile(
                    self.path, dataset, self._layout, self._pixels, known.radiometry
                )
                self._files = [Path(name) for name in dataset.files]
                self._notes = beside, describe_choice(dataset, self.bands) if bands is None else None
        except BaseException:
            self._handles.close()
            raise
        self._reader = WindowReader(self._layout, self._pixels, self.radiometry)
        frame = "pixel" if self.work_crs is None else self.work_crs.to_wkt()
        self._grid = Grid(self.work.shape, to_centre_affine(self.transform), frame)

    @property
    def grid(self) -> Grid:
        """The work grid; its frame is the CRS as WKT, or ``"pixel"``."""
        return self._grid

    @property
    def work(self) -> WorkGrid:
        """The grid that networks look at."""
        return self._layout.work

    @property
    def transform(self) -> Affine:
        """Affine of pixel corners of the work grid."""
        return self.work.transform

    @property
    def work_crs(self) -> Any:
        """CRS of the work grid, None without one; it need not be the scene's."""
        return self.work.crs

    @property
    def on_ground(self) -> bool:
        """Whether the work grid lies on the ground's lattice instead of on the file."""
        return self._layout.on_ground

    @property
    def on_own_grid(self) -> bool:
        """Whether the work grid is the scene's own, pixel for pixel."""
        return self._layout.on_own_grid

    @property
    def crs(self) -> Any:
        """The scene's CRS; None where it has none, or no geotransform."""
        return self._layout.wanted.crs

    @property
    def scene_shape(self) -> tuple[int, int]:
        """Rows and columns of the scene's own grid, as far as it is wanted."""
        return self._layout.wanted.shape

    @property
    def scene_transform(self) -> Affine:
        """Affine of pixel corners of the scene's own grid, as far as it is wanted."""
        return self._layout.wanted.affine

    @property
    def window(self) -> Window | None:
        """The native pixels that the work grid covers; None for all."""
        return self._layout.window

    @property
    def turn(self) -> Turn:
        """How the view that the work grid lies on is found in the file."""
        return self._layout.turn

    @property
    def view(self) -> Place:
        """The scene as it is looked at: turned round to be as near to north-up as it can."""
        return self._layout.view

    @property
    def corner(self) -> tuple[int, int]:
        """Row and column of the view where what is wanted begins."""
        return self._layout.corner

    def find_shape_at(self, resolution: float | None) -> tuple[int, int]:
        """Rows and columns of a grid of the scene's extent with pixels of so many metres, or about so."""
        return self._layout.find_shape_at(resolution)

    @property
    def overview(self) -> Overview:
        """What the scene as a whole has told of its values."""
        return self._overview

    @property
    def radiometry(self) -> Radiometry:
        """How values become 0 to 1."""
        return self._overview.radiometry

    @property
    def notes(self) -> tuple[str, ...]:
        """What was concluded in reading the scene and stands nowhere in it, a line each."""
        fill = self._pixels.fill
        notes = *self._notes, None if fill is None else fill.note
        return tuple(f"{self.path}: {note}" for note in notes if note)

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
            return self._reader.read(dataset, window)

    def blocks(self, size: int, overlap: int) -> Iterator[Block]:
        """Blocks of side ``size`` that cover the scene, row by row, neighbours sharing ``overlap`` pixels."""
        for window in TileGrid.cover(self.work.shape, size, overlap).windows():
            yield self.read(window)

    def find_seen(self, rows: tuple[int, int]) -> NDArray[np.bool_]:
        """Which pixels ``(h, w)`` of some rows of the scene's own grid hold data.

        Raises
        ------
        InputError
            If the file turns out to be damaged there.
        """
        with self._handles.reading(f"rows {rows[0]} to {rows[1]}") as dataset:
            return self._reader.find_seen(dataset, rows)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What tells this scene, read in this way, from any other: for a journal."""
        files = [path for path in self._files if path.is_file()]
        area, pixels = self._layout.area, self._pixels
        return {
            "source": [file_facts(path) for path in files],
            "source_content": content_digest(files),
            "source_reading": {
                "bands": list(self.bands),
                "nodata": pixels.nodata if pixels.fill is None else pixels.fill.value,
                "area": None if area is None else area.digest,
                "shape": list(self.work.shape),
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
