"""Lay a scene's grids on each other: its file, what is wanted of it, the view, and what networks look at."""

from __future__ import annotations

from dataclasses import dataclass

from affine import Affine

from domainsam.errors import InputError
from domainsam.protocols import Window
from domainsam_urban.read.area import PixelArea, WantedArea
from domainsam_urban.read.place import Place, measure_ground_pixel
from domainsam_urban.read.turn import Turn
from domainsam_urban.read.warp import Warp
from domainsam_urban.read.workgrid import WorkGrid, lay_on_file, lay_on_ground

RESAMPLE_FACTOR = 1.25
"""A scene whose ground pixel is within this factor of the asked-for resolution is read as it is:
networks are trained with at least that much change of scale."""


@dataclass(frozen=True, eq=False)
class SceneLayout:
    """A scene's grids.

    A file is seen whole or in part; what is seen is turned to a view as near to north-up as quarter turns and
    mirrors go; and the work grid lies on the view, straight or warped.

    Parameters
    ----------
    wanted
        The scene's own grid, as far as an answer is wanted.
    seen
        The file's grid, as far as it is looked at: that, or all of the file.
    area
        What is wanted, in the file's pixels; None for all.
    turn, view
        How the view is found in what is seen, and its grid.
    ground
        Height and width of a pixel of the view in metres; None without a CRS.
    work
        The grid that networks look at.
    on_ground
        Whether it lies on the ground's lattice instead of on the file.
    warp
        How the view is read through it where their axes differ.
    """

    wanted: Place
    seen: Place
    area: PixelArea | None
    turn: Turn
    view: Place
    ground: tuple[float, float] | None
    work: WorkGrid
    on_ground: bool
    warp: Warp | None

    @property
    def window(self) -> Window | None:
        """The file's pixels that are wanted; None for all."""
        return None if self.area is None else self.area.window

    @property
    def first(self) -> tuple[int, int]:
        """Row and column of the file where what is wanted begins."""
        return (0, 0) if self.area is None else (self.area.window.row, self.area.window.col)

    @property
    def first_seen(self) -> tuple[int, int]:
        """Row and column of the file where what is seen begins."""
        return self.first if self.seen.shape == self.wanted.shape else (0, 0)

    @property
    def corner(self) -> tuple[int, int]:
        """Row and column of the view where what is wanted begins."""
        if self.seen.shape == self.wanted.shape:
            return 0, 0
        (row, col), (height, width) = self.first, self.wanted.shape
        rows, cols = self.turn.to_view((row, row + height), (col, col + width), self.seen.shape)
        return rows[0], cols[0]

    @property
    def on_own_grid(self) -> bool:
        """Whether the work grid is the scene's own, pixel for pixel."""
        straight = self.work.straight
        whole = straight is not None and straight.whole and straight.starts == (0.0, 0.0)
        return whole and not self.turn.any and self.work.shape == self.wanted.shape

    @property
    def work_pixel(self) -> tuple[float, float] | None:
        """Height and width of a pixel of the work grid in metres; None without a CRS."""
        if self.ground is None:
            return None
        straight = self.work.straight
        if straight is None:
            return measure_ground_pixel(self.work.crs, self.work.transform, self.work.shape)
        return self.ground[0] * straight.scale[0], self.ground[1] * straight.scale[1]

    def find_shape_at(self, resolution: float | None) -> tuple[int, int]:
        """Rows and columns of a grid of the scene's extent with pixels of so many metres, or about so."""
        view = self.turn.shape(self.wanted.shape)
        return self.turn.shape(compute_work_shape(view, self.ground, resolution))


def lay_scene(
    path: str,
    filed: Place,
    area: WantedArea | None,
    resolution: float | None,
    north_up: bool,
    on_ground: bool,
    surround: int = 0,
) -> SceneLayout:
    """Choose how a scene is turned, and the grid that it is looked at through.

    Parameters
    ----------
    path
        For messages.
    filed
        The file's grid; its CRS is None where the scene has no place on the Earth.
    area, resolution, north_up, on_ground, surround
        As of :class:`~domainsam_urban.read.scene.RasterSource`.

    Raises
    ------
    InputError
        If the area does not meet the scene, or the size of a pixel cannot be told from the CRS.
    """
    chosen = None if area is None else area.on(path, filed)
    wanted = filed if chosen is None else _cut(filed, chosen.window)
    # What lies around a part is seen too, but only on the ground's lattice: else a part is a scene itself.
    seen = filed if on_ground and filed.crs is not None else wanted
    turn = Turn.upright(seen.affine) if north_up and seen.crs is not None else Turn()
    view = _turn_place(turn, seen)
    ground = _measure(path, view)
    work = None
    if on_ground and ground is not None:
        work = lay_on_ground(view, wanted, ground, resolution, surround)
    laid = work is not None
    if work is None:
        seen, view = wanted, _turn_place(turn, wanted)
        work = lay_on_file(view, compute_work_shape(view.shape, ground, resolution))
    warp = None if work.straight is not None else work.warp_from(view)
    return SceneLayout(wanted, seen, chosen, turn, view, ground, work, laid, warp)


def compute_work_shape(
    native: tuple[int, int], ground: tuple[float, float] | None, resolution: float | None
) -> tuple[int, int]:
    """Rows and columns of the work grid: the native ones where the ground pixel is near ``resolution``."""
    if resolution is None or ground is None:
        return native
    ratios = [metres / resolution for metres in ground]
    if all(1 / RESAMPLE_FACTOR <= ratio <= RESAMPLE_FACTOR for ratio in ratios):
        return native
    return max(1, round(native[0] * ratios[0])), max(1, round(native[1] * ratios[1]))


def _cut(filed: Place, window: Window) -> Place:
    """The grid of a window of a file."""
    affine = filed.affine @ Affine.translation(window.col, window.row)
    return Place((window.height, window.width), affine, filed.crs)


def _turn_place(turn: Turn, place: Place) -> Place:
    """The grid of the view of a raster."""
    return Place(turn.shape(place.shape), turn.place(place.affine, place.shape), place.crs)


def _measure(path: str, view: Place) -> tuple[float, float] | None:
    if view.crs is None:
        return None
    try:
        return measure_ground_pixel(view.crs, view.affine, view.shape)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
