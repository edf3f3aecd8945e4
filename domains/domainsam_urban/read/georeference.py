"""Find where on the Earth a raster lies: its CRS, from wherever it is told, or a refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rasterio.crs import CRS as RasterCRS

from domainsam.errors import InputError
from domainsam.io.rasters import RASTER_ERRORS, reason, silence_rasterio


def find_crs(path: str, dataset: Any) -> tuple[Any, str | None]:
    """A raster's CRS or None, if need be from a ``.prj`` beside a world file, and a note that it is.

    Raises
    ------
    InputError
        If a ``.prj`` is needed and cannot be read.
    """
    beside = Path(path).with_suffix(".prj")
    if dataset.crs is not None or dataset.transform.is_identity or not beside.is_file():
        return dataset.crs, None
    try:
        with silence_rasterio():
            crs = RasterCRS.from_wkt(beside.read_text(errors="replace"), morph_from_esri_dialect=True)
    except (*RASTER_ERRORS, ValueError) as error:
        raise InputError(
            f"{path}: has no CRS, and {beside.name} beside it holds none that can be read "
            f"({reason(error)}); give the scene one (gdal_translate -a_srs EPSG:...)"
        ) from error
    return crs, f"its CRS is that of {beside.name} beside it"


def require_place(path: str, dataset: Any, crs: Any) -> None:
    """Refuse a raster that does not say where it lies.

    Raises
    ------
    InputError
        If it has no CRS, or no geotransform.
    """
    if crs is None:
        hint = "give it one (gdal_edit.py -a_srs EPSG:...), or allow pixel units with --allow-no-crs"
        if dataset.gcps[0]:
            hint = "it has ground control points only: run gdalwarp on it first"
        elif dataset.rpcs is not None:
            hint = "it has rational polynomials (RPCs) only: run gdalwarp -rpc on it first"
        raise InputError(f"{path}: has no coordinate reference system (CRS); {hint}")
    if dataset.transform.is_identity:
        raise InputError(
            f"{path}: has a CRS but no geotransform, so its pixels have no place; "
            "georeference it, or allow pixel units with --allow-no-crs"
        )
