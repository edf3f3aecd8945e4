"""Write a sample: its points with empty columns to fill, and the form in which a person fills them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import rasterio
import shapely

from domainsam.infer.workroom import WorkRoom
from domainsam.io.rasters import GDAL_OPTIONS
from domainsam.staging import Staging
from domainsam_urban.sample.chips import Framing, open_chips
from domainsam_urban.sample.form import render_form
from domainsam_urban.sample.result import Sample
from domainsam_urban.sample.settings import SampleOptions
from domainsam_urban.sample.strata import NAMES
from domainsam_urban.trend.stack import YearStack
from domainsam_urban.write.vectors import writing_vectors

DEGREES = 9
"""Decimals of a degree that are written: a tenth of a millimetre."""
LAYER = "sample"

Chips = dict[str, list[tuple[bytes, bytes] | None]]
"""Detail and context of every point, by year."""


def write_sample(
    drawn: Sample,
    stack: YearStack,
    scenes: Mapping[str, str],
    framing: Framing,
    options: SampleOptions,
    room: WorkRoom,
) -> tuple[str, ...]:
    """Write the points, and the form where there are pictures; both appear, or neither.

    Raises
    ------
    InputError
        If a scene cannot be read.
    OutputError
        If a file cannot be written.
    """
    table = make_table(drawn)
    targets = options.targets
    with Staging(targets, overwrite=options.overwrite) as staging:
        room.note_staged({staging[target].parent for target in targets})
        write_points(table, staging[options.out], options.out)
        if len(targets) > 1:
            chips = cut_chips(drawn, stack, scenes, framing)
            page = render_form(table, drawn.labels, chips, framing, options)
            staging.write_text(options.form_path, page)
    return tuple(map(str, targets))


def make_table(drawn: Sample) -> Any:
    """A row a point (DataFrame): place, stratum, weight, and an empty column for each year.

    ``weight`` is the hectares that a point stands for, ``probability`` the chance that its pixel was
    drawn, ``stratum_ha`` the area of its stratum.
    """
    points, counts = drawn.points, drawn.allocation.points
    weights, stratum = drawn.weights(), drawn.points.stratum
    table = pd.DataFrame(
        {
            "id": np.arange(1, len(points) + 1),
            "lon": np.round(points.longitude, DEGREES),
            "lat": np.round(points.latitude, DEGREES),
            "stratum": [NAMES[one] for one in stratum],
            "weight": weights[stratum],
            "stratum_ha": drawn.area_ha[stratum],
            "probability": (counts / np.maximum(drawn.pixels, 1))[stratum],
        }
    )
    for label in drawn.labels:
        table[label] = pd.array([None] * len(table), dtype="Int16")
    table["unsure"] = ""
    return table


def write_points(table: Any, staged: Path, target: Path) -> None:
    """Write the points in the form that the target's name asks for.

    Raises
    ------
    OutputError
        If the disk refuses it.
    """
    with writing_vectors(target):
        if target.suffix.lower() == ".csv":
            table.to_csv(staged, index=False)
            return
        places = shapely.points(table["lon"].to_numpy(), table["lat"].to_numpy())
        frame = geopandas.GeoDataFrame(table.drop(columns=["lon", "lat"]), geometry=places, crs="EPSG:4326")
        driver = {".gpkg": "GPKG", ".geojson": "GeoJSON"}[target.suffix.lower()]
        frame.to_file(staged, layer=LAYER, driver=driver, engine="pyogrio")


def cut_chips(drawn: Sample, stack: YearStack, scenes: Mapping[str, str], framing: Framing) -> Chips:
    """Detail and context of every point in every year that has a scene."""
    chips: Chips = {}
    with ExitStack() as opened:
        opened.enter_context(rasterio.Env(**GDAL_OPTIONS))
        for label, path in scenes.items():
            reader = opened.enter_context(open_chips(path, stack.ground, framing))
            places = zip(drawn.points.row.tolist(), drawn.points.col.tolist(), strict=True)
            chips[label] = [reader.cut(row, col) for row, col in places]
    return chips
