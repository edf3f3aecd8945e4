"""Write vector files: GeoPackage, GeoParquet, FlatGeobuf and GeoJSON."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyogrio
import pyogrio.errors

from domainsam.errors import ConfigError, InputError, OutputError
from domainsam.staging import Staging
from domainsam_urban.settings import GRID, SETTLEMENTS, find_grid_path, find_vector_format
from domainsam_urban.write.styles import make_grid_qml, make_settlement_qml, store_default_styles

_QML = {SETTLEMENTS: make_settlement_qml, GRID: make_grid_qml}

Layers = Mapping[str, Any]
"""Tables (GeoDataFrame) by layer name, :data:`SETTLEMENTS` first, then perhaps :data:`GRID`."""


def write_vectors(
    paths: Iterable[Path | str], settlements: Any, grid: Any | None = None, *, overwrite: bool = False
) -> tuple[Path, ...]:
    """Write polygons, and grid cells if there are any, to every path at once.

    A GeoPackage holds the layers ``settlements`` and ``grid`` and their QGIS
    styles. Other formats hold one layer: the grid goes to ``<stem>_grid``
    beside the polygons, and every file gets a ``.qml`` of its own name. Either
    all files appear, complete, or none does.

    Parameters
    ----------
    paths
        ``.gpkg``, ``.parquet``, ``.fgb`` or ``.geojson`` files. GeoJSON is in
        WGS84 longitude and latitude; all others keep the table's CRS.
    settlements, grid
        As :func:`domainsam_urban.write.polygons.polygonise` and
        :func:`domainsam_urban.write.gridcells.compute_grid_shares` make them; may be empty.
    overwrite
        Whether existing files may be replaced.

    Returns
    -------
    tuple of Path
        Every file written, styles included.

    Raises
    ------
    ConfigError
        If an extension is unknown.
    InputError
        If GeoJSON is asked for polygons without a CRS.
    OutputError
        If a file exists and may not be replaced, or cannot be written.
    """
    layers = {SETTLEMENTS: settlements} | ({} if grid is None else {GRID: grid})
    plan = _plan([Path(path) for path in paths], layers)
    with Staging(plan, overwrite=overwrite) as staging:
        for target, content in plan.items():
            _write_file(staging[target], target, content)
    return tuple(plan)


def _plan(paths: list[Path], layers: Layers) -> dict[Path, Layers | str]:
    """What each file will hold: tables by layer, or the text of a style."""
    plan: dict[Path, Layers | str] = {}
    for path in paths:
        if find_vector_format(path).many_layers:
            plan[path] = layers
            continue
        for layer, table in layers.items():
            target = path if layer == SETTLEMENTS else find_grid_path(path)
            if target in plan:
                raise ConfigError(f"'{target}' would be written twice: give the outputs different names")
            plan[target] = {layer: table}
            plan.setdefault(target.with_suffix(".qml"), _QML[layer]())
    return plan


def _write_file(staged: Path, target: Path, content: Layers | str) -> None:
    with writing_vectors(target):
        if isinstance(content, str):
            staged.write_text(content, encoding="utf-8")
            return
        write = WRITERS[target.suffix.lower()]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="'crs' was not provided")
            for layer, table in content.items():
                write(table, staged, layer)
                _check_complete(staged, target, layer, len(table))
        if find_vector_format(target).many_layers:
            store_default_styles(staged, {layer: _QML[layer]() for layer in content})


def write_table(staged: Path, target: Path, layer: str, table: Any) -> None:
    """Write any table of shapes, of whatever kinds, as the format of ``target`` under a staged path.

    Raises
    ------
    InputError
        If GeoJSON is asked for shapes without a CRS.
    OutputError
        If it cannot be written.
    """
    suffix = target.suffix.lower()
    with writing_vectors(target), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="'crs' was not provided")
        if suffix == ".parquet":
            write_parquet(table, staged, layer)
        else:
            plain = {".geojson": {"rfc7946": "YES"}}.get(suffix, {})
            table.to_file(staged, layer=layer, driver=DRIVERS[suffix], engine="pyogrio", **plain)
        _check_complete(staged, target, layer, len(table))


@contextmanager
def writing_vectors(target: Path) -> Iterator[None]:
    """Write a vector file; a failure of the disk or the driver names it.

    Raises
    ------
    OutputError
        If either refuses.
    """
    try:
        yield
    except (OSError, RuntimeError, sqlite3.Error, pyogrio.errors.DataSourceError) as error:
        if isinstance(error, OutputError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise OutputError(
            f"cannot write '{target}' ({reason}): check free space and permissions, or choose another folder"
        ) from error


def _check_complete(staged: Path, target: Path, layer: str, rows: int) -> None:
    """Count the rows on disk: not every driver reports a full disk."""
    if target.suffix.lower() == ".parquet":
        import pyarrow.parquet

        found = pyarrow.parquet.read_metadata(staged).num_rows
    else:
        found = pyogrio.read_info(staged, layer=layer, force_feature_count=True)["features"]
    if found != rows:
        raise OutputError(
            f"'{target}' holds {found} of {rows} rows after writing: free some space and run again"
        )


def _write_geopackage(table: Any, path: Path, layer: str) -> None:
    _to_ogr(table, path, layer, "GPKG", append=path.exists())


def _write_flatgeobuf(table: Any, path: Path, layer: str) -> None:
    _to_ogr(table, path, layer, "FlatGeobuf", spatial_index="YES" if len(table) else "NO")


def _write_geojson(table: Any, path: Path, layer: str) -> None:
    if table.crs is None:
        raise InputError(
            f"'{path.name}': GeoJSON must be longitude and latitude, and these polygons have no CRS: "
            "write .gpkg, .parquet or .fgb"
        )
    _to_ogr(table, path, layer, "GeoJSON", rfc7946="YES", coordinate_precision=7)


def write_parquet(table: Any, path: Path, layer: str) -> None:
    """Write a table as GeoParquet 1.1 with a box a row; the format has no layers."""
    table.to_parquet(path, index=False, compression="zstd", write_covering_bbox=True, schema_version="1.1.0")


def _to_ogr(table: Any, path: Path, layer: str, driver: str, **options: Any) -> None:
    table.to_file(path, layer=layer, driver=driver, engine="pyogrio", geometry_type="Polygon", **options)


DRIVERS = {".gpkg": "GPKG", ".fgb": "FlatGeobuf", ".geojson": "GeoJSON"}
WRITERS: Mapping[str, Callable[[Any, Path, str], None]] = {
    ".gpkg": _write_geopackage,
    ".parquet": write_parquet,
    ".fgb": _write_flatgeobuf,
    ".geojson": _write_geojson,
}
"""By extension: writes one table to a path under a layer name, adding to what is there."""
