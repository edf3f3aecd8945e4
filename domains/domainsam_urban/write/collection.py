"""One table and one STAC collection about many scenes: partitioned GeoParquet in degrees, in Hilbert order.

Partitions are cells of a degree in the manner of Hive, ``cell=E116_N39``, by the
middle of a polygon's box: readers that know neither index nor catalogue pass
over what they do not want. Within a partition neighbours on the ground are
neighbours in the file, each row has its box (GeoParquet 1.1), and row groups
are small enough that a box in them is worth asking for.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pandas as pd
import pystac
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam.io.vectors import read_table
from domainsam.staging import Staging, make_scratch
from domainsam_urban.job import ScenePlan
from domainsam_urban.settings import SETTLEMENTS

TABLE, COLLECTION = "settlements", "collection.json"
DEGREES = "EPSG:4326"
ROW_GROUP = 10_000
WORLD = (-180.0, -90.0, 180.0, 90.0)
"""Of the Hilbert curve: the same place has the same number in every table."""


def write_collection(plans: Sequence[ScenePlan], folder: Path) -> dict[str, Path]:
    """Write the polygons of all scenes that are complete as one table, and a STAC collection of them.

    Memory follows the largest scene and the fullest cell. What an earlier run has written there is replaced.

    Returns
    -------
    The table's folder and the collection's file, by kind.

    Raises
    ------
    InputError
        If a scene's polygons have no CRS, or cannot be read.
    OutputError
        If the folder cannot be written.
    """
    done = [plan for plan in plans if plan.complete and plan.vectors]
    table, made = folder / TABLE, folder / COLLECTION
    folder.mkdir(parents=True, exist_ok=True)
    with make_scratch(table) as scratch:
        for number, plan in enumerate(done):
            _split_scene(plan, number, scratch / "pieces")
        new = scratch / TABLE
        new.mkdir()
        for cell in sorted((scratch / "pieces").glob("*")):
            _write_cell(cell, new / cell.name)
        shutil.rmtree(table, ignore_errors=True)
        new.rename(table)
    items = [plan.stac for plan in done if plan.stac is not None]
    if not items:
        return {"table": table}
    with Staging([made], overwrite=True) as staging:
        staging.write_text(made, json.dumps(describe_collection(items, folder), indent=2) + "\n")
    return {"table": table, "collection": made}


def _split_scene(plan: ScenePlan, number: int, pieces: Path) -> None:
    """Leave a scene's polygons by cell, a file each, in degrees."""
    path = plan.vectors[0]
    layer = SETTLEMENTS if path.suffix.lower() == ".gpkg" else None
    polygons = read_table(path, layer=layer)
    if not len(polygons):
        return
    if polygons.crs is None:
        raise InputError(f"{path}: has no CRS, so it has no place in a table of all: leave out --collection")
    degrees = polygons.to_crs(DEGREES)
    degrees.insert(0, "scene", path.stem)
    cells = name_cells(degrees.geometry.bounds.to_numpy())
    for cell, rows in degrees.groupby(cells, sort=True):
        (pieces / str(cell)).mkdir(parents=True, exist_ok=True)
        rows.to_parquet(pieces / str(cell) / f"{number:07d}.parquet", index=False)


def name_cells(bounds: NDArray[np.float64]) -> NDArray[Any]:
    """Names of the cells of a degree that boxes ``(N, 4)`` have their middles in: ``cell=E116_N39``."""
    east = np.clip(np.floor((bounds[:, 0] + bounds[:, 2]) / 2), -180, 179).astype(int)
    north = np.clip(np.floor((bounds[:, 1] + bounds[:, 3]) / 2), -90, 89).astype(int)
    names = [
        f"cell={'E' if x >= 0 else 'W'}{abs(x):03d}_{'N' if y >= 0 else 'S'}{abs(y):02d}"
        for x, y in zip(east, north, strict=True)
    ]
    return np.asarray(names, dtype=object)


def _write_cell(pieces: Path, folder: Path) -> None:
    """Write a cell's polygons in the order of a Hilbert curve; of one place by scene, then as they were."""
    tables = [gpd.read_parquet(path) for path in sorted(pieces.glob("*.parquet"))]
    with warnings.catch_warnings():
        # Of scenes without a date the column is empty; it takes the type of the others.
        warnings.simplefilter("ignore", FutureWarning)
        rows = gpd.GeoDataFrame(pd.concat(tables, ignore_index=True), crs=DEGREES)
    order = rows.geometry.hilbert_distance(total_bounds=WORLD).to_numpy()
    rows = rows.iloc[np.argsort(order, kind="stable")].reset_index(drop=True)
    folder.mkdir()
    rows.to_parquet(
        folder / "part-0.parquet",
        index=False,
        compression="zstd",
        write_covering_bbox=True,
        schema_version="1.1.0",
        row_group_size=ROW_GROUP,
    )


def describe_collection(items: Sequence[Path], folder: Path) -> dict[str, Any]:
    """A STAC collection of items, with the extent of all in place and time.

    Parameters
    ----------
    items
        Files of items.
    folder
        Where the collection will lie.
    """
    boxes, starts, ends, links = [], [], [], []
    for path in items:
        document = json.loads(path.read_text(encoding="utf-8"))
        box = document.get("bbox")
        if box is not None:
            boxes.append([float(side) for side in box])
        properties = document["properties"]
        starts.append(properties.get("datetime") or properties.get("start_datetime"))
        ends.append(properties.get("datetime") or properties.get("end_datetime"))
        links.append({"rel": "item", "href": _relative(path, folder), "type": "application/geo+json"})
    sides = np.asarray(boxes or [list(WORLD)])
    whole = [*(math.floor(side * 1e7) / 1e7 for side in sides[:, :2].min(axis=0))]
    whole += [math.ceil(side * 1e7) / 1e7 for side in sides[:, 2:].max(axis=0)]
    times = [[min(map(str, starts)), max(map(str, ends))]]
    return {
        "type": "Collection",
        "stac_version": pystac.get_stac_version(),
        "id": folder.name or "settlements",
        "description": "Settlements mapped by domainsam, a scene an item.",
        "license": "other",
        "extent": {"spatial": {"bbox": [whole]}, "temporal": {"interval": times}},
        "links": links,
        "assets": {
            "table": {
                "href": f"./{TABLE}",
                "type": "application/vnd.apache.parquet",
                "title": "Polygons of all scenes, partitioned by cells of a degree",
                "roles": ["data"],
            }
        },
    }


def _relative(path: Path, folder: Path) -> str:
    relative = Path(os.path.relpath(path, folder)).as_posix()
    return relative if relative.startswith("..") else f"./{relative}"
