"""Read tables of shapes in any vector format: bounded, without connections, and whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from domainsam.errors import InputError, MissingInputError
from domainsam.io.whole import check_whole
from domainsam.limits import require_memory
from domainsam.network import gdal_settings, require_local_content
from domainsam.reading import reading

SHAPES = "points or polygons"
PARQUET = (".parquet", ".geoparquet")
ENLARGED = 4
"""Bytes in memory for one in the file: shapes become objects, and are copied once."""


@contextmanager
def locked_vectors(path: str | Path) -> Iterator[None]:
    """GDAL as pyogrio has it (a copy of its own) with the settings of :func:`gdal_settings`."""
    import pyogrio

    settings = gdal_settings(path)
    before = {name: pyogrio.get_gdal_config_option(name) for name in settings}
    pyogrio.set_gdal_config_options(settings)
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options(before)


def list_layers(path: Path, what: str = SHAPES) -> list[str]:
    """Names of a file's layers that hold shapes, GeoParquet having none; ``what`` is expected, for messages.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it cannot be read.
    """
    _vet(path)
    if path.suffix.lower() in PARQUET:
        return []
    import pyogrio

    with reading(path, what), locked_vectors(path):
        return [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]


def read_table(path: Path, layer: str | None = None, what: str = SHAPES) -> Any:
    """All features of a layer: a ``GeoDataFrame``, or a ``DataFrame`` where it has no shapes.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it is damaged, too large for the memory there is, or names addresses on the network.
    """
    _vet(path)
    import geopandas as gpd

    with reading(path, what):
        if path.suffix.lower() in PARQUET:
            return gpd.read_parquet(path)
        with locked_vectors(path):
            table = gpd.read_file(path, layer=layer)
            _require_all(path, layer, len(table))
            return table


def _vet(path: Path) -> None:
    """Refuse before a library opens it what it would read too much, or too little, of."""
    if not path.is_file():
        if path.exists():
            return
        raise MissingInputError(f"{path}: no such file; check the path")
    if not path.stat().st_size:
        raise InputError(f"{path}: is empty (0 bytes); copy or download it again")
    check_whole(path)
    require_local_content(path)
    if path.suffix.lower() in PARQUET:
        import pyarrow.parquet as parquet

        with reading(path, "GeoParquet"):
            facts = parquet.read_metadata(path)
            groups = range(facts.num_row_groups)
            size = sum(facts.row_group(number).total_byte_size for number in groups)
            most = max(size, facts.num_rows * facts.num_columns)
        require_memory(path, ENLARGED * most, f"{facts.num_rows} rows, {size} bytes unpacked")
    else:
        require_memory(path, ENLARGED * path.stat().st_size, f"{path.stat().st_size} bytes of features")


def _require_all(path: Path, layer: str | None, found: int) -> None:
    """Compare with the header of FlatGeobuf, which counts its features and may be cut between two of them."""
    if path.suffix.lower() != ".fgb":
        return
    import pyogrio

    stated = pyogrio.read_info(path, layer=layer)["features"]
    if stated not in (-1, 0, found):
        raise InputError(
            f"{path}: its header counts {stated} features and it holds {found}: truncated; copy it again"
        )
