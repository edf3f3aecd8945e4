"""Opening rasters: one handle for each reader at work, and errors that a person understands."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from domainsam.errors import InputError, MissingInputError

GDAL_OPTIONS = {"GDAL_CACHEMAX": 128 * 2**20, "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}
"""Bytes of decoded blocks that GDAL may keep (by default 5 % of the machine's memory)."""
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
            with rasterio.Env(**GDAL_OPTIONS):
                yield handle
        except (RasterioError, CPLE_BaseError) as error:
            raise InputError(
                f"{self.path}: cannot read {what}; the file is damaged or truncated "
                f"({_reason(error)}); copy or download it again"
            ) from error
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
        with rasterio.Env(**GDAL_OPTIONS):
            try:
                return open_quietly(self.path)
            except (RasterioError, CPLE_BaseError) as error:
                raise _opening_error(self.path, error) from error


def open_quietly(path: str | Path) -> Any:
    """``rasterio.open`` without its complaint about a raster that has no place; any thread may call it."""
    with _warning_filters, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        return rasterio.open(path)


def _opening_error(name: str, error: Exception) -> InputError:
    """What is wrong with a path that GDAL does not open."""
    reason = _reason(error)
    if name.startswith("/vsi") or "://" in name:
        return MissingInputError(f"{name}: cannot be opened: {reason}; check the address and the network")
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
        return InputError(f"{name}: is a damaged or truncated TIFF ({reason}); copy or download it again")
    return InputError(
        f"{name}: is not a raster that GDAL can read ({reason}); expected for example a GeoTIFF"
    )


def _reason(error: Exception) -> str:
    """The library's own words on one line, the deepest cause first."""
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
    with warnings.catch_warnings(), rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES):
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            dataset = rasterio.open(path)
        except RasterioError as error:
            raise InputError(f"'{path}' cannot be read as a raster ({error}); expected a GeoTIFF") from error
        with dataset:
            yield dataset
