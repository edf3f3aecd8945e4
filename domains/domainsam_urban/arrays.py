"""Scenes that are arrays in memory: an xarray DataArray in, a Dataset out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from domainsam.errors import ConfigError, DependencyError, InputError
from domainsam.infer.blend import LEVELS, NODATA


def map_array(scene: Any, out: Any, options: Mapping[str, Any], run: Callable[..., Any]) -> Any:
    """Map a scene that is an ``xarray.DataArray``.

    It goes through a temporary GeoTIFF, so that the answer is that of the same
    scene in a file; the disk must hold it twice.

    Parameters
    ----------
    scene
        ``(band, y, x)`` or ``(y, x)``, with a CRS and evenly spaced coordinates.
    out
        Polygon files, or None.
    options
        Keywords of :func:`domainsam_urban.run.map_options`.
    run
        Maps a scene in a file: :func:`domainsam_urban.run.run_map`.

    Returns
    -------
    With ``out`` the scene's result. Without, an ``xarray.Dataset`` on the
    scene's grid: ``mask`` uint8 (1 settlement, 255 no data) and
    ``probability`` float32 (0 to 1, NaN where there is no data).

    Raises
    ------
    DependencyError
        If rioxarray is not installed.
    InputError
        If the array has no place on the ground or a type that GeoTIFF cannot hold.
    """
    with TemporaryDirectory(prefix="domainsam-") as folder:
        path = Path(folder) / "array.tif"
        _write(scene, path, bool(options.get("allow_no_crs")))
        if out is not None:
            return run(str(path), out, **options)
        if named := {"probability", "mask"} & options.keys():
            raise ConfigError(
                f"urban map: {', '.join(sorted(named))} is a file of its own: name an output too"
            )
        files = {name: Path(folder) / f"{name}.tif" for name in ("mask", "probability")}
        run(str(path), None, **{**options, "stac": False, **files})
        return _read(files)


def _rioxarray() -> Any:
    try:
        import rioxarray
    except ImportError as error:
        raise DependencyError(
            "a DataArray needs rioxarray: run pip install 'domainsam[xarray]', or give a file"
        ) from error
    return rioxarray


def _write(scene: Any, path: Path, allow_no_crs: bool) -> None:
    _rioxarray()
    if scene.rio.crs is None and not allow_no_crs:
        raise InputError("the DataArray has no CRS: set one with array.rio.write_crs, or allow_no_crs=True")
    try:
        scene.rio.to_raster(path)
    except Exception as error:
        raise InputError(f"the DataArray cannot be written as a GeoTIFF: {error}") from error


def _read(files: Mapping[str, Path]) -> Any:
    rioxarray = _rioxarray()
    layers = {}
    for name, path in files.items():
        with rioxarray.open_rasterio(path) as stored:
            layers[name] = stored.isel(band=0, drop=True).load()
    stored = layers["probability"]
    layers["probability"] = stored.where(stored != NODATA).astype("float32") / LEVELS
    layers["probability"].rio.write_nodata(float("nan"), inplace=True)
    return layers["mask"].to_dataset(name="mask").assign(probability=layers["probability"])
