"""Write Cloud-Optimised GeoTIFFs from staged bytes by streaming.

The staged file is described to GDAL by a small virtual raster, so that GDAL
reads it in place: no second copy on disk, no scene in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.shutil import copy as gdal_copy

from domainsam.errors import OutputError
from domainsam.infer.blend import LEVELS, NODATA, find_threshold_level
from domainsam.infer.store import RawRaster
from domainsam.io.rasters import RASTER_ERRORS, open_quietly, reason
from domainsam.protocols import Window
from domainsam.staging import make_scratch, move_into_place, open_scratch

Kind = Literal["probability", "mask", "classes", "shares"]
Colours = Mapping[int, tuple[int, int, int, int]]
"""Red, green, blue and opacity, 0 to 255, by value."""

BLOCK = 512
PALETTE = {0: (0, 0, 0, 0), 1: (214, 47, 39, 255)}
"""Colours of a mask: background transparent, settlement red."""
COPY_OPTIONS = {"driver": "COG", "blocksize": BLOCK, "compress": "DEFLATE", "bigtiff": "IF_SAFER"}
KIND_OPTIONS = {
    "probability": {"overview_resampling": "AVERAGE", "predictor": "STANDARD"},
    "mask": {"overview_resampling": "MODE", "predictor": "NO"},
    "classes": {"overview_resampling": "MODE", "predictor": "NO"},
    "shares": {"overview_resampling": "AVERAGE", "predictor": "NO"},
}
"""Differences between neighbours make smooth probabilities 10 to 20 % smaller, masks a fifth larger."""
GDAL_OPTIONS = {
    "GDAL_CACHEMAX": 128 * 2**20,
    "GDAL_NUM_THREADS": "ALL_CPUS",
    "GDAL_VRT_RAWRASTERBAND_ALLOWED_SOURCE": "ALL",
}
"""The last lets a virtual raster point at raw bytes in another folder; we have written it ourselves."""


@dataclass(frozen=True)
class CogLayout:
    """What a file says about itself beside its pixels; 255 is no data in every kind.

    Parameters
    ----------
    kind
        ``"probability"``: stored values 0..254 for 0..1, averaged overviews.
        ``"mask"``: 1 inside, 0 outside, overviews by majority, colour table.
        ``"classes"``: numbers of classes, overviews by majority.
        ``"shares"``: bytes whose meaning the tags tell, averaged overviews.
    transform, crs
        Affine of pixel corners, and the CRS or None.
    threshold
        Probability from which a pixel of the mask is 1.
    bands
        Names of the bands, in order; by default one that is called after the kind.
    colours
        Colour table of classes.
    tags
        Metadata of the file: model, version, command, source.
    """

    kind: Kind
    transform: Affine
    crs: Any = None
    threshold: float = 0.5
    bands: tuple[str, ...] = ()
    colours: Colours | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the bands."""
        own = {"probability": "probability", "mask": "settlement", "classes": "class", "shares": "share"}
        return self.bands or (own[self.kind],)


def write_cog(staged: RawRaster | Sequence[RawRaster], path: Path, layout: CogLayout) -> None:
    """Turn staged bytes, one raster a band, into a Cloud-Optimised GeoTIFF.

    The file appears under its name only when it is complete and on the disk;
    an existing one is replaced then.

    Parameters
    ----------
    staged
        Bytes as they are written, 255 without data; for a probability or a
        mask stored probabilities, ``round(254 p)``.
    path
        The file to make.

    Raises
    ------
    OutputError
        If it cannot be written; nothing is left behind then.
    """
    bands = (staged,) if isinstance(staged, RawRaster) else tuple(staged)
    with open_scratch(path) as room:
        _convert(bands, path, layout, room)


def _convert(staged: Sequence[RawRaster], path: Path, layout: CogLayout, room: Path) -> None:
    virtual, made = room / "staged.vrt", room / "made.tif"
    try:
        virtual.write_text(_raw_vrt(staged, layout), encoding="utf-8")
        if layout.kind == "mask":
            virtual = room / "mask.vrt"
            virtual.write_text(_mask_vrt(staged[0].shape, layout), encoding="utf-8")
        with rasterio.Env(**GDAL_OPTIONS):
            gdal_copy(virtual, made, **COPY_OPTIONS, **KIND_OPTIONS[layout.kind])
            _check_complete(made, staged, layout)
        move_into_place(made, path)
    except (*RASTER_ERRORS, OSError) as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"cannot write {path}: {reason(error)}; check free space and permissions"
        ) from error


class CogWriter:
    """A Cloud-Optimised GeoTIFF that is written window by window.

    A :class:`domainsam.protocols.Writer`: bytes are staged beside the target
    and converted on leaving; after an exception nothing is left behind.

    Parameters
    ----------
    path
        The file to make.
    shape
        Rows and columns.
    layout
        What it says about itself. Values written are bytes as in
        :func:`write_cog`; a mask is cut at the layout's threshold.
    """

    def __init__(self, path: Path | str, shape: tuple[int, int], layout: CogLayout) -> None:
        self.path = Path(path)
        self.shape = shape
        self.layout = layout
        self._staged: list[RawRaster] = []

    def __enter__(self) -> Self:
        self._claim = make_scratch(self.path)
        room = self._claim.path
        try:
            for number in range(len(self.layout.names)):
                self._staged.append(RawRaster.create(room / f"staged{number}.u8", self.shape))
            self._fill()
        except BaseException:
            self._clear()
            raise
        return self

    def _fill(self) -> None:
        """Nothing written means no data."""
        for window in _strips(self.shape):
            self.write(window, np.full((window.height, window.width), NODATA, dtype=np.uint8))

    def write(self, index: Window, values: NDArray[np.uint8]) -> None:
        """Write bytes ``(h, w)``, the same in all bands, or ``(bands, h, w)``; the window is inside."""
        for number, band in enumerate(self._staged):
            band.write(index, values if values.ndim == 2 else values[number])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                _convert(self._staged, self.path, self.layout, self._claim.path)
        finally:
            self._clear()

    def _clear(self) -> None:
        for band in self._staged:
            band.close()
        self._claim.remove()


def _strips(shape: tuple[int, int]) -> Iterator[Window]:
    """Windows of whole rows, from the top."""
    for row in range(0, shape[0], BLOCK):
        yield Window(row, 0, min(BLOCK, shape[0] - row), shape[1])


def _check_complete(made: Path, staged: Sequence[RawRaster], layout: CogLayout) -> None:
    """Compare what was made with what was staged: a full disk can go unnoticed until the file is read."""
    level = find_threshold_level(layout.threshold)
    with open_quietly(made) as dataset:
        for window in _strips(staged[0].shape):
            rows = (window.row, window.row + window.height)
            for number, band in enumerate(staged, start=1):
                expected = band.read(window)
                if layout.kind == "mask":
                    inside = np.where(expected == NODATA, np.uint8(NODATA), np.uint8(0))
                    inside[(expected >= level) & (expected != NODATA)] = 1
                    expected = inside
                found = dataset.read(number, window=(rows, (0, window.width)))
                if not np.array_equal(found, expected):
                    raise OSError(f"rows {rows[0]} to {rows[1]} did not reach the disk intact")


def _head(shape: tuple[int, int], layout: CogLayout) -> str:
    rows, cols = shape
    transform = ",".join(repr(float(value)) for value in layout.transform.to_gdal())
    place = f"<SRS>{escape(layout.crs.to_wkt())}</SRS>" if layout.crs is not None else ""
    if layout.crs is not None or not layout.transform.is_identity:
        place += f"<GeoTransform>{transform}</GeoTransform>"
    tags = {**_meaning(layout), **layout.tags}
    entries = "".join(f"<MDI key={quoteattr(key)}>{escape(value)}</MDI>" for key, value in tags.items())
    return f'<VRTDataset rasterXSize="{cols}" rasterYSize="{rows}">{place}<Metadata>{entries}</Metadata>'


def _meaning(layout: CogLayout) -> dict[str, str]:
    if layout.kind == "mask":
        return {"VALUES": f"1 settlement (probability >= {layout.threshold:g}), 0 other, {NODATA} no data"}
    if layout.kind == "probability":
        return {"VALUES": f"probability = value / {LEVELS}, {NODATA} no data"}
    return {}


def _raw_vrt(staged: Sequence[RawRaster], layout: CogLayout) -> str:
    names = ("staged",) if layout.kind == "mask" else layout.names
    scale = f"<Offset>0</Offset><Scale>{1 / LEVELS!r}</Scale>" if layout.kind == "probability" else ""
    colours = "" if layout.colours is None else _colour_table(layout.colours)
    meanings = _colour_meanings(len(staged)) if layout.kind == "shares" else ("",) * len(staged)
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{number}" subClass="VRTRawRasterBand">'
        f"<Description>{escape(name)}</Description><NoDataValue>{NODATA}</NoDataValue>{scale}{meaning}{colours}"
        f'<SourceFilename relativeToVRT="0">{escape(str(band.path.resolve()))}</SourceFilename>'
        f"<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>{band.shape[1]}</LineOffset>"
        "</VRTRasterBand>"
        for number, (band, name, meaning) in enumerate(zip(staged, names, meanings, strict=True), start=1)
    )
    return f"{_head(staged[0].shape, layout)}{bands}</VRTDataset>"


def _colour_meanings(bands: int) -> tuple[str, ...]:
    """What GDAL takes three or four bands of bytes for in a GeoTIFF, unless it is told something."""
    kinds = ("Red", "Green", "Blue", "Alpha")[:bands] if bands in (3, 4) else ()
    return tuple(f"<ColorInterp>{kind}</ColorInterp>" for kind in kinds) or ("",) * bands


def _colour_table(colours: Colours) -> str:
    entries = "".join(
        '<Entry c1="{}" c2="{}" c3="{}" c4="{}"/>'.format(*colours.get(value, (0, 0, 0, 0)))
        for value in range(NODATA + 1)
    )
    return f"<ColorInterp>Palette</ColorInterp><ColorTable>{entries}</ColorTable>"


def _mask_vrt(shape: tuple[int, int], layout: CogLayout) -> str:
    """A virtual raster that cuts the one beside it at the threshold, through a table of all 256 values."""
    level = find_threshold_level(layout.threshold)
    table = ",".join(f"{value}:{int(value >= level)}" for value in range(NODATA)) + f",{NODATA}:{NODATA}"
    whole = f'xOff="0" yOff="0" xSize="{shape[1]}" ySize="{shape[0]}"'
    return (
        f"{_head(shape, layout)}"
        '<VRTRasterBand dataType="Byte" band="1">'
        f"<Description>{escape(layout.names[0])}</Description>"
        f"<NoDataValue>{NODATA}</NoDataValue>"
        f"{_colour_table(PALETTE)}"
        '<ComplexSource><SourceFilename relativeToVRT="1">staged.vrt</SourceFilename>'
        f"<SourceBand>1</SourceBand><SrcRect {whole}/><DstRect {whole}/><LUT>{table}</LUT>"
        "</ComplexSource></VRTRasterBand></VRTDataset>"
    )
