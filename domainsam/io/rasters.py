"""Opening and reading rasters: a handle for each reader at work, and errors that a person understands."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from domainsam.errors import InputError, MissingInputError, OutputError
from domainsam.io.whole import check_whole
from domainsam.limits import require_memory
from domainsam.network import gdal_settings, require_local_content
from domainsam.reading import reading

GDAL_OPTIONS: dict[str, Any] = {"GDAL_CACHEMAX": 128 * 2**20, "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
"""Bytes of decoded blocks that GDAL may keep (by default 5 % of the machine's memory)."""
RASTER_ERRORS = (RasterioError, CPLE_BaseError)
"""What GDAL and rasterio raise."""
OVERVIEW_SIDE = 1024
"""Longest side of the overview that a scene's scaling comes from: some 10^6 samples."""
BLOCK_COPIES = 3
"""Copies of a block that GDAL and we hold while it is read."""
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
"""Formats that hold no place on the Earth themselves."""
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_warning_filters = threading.Lock()
"""Python's warning filters are shared by all threads; only one may change them at a time."""


class Handles:
    """A raster that any thread may read.

    GDAL's handles serve one thread at a time. A reader takes an idle one, or
    opens another, and puts it back, so there are never more than readers.

    Raises
    ------
    MissingInputError
        If the path does not exist.
    InputError
        If it is empty, damaged or not a raster.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._lock = threading.Lock()
        self._closed = False
        self._idle: list[Any] = [self._open()]

    @contextmanager
    def reading(self, what: str) -> Iterator[Any]:
        """A ``rasterio.DatasetReader``; a failure to read names the file and ``what`` was read."""
        handle = self._take()
        try:
            with reading_raster(self.path, what):
                yield handle
        finally:
            self._put_back(handle)

    def _take(self) -> Any:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._open()

    def _put_back(self, handle: Any) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(handle)
                return
        handle.close()

    def close(self) -> None:
        """Close all handles; those at work close when they are put back."""
        with self._lock:
            self._closed = True
            while self._idle:
                self._idle.pop().close()

    def _open(self) -> Any:
        options = {**GDAL_OPTIONS, **_find_sidecar_options(self.path), **gdal_settings(self.path)}
        with reading(self.path, "a raster"), rasterio.Env(**options):
            try:
                return open_quietly(self.path)
            except RASTER_ERRORS as error:
                raise _opening_error(self.path, error) from error


def _find_sidecar_options(path: str) -> dict[str, Any]:
    """What GDAL is told about files beside a raster: only pictures have their place in one."""
    picture = not path.startswith("/vsi") and Path(path).suffix.lower() in PICTURES
    return {"GDAL_DISABLE_READDIR_ON_OPEN": "FALSE"} if picture else {}


@contextmanager
def silence_rasterio() -> Iterator[None]:
    """No complaint about rasters that have no place on the Earth; any thread may enter."""
    with _warning_filters, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


def open_quietly(path: str | Path) -> Any:
    """``rasterio.open`` without its complaint about a raster that has no place; any thread may call it.

    Raises
    ------
    InputError
        If the file is damaged in a way that GDAL passes over, names an address on the network, or has
        blocks too large for the memory there is.
    """
    local = Path(path)
    require_local_content(local)
    check_whole(local)
    with silence_rasterio():
        dataset = rasterio.open(path)
    try:
        _vet_dataset(str(path), dataset)
    except BaseException:
        dataset.close()
        raise
    return dataset


def _vet_dataset(name: str, dataset: Any) -> None:
    """Refuse blocks that cannot be held, and pixels that all lie on one line."""
    for (height, width), kind in zip(dataset.block_shapes, dataset.dtypes, strict=True):
        needed = BLOCK_COPIES * height * width * np.dtype(kind).itemsize
        size = f"{dataset.width} x {dataset.height} pixels in blocks of {width} x {height}"
        require_memory(name, needed, size)
    check_transform(name, dataset.transform)


def check_transform(name: object, transform: Affine) -> None:
    """Refuse a geotransform that is not finite, or lays all pixels on one line.

    Raises
    ------
    InputError
        If it does.
    """
    if not all(map(math.isfinite, transform)) or not transform.determinant:
        raise InputError(
            f"{name}: its geotransform {tuple(transform)[:6]} lays all pixels on one line or nowhere; give "
            "it the right one (gdal_edit.py -a_ullr ...)"
        )


@contextmanager
def reading_raster(
    path: str,
    what: str,
    verdict: str = "the file is damaged or truncated",
    cache_bytes: int = GDAL_OPTIONS["GDAL_CACHEMAX"],
) -> Iterator[None]:
    """Read within GDAL's settings for streaming; a failure names the file.

    Parameters
    ----------
    what, verdict
        What is read, and what it means that it cannot be.
    cache_bytes
        Of decoded blocks that GDAL may keep.

    Raises
    ------
    InputError
        If GDAL fails.
    """
    options = {**GDAL_OPTIONS, "GDAL_CACHEMAX": cache_bytes, **gdal_settings(path)}
    with reading(path, f"a raster: {what}"):
        try:
            with rasterio.Env(**options):
                yield
        except RASTER_ERRORS as error:
            raise InputError(
                f"{path}: cannot read {what}; {verdict} ({reason(error)}); copy or download it again"
            ) from error


@contextmanager
def writing_raster(path: Path) -> Iterator[None]:
    """Write a raster; a failure names the file.

    Raises
    ------
    OutputError
        If GDAL fails.
    """
    try:
        yield
    except RASTER_ERRORS as error:
        raise OutputError(
            f"cannot write {path}: {reason(error)}; check free space and permissions"
        ) from error


def overview_size(shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a scene's overview: decimated to :data:`OVERVIEW_SIDE`, never enlarged."""
    step = max(1.0, max(shape) / OVERVIEW_SIDE)
    return max(1, round(shape[0] / step)), max(1, round(shape[1] / step))


def to_centre_affine(transform: Affine) -> NDArray[np.float64]:
    """The matrix of a :class:`domainsam.grid.Grid` from GDAL's affine.

    GDAL's maps pixel corners, column first; a grid's maps pixel centres, row first.
    """
    x, y = transform @ (0.5, 0.5)
    return np.array(
        [[transform.b, transform.a, x], [transform.e, transform.d, y], [0, 0, 1]], dtype=np.float64
    )


def _opening_error(name: str, error: Exception) -> InputError:
    """What is wrong with a path that GDAL does not open."""
    words = reason(error)
    if name.startswith("/vsi") or "://" in name:
        return MissingInputError(f"{name}: cannot be opened: {words}; check the address and the network")
    path = Path(name)
    if not path.exists():
        return MissingInputError(f"{name}: no such file; check the path")
    if path.is_dir():
        return InputError(
            f"{name}: is a folder, expected a raster file; give its files, for example {name}/*.tif"
        )
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as refused:
        return MissingInputError(f"{name}: cannot be read: {refused.strerror}")
    if not start:
        return InputError(f"{name}: is empty (0 bytes); copy or download it again")
    if start in TIFF_STARTS:
        return InputError(f"{name}: is a damaged or truncated TIFF ({words}); copy or download it again")
    return InputError(f"{name}: is not a raster that GDAL can read ({words}); expected for example a GeoTIFF")


def reason(error: BaseException) -> str:
    """A library's own words on one line: those of the cause, where one is known."""
    cause = error.__cause__ if error.__cause__ is not None else error
    return " ".join(str(cause).split())[:200]


CACHE_BYTES = 64 * 2**20
"""GDAL's block cache while streaming; its own default, 5 % of the machine, would look like a leak."""


@contextmanager
def open_raster(path: Path | str) -> Iterator[Any]:
    """Open a raster for streaming: small cache, no complaint about a missing georeference.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If the file is not a raster.
    """
    if not str(path).startswith("/vsi") and not Path(path).is_file():
        raise MissingInputError(f"raster '{path}' does not exist: check the path")
    options = {"GDAL_CACHEMAX": CACHE_BYTES, **gdal_settings(path)}
    with warnings.catch_warnings(), rasterio.Env(**options):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with reading(path, "a raster; expected a GeoTIFF"):
            dataset = open_quietly(path)
        with dataset:
            yield dataset
