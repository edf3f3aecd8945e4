"""One outline shown, all like it wanted: how much of what is labelled does ``urban find --like`` bring?

    python -m benchmarks.find_roofs SCENE --labels BUILDINGS [--zoom 20] [--examples 8] [--foundation NAME]

SCENE is a file with a place, or a folder of web-map tiles named ...-X-Y-ZOOM.png. Labelled outlines that the
scene shows whole are ranked by area, and those at even steps of the ranking (``--examples``) are shown, one a
run: nobody chose them. Precision and recall are by area, on seen ground, without the example itself; a roof
counts as found where an outline has an IoU of 0.5 with it. Means over examples have intervals of 95 % from
resampling examples. All kinds of roofs are labelled and one is shown, so recall is of "roofs", not of "roofs
like this one".
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
from rasterio.features import rasterize

import domainsam
from benchmarks.stability import Picture, read_picture, read_tiles
from domainsam.foundation import DEFAULT
from domainsam.metrics.bootstrap import bootstrap

RIGHT = 0.5
LEAST_PIXELS = 200
"""Area of the smallest outline that is shown: `urban find` wants an object of some pixels across."""
LARGEST_SIDE = 4096


@dataclass(frozen=True)
class Row:
    """What one example brought: sums of area in pixels, numbers of outlines and roofs, wall seconds."""

    example: int
    pixels: float
    shared: float
    found: float
    wanted: float
    outlines: int
    right: int
    roofs: int
    seconds: float

    @property
    def precision(self) -> float:
        """Share of the found area that is roof."""
        return self.shared / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """Share of the roofs' area that was found."""
        return self.shared / self.wanted if self.wanted else 0.0


def list_whole(labels: gpd.GeoDataFrame, picture: Picture) -> gpd.GeoDataFrame:
    """Outlines in the scene's CRS of which all is seen, the largest last, with their ``pixels``."""
    laid = labels.to_crs(picture.crs)
    laid = laid[laid.geometry.is_valid & ~laid.geometry.is_empty]
    areas = []
    for shape in laid.geometry:
        inside = burn([shape], picture)
        seen = bool(picture.seen[inside].all()) and _contains(picture, shape)
        areas.append(int(inside.sum()) if seen else 0)
    whole = laid.assign(pixels=areas)
    return whole[whole["pixels"] > 0].sort_values("pixels", kind="stable").reset_index(drop=True)


def _contains(picture: Picture, shape: Any) -> bool:
    """Whether an outline's box lies within the scene's."""
    height, width = picture.seen.shape
    corners = [picture.transform @ (col, row) for row in (0, height) for col in (0, width)]
    (left, right), (bottom, top) = ((min(axis), max(axis)) for axis in zip(*corners, strict=True))
    west, south, east, north = shape.bounds
    return bool(left <= west and bottom <= south and east <= right and north <= top)


def burn(shapes: list[Any], picture: Picture) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Ground that outlines cover, ``(h, w)`` on the scene's grid."""
    if not shapes:
        return np.zeros(picture.seen.shape, bool)
    burnt = rasterize(
        [(shape, 1) for shape in shapes], picture.seen.shape, transform=picture.transform, dtype="uint8"
    )
    return np.asarray(burnt > 0)


def choose(whole: gpd.GeoDataFrame, count: int) -> list[int]:
    """Numbers of outlines at even steps of the ranking by area, of those large enough."""
    fit = np.flatnonzero(whole["pixels"].to_numpy() >= LEAST_PIXELS)
    steps = (np.arange(count) + 0.5) / count * len(fit)
    return [int(fit[int(step)]) for step in steps] if len(fit) else []


def measure(
    scene: Any, picture: Picture, roofs: gpd.GeoDataFrame, number: int, example: Any, given: dict[str, Any]
) -> Row:
    """Find by one example and compare with all other outlines, whole and cut ones."""
    began = time.time()
    with tempfile.TemporaryDirectory() as folder:
        like = Path(folder) / "like.gpkg"
        gpd.GeoDataFrame(geometry=[example], crs=picture.crs).to_file(like)
        scene.find(like=like, **given).save(Path(folder) / "found.gpkg")
        found = gpd.read_file(Path(folder) / "found.gpkg").to_crs(picture.crs)
    own = burn([example], picture)
    shapes = [shape for shape in found.geometry if shape.intersection(example).area < RIGHT * shape.area]
    others = [shape for shape in roofs.geometry if not shape.equals(example)]
    ground = picture.seen & ~own
    answer, truth = burn(shapes, picture) & ground, burn(others, picture) & ground
    right = sum(any(_share(shape, other) >= RIGHT for shape in shapes) for other in others)
    return Row(
        number,
        float(own.sum()),
        float((answer & truth).sum()),
        float(answer.sum()),
        float(truth.sum()),
        len(shapes),
        right,
        len(others),
        round(time.time() - began, 1),
    )


def _share(one: Any, other: Any) -> float:
    """IoU of two outlines."""
    if not one.intersects(other):
        return 0.0
    both = one.intersection(other).area
    return float(both / (one.area + other.area - both))


def tell(name: str, values: list[float]) -> str:
    """A line with the mean over examples and its interval."""
    told = bootstrap(np.array(values)[:, None], lambda sums: sums[:, 0] / len(values))
    return f"{name:10s} {told.value:.2f} [{told.low:.2f}, {told.high:.2f}]\n"


def run(options: argparse.Namespace) -> Iterator[Row]:
    """A row for each example."""
    if options.scene.is_dir():
        picture = read_tiles(options.scene, options.zoom)
    else:
        picture = read_picture(options.scene, LARGEST_SIDE)
    labels = gpd.read_file(options.labels)
    whole = list_whole(labels, picture)
    roofs = labels.to_crs(picture.crs)
    roofs = roofs[roofs.geometry.is_valid & ~roofs.geometry.is_empty]
    given = {"method": options.method, "foundation": options.foundation, "finetune": options.finetune}
    finer = {} if options.resolution is None else {"resolution": options.resolution}
    with tempfile.TemporaryDirectory() as folder:
        picture.write(Path(folder) / "scene.tif")
        with domainsam.open(Path(folder) / "scene.tif", "urban", **finer) as scene:
            for number in choose(whole, options.examples):
                yield measure(scene, picture, roofs, number, whole.geometry.iloc[number], given)


def main() -> None:
    """Print a row for each example and the means."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scene", type=Path)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--zoom", type=int, default=20, help="of web-map tiles")
    parser.add_argument("--resolution", type=float, help="ground pixel in metres that is looked at")
    parser.add_argument("--examples", type=int, default=8)
    parser.add_argument("--method", default="texture", choices=("texture", "persam"))
    parser.add_argument("--finetune", action="store_true")
    parser.add_argument("--foundation", default=DEFAULT)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    for row in run(options):
        rows.append(row)
        sys.stdout.write(
            f"outline {row.example:3d} of {row.pixels:6.0f} px: precision {row.precision:.2f}, "
            f"recall {row.recall:.2f}, {row.right} of {row.roofs} roofs by {row.outlines} outlines, "
            f"{row.seconds} s\n"
        )
        sys.stdout.flush()
    if not rows:
        raise SystemExit(f"{options.scene}: shows no labelled outline whole that is large enough to be shown")
    sys.stdout.write(tell("precision", [row.precision for row in rows]))
    sys.stdout.write(tell("recall", [row.recall for row in rows]))
    sys.stdout.write(tell("roofs", [row.right / max(1, row.roofs) for row in rows]))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
