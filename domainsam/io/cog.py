"""Cloud-Optimised GeoTIFFs, streamed from staged bytes.

The staged file is described to GDAL by a small virtual raster, so that GDAL
reads it in place: no second copy on disk, no scene in memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.shutil import copy as gdal_copy

from domainsam.errors import OutputError
from domainsam.infer.blend import LEVELS, NODATA, threshold_level
from domainsam.infer.store import RawRaster
from domainsam.io.rasters import open_quietly
from domainsam.protocols import Window
from domainsam.staging import into_place, make_scratch, scratch_beside

Kind = Literal["probability", "mask"]

BLOCK = 512
PALETTE = {0: (0, 0, 0, 0), 1: (214, 47, 39, 255)}
"""Colours of a mask: background transparent, settlement red."""
COPY_OPTIONS = {"driver": "COG", "blocksize": BLOCK, "compress": "DEFLATE", "bigtiff": "IF_SAFER"}
KIND_OPTIONS = {
    "probability": {"overview_resampling": "AVERAGE", "predictor": "STANDARD"},
    "mask": {"overview_resampling": "MODE", "predictor": "NO"},
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
    """What a file says about itself beside its pixels.

    Parameters
    ----------
    kind
        ``"probability"``: stored values 0..254 for 0..1, averaged overviews.
        ``"mask"``: 1 inside, 0 outside, overviews by majority, colour table.
    transform, crs
        Affine of pixel corners, and the CRS or None.
    threshold
        Probability from which a pixel of the mask is 1.
    description
        Name of the band.
    tags
        Metadata of the file: model, version, command, source.
    """

    kind: Kind
    transform: Affine
    crs: Any = None
    threshold: float = 0.5
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


def write_cog(staged: RawRaster, path: Path, layout: CogLayout) -> None:
    """Turn staged probabilities into a Cloud-Optimised GeoTIFF.

    The file appears under its name only when it is complete and on the disk;
    an existing one is replaced then.

    Parameters
    ----------
    staged
        Stored probabilities, ``round(254 p)``, 255 without data.
    path
        The file to make.

    Raises
    ------
    OutputError
        If it cannot be written; nothing is left behind then.
    """
    with scratch_beside(path) as room:
        _convert(staged, path, layout, room)


def _convert(staged: RawRaster, path: Path, layout: CogLayout, room: Path) -> None:
    virtual, made = room / "staged.vrt", room / "made.tif"
    try:
        virtual.write_text(_raw_vrt(staged, layout), encoding="utf-8")
        if layout.kind == "mask":
            virtual = room / "mask.vrt"
            virtual.write_text(_mask_vrt(staged, layout), encoding="utf-8")
        with rasterio.Env(**GDAL_OPTIONS):
            gdal_copy(virtual, made, **COPY_OPTIONS, **KIND_OPTIONS[layout.kind])
            _check_complete(made, staged, layout)
        into_place(made, path)
    except (RasterioError, CPLE_BaseError, OSError) as error:
        if isinstance(error, OutputError):
            raise
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise OutputError(f"cannot write {path}: {reason}; check free space and permissions") from error


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
        What it says about itself. Values written are stored probabilities,
        also for a mask, which is cut at the layout's threshold.
    """

    def __init__(self, path: Path | str, shape: tuple[int, int], layout: CogLayout) -> None:
        self.path = Path(path)
        self.shape = shape
        self.layout = layout

    def __enter__(self) -> Self:
        self._room = make_scratch(self.path)
        try:
            self._staged = RawRaster.create(self._room / "staged.u8", self.shape)
            self._fill()
        except BaseException:
            shutil.rmtree(self._room, ignore_errors=True)
            raise
        return self

    def _fill(self) -> None:
        """Nothing written means no data."""
        rows, cols = self.shape
        for row in range(0, rows, BLOCK):
            window = Window(row, 0, min(BLOCK, rows - row), cols)
            self._staged.write(window, np.full((window.height, cols), NODATA, dtype=np.uint8))

    def write(self, index: Window, values: NDArray[np.uint8]) -> None:
        """Write stored probabilities ``(h, w)``; the window lies inside the scene."""
        self._staged.write(index, values)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                _convert(self._staged, self.path, self.layout, self._room)
        finally:
            self._staged.close()
            shutil.rmtree(self._room, ignore_errors=True)


def _check_complete(made: Path, staged: RawRaster, layout: CogLayout) -> None:
    """Compare what was made with what was staged: a full disk can go unnoticed until the file is read."""
    level = threshold_level(layout.threshold)
    rows, cols = staged.shape
    with open_quietly(made) as dataset:
        for row in range(0, rows, BLOCK):
            window = Window(row, 0, min(BLOCK, rows - row), cols)
            expected = staged.read(window)
            if layout.kind == "mask":
                inside = np.where(expected == NODATA, np.uint8(NODATA), np.uint8(0))
                inside[(expected >= level) & (expected != NODATA)] = 1
                expected = inside
            found = dataset.read(1, window=((row, row + window.height), (0, cols)))
            if not np.array_equal(found, expected):
                raise OSError(f"rows {row} to {row + window.height} did not reach the disk intact")


def _head(staged: RawRaster, layout: CogLayout) -> str:
    rows, cols = staged.shape
    transform = ",".join(repr(float(value)) for value in layout.transform.to_gdal())
    place = f"<SRS>{escape(layout.crs.to_wkt())}</SRS>" if layout.crs is not None else ""
    if layout.crs is not None or not layout.transform.is_identity:
        place += f"<GeoTransform>{transform}</GeoTransform>"
    tags = {**_meaning(layout), **layout.tags}
    entries = "".join(f"<MDI key={quoteattr(key)}>{escape(value)}</MDI>" for key, value in tags.items())
    return f'<VRTDataset rasterXSize="{cols}" rasterYSize="{rows}">{place}<Metadata>{entries}</Metadata>'


def _meaning(layout: CogLayout) -> dict[str, str]:
    if layout.kind == "mask":
        values = f"1 settlement (probability >= {layout.threshold:g}), 0 other, {NODATA} no data"
    else:
        values = f"probability = value / {LEVELS}, {NODATA} no data"
    return {"VALUES": values}


def _raw_vrt(staged: RawRaster, layout: CogLayout) -> str:
    name = layout.description or "probability"
    scale = f"<Offset>0</Offset><Scale>{1 / LEVELS!r}</Scale>"
    return (
        f"{_head(staged, layout)}"
        '<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand">'
        f"<Description>{escape(name)}</Description><NoDataValue>{NODATA}</NoDataValue>{scale}"
        f'<SourceFilename relativeToVRT="0">{escape(str(staged.path.resolve()))}</SourceFilename>'
        f"<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>{staged.shape[1]}</LineOffset>"
        "</VRTRasterBand></VRTDataset>"
    )


def _mask_vrt(staged: RawRaster, layout: CogLayout) -> str:
    """A virtual raster that cuts the one beside it at the threshold, through a table of all 256 values."""
    rows, cols = staged.shape
    level = threshold_level(layout.threshold)
    table = ",".join(f"{value}:{int(value >= level)}" for value in range(NODATA)) + f",{NODATA}:{NODATA}"
    colours = "".join(
        '<Entry c1="{}" c2="{}" c3="{}" c4="{}"/>'.format(*PALETTE.get(value, (0, 0, 0, 0)))
        for value in range(NODATA + 1)
    )
    whole = f'xOff="0" yOff="0" xSize="{cols}" ySize="{rows}"'
    return (
        f"{_head(staged, layout)}"
        '<VRTRasterBand dataType="Byte" band="1">'
        f"<Description>{escape(layout.description or 'settlement')}</Description>"
        f"<NoDataValue>{NODATA}</NoDataValue>"
        f"<ColorInterp>Palette</ColorInterp><ColorTable>{colours}</ColorTable>"
        '<ComplexSource><SourceFilename relativeToVRT="1">staged.vrt</SourceFilename>'
        f"<SourceBand>1</SourceBand><SrcRect {whole}/><DstRect {whole}/><LUT>{table}</LUT>"
        "</ComplexSource></VRTRasterBand></VRTDataset>"
    )
