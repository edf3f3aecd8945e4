"""Write a table that is larger than memory: chunk by chunk to GeoParquet, and on to any other format."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import geopandas as gpd
import pandas as pd
import pyarrow as pa
import pyogrio
from pyarrow import parquet

from domainsam.errors import ConfigError, DependencyError
from domainsam_urban.settings import SETTLEMENTS
from domainsam_urban.write.styles import make_settlement_qml, store_default_styles
from domainsam_urban.write.vectors import DRIVERS, write_parquet, writing_vectors

CHUNK = 10_000
"""Rows that are held at a time, and a row group of GeoParquet."""
DEEPEST = 14
"""Zoom level up to which tiles are made, beyond which maps enlarge them: 10 m a pixel at the equator, and
coordinates within a tile are 16 times as fine."""
TILES = ".pmtiles"
SUFFIXES = (".gpkg", ".parquet", ".fgb", ".geojson", TILES)
"""Formats of one table of everything."""
_OPTIONS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        ".fgb": {"spatial_index": "YES"},
        ".geojson": {"rfc7946": "YES", "coordinate_precision": "7"},
        TILES: {"minzoom": "0", "maxzoom": str(DEEPEST), "name": SETTLEMENTS},
    }
)


def check_format(path: Path) -> None:
    """Refuse what a table of everything cannot be written as.

    Raises
    ------
    ConfigError
        If the ending is none of :data:`SUFFIXES`.
    DependencyError
        If it is ``.pmtiles`` and this GDAL does not write that.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ConfigError(f"--merge '{path}' ends in '{suffix}': use one of {', '.join(SUFFIXES)}")
    if suffix == TILES and "w" not in pyogrio.list_drivers().get("PMTiles", ""):
        raise DependencyError(
            f"'{path}': this GDAL ({pyogrio.__gdal_version_string__}) does not write PMTiles: install a "
            "pyogrio with GDAL 3.8 or later built with SQLite and GEOS, or write .gpkg or .parquet"
        )


def write_chunks(tables: Iterable[gpd.GeoDataFrame], folder: Path) -> list[Path]:
    """Leave tables of the same columns as files of about :data:`CHUNK` rows, in order."""
    paths: list[Path] = []
    held: list[gpd.GeoDataFrame] = []

    def flush() -> None:
        if held:
            paths.append(folder / f"{len(paths):07d}.parquet")
            write_parquet(join_tables(held), paths[-1], SETTLEMENTS)
            held.clear()

    for table in tables:
        held.append(table)
        if sum(map(len, held)) >= CHUNK:
            flush()
    flush()
    return paths


def join_tables(tables: Sequence[gpd.GeoDataFrame]) -> gpd.GeoDataFrame:
    """Tables of the same columns below each other; one with rows decides over the types of empty ones."""
    with warnings.catch_warnings():
        # Of scenes without a date the column is empty; it takes the type of the others.
        warnings.simplefilter("ignore", FutureWarning)
        filled = [table for table in tables if len(table)] or list(tables[:1])
        return gpd.GeoDataFrame(pd.concat(filled, ignore_index=True), crs=tables[0].crs)


def count_rows(chunks: Sequence[Path]) -> int:
    """Rows of all chunks."""
    return sum(parquet.read_metadata(chunk).num_rows for chunk in chunks)


def write_streamed(chunks: Sequence[Path], staged: Path, target: Path) -> None:
    """Write chunks of :func:`write_chunks` as the format of ``target`` under a staged path.

    Memory follows a chunk; of PMTiles and FlatGeobuf GDAL keeps a file beside it while it sorts.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    suffix = target.suffix.lower()
    with writing_vectors(target):
        if suffix == ".parquet":
            _join_parquet(chunks, staged)
            return
        _write_ogr(chunks, staged, suffix)
        if suffix == ".gpkg":
            store_default_styles(staged, {SETTLEMENTS: make_settlement_qml()})


def _join_parquet(chunks: Sequence[Path], staged: Path) -> None:
    """One GeoParquet file with a chunk as a row group, and the extent of all in its metadata."""
    schema = parquet.read_schema(chunks[0])
    geo = [json.loads(parquet.read_schema(chunk).metadata[b"geo"]) for chunk in chunks]
    columns = [one["columns"]["geometry"] for one in geo]
    boxes = [one["bbox"] for one in columns if one.get("bbox")]
    whole = geo[0]
    whole["columns"]["geometry"]["geometry_types"] = sorted(
        {kind for one in columns for kind in one["geometry_types"]}
    )
    if boxes:
        sides = list(zip(*boxes, strict=True))
        whole["columns"]["geometry"]["bbox"] = [*map(min, sides[:2]), *map(max, sides[2:])]
    schema = schema.with_metadata({**schema.metadata, b"geo": json.dumps(whole).encode()})
    with parquet.ParquetWriter(staged, schema, compression="zstd") as writer:
        for chunk in chunks:
            writer.write_table(
                parquet.read_table(chunk).replace_schema_metadata(schema.metadata).cast(schema)
            )


def _write_ogr(chunks: Sequence[Path], staged: Path, suffix: str) -> None:
    first = gpd.read_parquet(chunks[0])
    names = [name for name in parquet.read_schema(chunks[0]).names if name not in ("bbox", "geometry")]
    schema = parquet.read_schema(chunks[0])
    plain = pa.schema([*(schema.field(name) for name in names), pa.field("geometry", pa.binary())])

    def batches() -> Iterator[pa.RecordBatch]:
        for chunk in chunks:
            table = parquet.read_table(chunk, columns=[*names, "geometry"])
            yield from table.replace_schema_metadata(None).cast(plain).to_batches()

    pyogrio.write_arrow(
        pa.RecordBatchReader.from_batches(plain, batches()),
        staged,
        layer=SETTLEMENTS,
        driver={**DRIVERS, TILES: "PMTiles"}[suffix],
        geometry_name="geometry",
        geometry_type="Polygon",
        crs=first.crs.to_wkt(),
        **_OPTIONS.get(suffix, {}),
    )
