"""Cut pictures around the points of a sample."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from domainsam.errors import InputError
from domainsam.io.rasters import Handles
from domainsam.protocols import Window
from domainsam_urban.read.bands import choose_bands
from domainsam_urban.read.place import Place
from domainsam_urban.trend.ground import CommonGround
from domainsam_urban.write.sceneview import read_scene_picture

SIDE = 128
"""Pixels of a chip along each side."""
CONTEXT = 4
"""A context chip is so many times as wide as the detail that it surrounds."""
LEAST_MAP_PIXELS = 9
"""A detail is so many of the map's pixels wide, at least."""
COLOURS = 128
"""Of a chip: a palette of so many makes it a third of its size, with no loss to the eye."""


@dataclass(frozen=True)
class Framing:
    """How much ground the chips show: sides in metres of a detail, and of the map's pixel in its middle."""

    detail_m: float
    unit_m: float

    @property
    def context_m(self) -> float:
        """Side of a context chip in metres."""
        return self.detail_m * CONTEXT

    @classmethod
    def of(cls, ground: CommonGround, scene_pixel_m: float) -> Framing:
        """A detail of the finest scene's own pixels, never less than the map's pixel with ground round it."""
        return cls(max(SIDE * scene_pixel_m, LEAST_MAP_PIXELS * ground.pixel_m), ground.pixel_m)


@contextmanager
def open_chips(path: str, ground: CommonGround, framing: Framing) -> Iterator[ChipReader]:
    """A reader of chips of one scene.

    Raises
    ------
    MissingInputError, InputError
        If the scene cannot be read or has no CRS.
    """
    handles = Handles(path)
    try:
        with handles.reading("its header") as dataset:
            if dataset.crs is None:
                raise InputError(f"{path}: has no CRS, so points cannot be found in it; give it one")
            yield ChipReader(dataset, choose_bands(path, dataset, None), ground, framing)
    finally:
        handles.close()


def measure_scene_pixel(path: str) -> float:
    """Pixel of a scene in metres on the ground.

    Raises
    ------
    MissingInputError, InputError
        If the scene cannot be read.
    """
    handles = Handles(path)
    try:
        with handles.reading("its header") as dataset:
            return Place.of(dataset).pixel_metres()
    finally:
        handles.close()


@dataclass(frozen=True, eq=False)
class ChipReader:
    """Chips of an open raster, north up on the common ground."""

    dataset: Any
    bands: tuple[int, ...]
    ground: CommonGround
    framing: Framing

    def cut(self, row: int, col: int) -> tuple[bytes, bytes] | None:
        """Detail and context around a pixel of the ground as PNG files; None where the scene has no data."""
        context = self._read(row, col, self.framing.context_m)
        detail = self._read(row, col, self.framing.detail_m)
        return None if detail is None or context is None else (encode_chip(detail), encode_chip(context))

    def _read(self, row: int, col: int, side_m: float) -> NDArray[np.uint8] | None:
        x, y = self.ground.affine @ (col + 0.5, row + 0.5)
        step = side_m / SIDE
        corner = Affine.translation(x - side_m / 2, y + side_m / 2)
        extra = {"add_alpha": True} if self.dataset.nodata is None else {}
        with WarpedVRT(
            self.dataset,
            crs=self.ground.crs,
            transform=corner @ Affine.scale(step, -step),
            width=SIDE,
            height=SIDE,
            resampling=Resampling.bilinear if step < 2 * self.framing.unit_m else Resampling.average,
            **extra,
        ) as warped:
            if not (warped.dataset_mask() > 0).any():
                return None
            picture = read_scene_picture(warped, self.bands, (SIDE, SIDE), Window(0, 0, SIDE, SIDE))
        return np.asarray(np.rint(picture * 255), dtype=np.uint8)


def encode_chip(picture: NDArray[np.uint8]) -> bytes:
    """A picture ``(H, W, 3)`` as a PNG file with a palette."""
    file = io.BytesIO()
    # Octrees take a fiftieth of the time of median cuts: a form has thousands of chips.
    palette = Image.fromarray(picture).quantize(COLOURS, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette.save(file, "PNG")
    return file.getvalue()
