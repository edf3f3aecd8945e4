"""The same ground in other files: does ``urban map`` give it the same answer?

    pip install -e ".[urban]"
    python benchmarks/stability.py SCENE... [--model FILE] [--method coarse] [--views 8] [--check]

SCENE is a file with a place, or a folder of web-map tiles named ...-X-Y-ZOOM.png. It is written anew as a
planner may get it from elsewhere: cut, turned, mirrored, with nodata corners, resampled, in another CRS;
and mapped with other tiles and another threshold. Masks are compared on the ground that both files show, as
far from every edge and from nodata as a network's context reaches (--margin). The table gives the share of
that ground that is settled in the reference, IoU of both masks, how much larger the settled area is in the
case, the share of ground whose probability differs by more than 0.1, and the mean of the differences.
Targets: IoU of at least 0.95 and areas within 3 %; forms that hold the very same pixels have to be equal.
Where neither answer has settlement, it is the probability that has to agree, on all but 3 % of the ground
within 0.1. A case that leaves less than 0.1 ha to compare says nothing, and is counted neither way.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.warp import Resampling, calculate_default_transform, reproject
from scipy import ndimage

from domainsam.io.rasters import open_raster
from domainsam_urban.map import map_scenes
from domainsam_urban.model.settlement import SettlementModel, load_model
from domainsam_urban.read.place import Place
from domainsam_urban.run import map_options
from domainsam_urban.settings import MapOptions

LEAST_IOU, MOST_AREA = 0.95, 0.03
"""What is asked of answers on common ground."""
MOST_CHANGED = 0.03
"""Share of the ground whose probability may differ by more than 0.1 where nobody finds any settlement."""
LEAST_HECTARES = 0.1
"""Less ground than this is not compared."""
MARGIN_PIXELS = 112
"""Pixels of the model within which an edge is noticed; see the issue that asked for this benchmark."""
FRAME = ((150, 70), (100, 210))
"""Pixels of nodata before and after rows and columns."""
NODATA = 255
TILE, HALF_EQUATOR = 256, math.pi * 6378137
"""Pixels of a web-map tile's side, and half the side of the whole map in metres (EPSG:3857)."""
ABSENT = 0
"""Value that stands for nodata in scenes that are written here; seen pixels of it become 1."""


@dataclass(frozen=True)
class Picture:
    """A scene in memory: values ``(C, h, w)``, where they are seen ``(h, w)``, and its place."""

    values: NDArray[Any]
    seen: NDArray[np.bool_]
    transform: Affine
    crs: CRS

    @property
    def place(self) -> Place:
        """Its grid."""
        return Place((self.values.shape[1], self.values.shape[2]), self.transform, self.crs)

    def write(self, path: Path) -> None:
        """A GeoTIFF whose unseen pixels are nodata."""
        dark = np.maximum(self.values, ABSENT + 1) if not self.seen.all() else self.values
        values = np.where(self.seen, dark, ABSENT).astype(self.values.dtype)
        count, height, width = values.shape
        nodata = None if self.seen.all() else ABSENT
        with rasterio.open(
            path, "w", "GTiff", width, height, count, self.crs, self.transform, values.dtype, nodata=nodata
        ) as dataset:
            dataset.write(values)


@dataclass(frozen=True)
class Case:
    """A way to say the same: another file, or other options; ``exact`` if the pixels are the very same."""

    name: str
    change: Callable[[Picture], Picture] | None = None
    options: tuple[tuple[str, Any], ...] = ()
    exact: bool = False


@dataclass(frozen=True)
class Row:
    """What became of a case: compared hectares, the reference's settled share, IoU, and the areas' ratio.

    Then the share of ground whose probability differs by more than 0.1, and the mean difference. ``passed``
    is None where there was too little ground to compare.
    """

    scene: str
    case: str
    hectares: float
    share: float
    iou: float
    area_ratio: float
    probability_changed: float
    probability_off: float
    passed: bool | None


def read_picture(path: Path, size: int) -> Picture:
    """The middle of a scene, ``size`` pixels at most on a side."""
    with rasterio.open(path) as dataset:
        height, width = min(size, dataset.height), min(size, dataset.width)
        row, col = (dataset.height - height) // 2, (dataset.width - width) // 2
        window = rasterio.windows.Window(col, row, width, height)
        bands = dataset.indexes[:3] if dataset.count >= 3 else dataset.indexes[:1]
        values = dataset.read(bands, window=window)
        seen = dataset.dataset_mask(window=window) > 0
        if dataset.crs is None or dataset.transform.is_identity:
            raise SystemExit(f"{path}: has no place on the Earth, and so no ground to compare")
        return Picture(values, seen, dataset.transform @ Affine.translation(col, row), dataset.crs)


def read_tiles(folder: Path, zoom: int) -> Picture:
    """Web-map tiles named ``...-X-Y-ZOOM.png`` as one scene, finer ones as means over a pixel of ``zoom``."""
    placed = []
    for path in sorted(folder.glob("*.png")):
        x, y, own = map(int, path.stem.split("-")[-3:])
        if own >= zoom:
            step = 2 ** (own - zoom)
            placed.append((path, step, TILE // step * x, TILE // step * y))
    if not placed:
        raise SystemExit(f"{folder}: holds no tiles of zoom {zoom} or more, named ...-X-Y-ZOOM.png")
    left, top = min(item[2] for item in placed), min(item[3] for item in placed)
    right, bottom = (max(item[axis] + TILE // item[1] for item in placed) for axis in (2, 3))
    values = np.zeros((3, bottom - top, right - left), np.uint8)
    seen = np.zeros(values.shape[1:], bool)
    for path, step, x, y in placed:
        with open_raster(path) as dataset:
            tile = dataset.read((1, 2, 3))
        side = TILE // step
        part = slice(y - top, y - top + side), slice(x - left, x - left + side)
        values[:, *part] = np.rint(tile.reshape(3, side, step, side, step).mean(axis=(2, 4)))
        seen[part] = True
    pixel = 2 * HALF_EQUATOR / TILE / 2**zoom
    corner = Affine.translation(left * pixel - HALF_EQUATOR, HALF_EQUATOR - top * pixel)
    return Picture(values, seen, corner @ Affine.scale(pixel, -pixel), CRS.from_epsg(3857))


def cut(row: int, col: int) -> Callable[[Picture], Picture]:
    """The scene from another corner on, and a little short of its end."""

    def change(picture: Picture) -> Picture:
        part = slice(row, -7), slice(col, -3)
        transform = picture.transform @ Affine.translation(col, row)
        return replace(picture, values=picture.values[:, *part], seen=picture.seen[part], transform=transform)

    return change


def quarter_turn(picture: Picture) -> Picture:
    """Its columns as rows, from east to west: a transform turned by 90 degrees."""
    width = picture.values.shape[2]
    place = picture.transform @ Affine(0, 1, 0, 1, 0, 0) @ Affine.translation(0, width) @ Affine.scale(1, -1)
    values, seen = picture.values.swapaxes(1, 2)[:, ::-1], picture.seen.T[::-1]
    return replace(picture, values=values, seen=seen, transform=place)


def south_up(picture: Picture) -> Picture:
    """Its rows from south to north."""
    height = picture.values.shape[1]
    place = picture.transform @ Affine.translation(0, height) @ Affine.scale(1, -1)
    return replace(picture, values=picture.values[:, ::-1], seen=picture.seen[::-1], transform=place)


def west_up(picture: Picture) -> Picture:
    """Its columns from east to west: stored as a mirror image."""
    width = picture.values.shape[2]
    place = picture.transform @ Affine.translation(width, 0) @ Affine.scale(-1, 1)
    return replace(picture, values=picture.values[..., ::-1], seen=picture.seen[:, ::-1], transform=place)


def hide_corners(picture: Picture) -> Picture:
    """All but a turned square in the middle is nodata: the footprint of a delivered scene."""
    height, width = picture.seen.shape
    rows, cols = np.mgrid[:height, :width] - np.array([height, width])[:, None, None] / 2
    angle, half = math.radians(30), 0.36 * min(height, width)
    across = np.abs(cols * math.cos(angle) + rows * math.sin(angle))
    along = np.abs(rows * math.cos(angle) - cols * math.sin(angle))
    return replace(picture, seen=picture.seen & (across <= half) & (along <= half))


def frame(picture: Picture) -> Picture:
    """All of it, in a frame of nodata of another width on each side."""
    (top, bottom), (left, right) = FRAME
    values = np.pad(picture.values, ((0, 0), (top, bottom), (left, right)))
    transform = picture.transform @ Affine.translation(-left, -top)
    return replace(picture, values=values, seen=np.pad(picture.seen, FRAME), transform=transform)


def warped(
    place: Callable[[Picture], tuple[Affine, tuple[int, int], CRS]],
) -> Callable[[Picture], Picture]:
    """The scene resampled to another grid by cubic convolution; nodata around it."""

    def change(picture: Picture) -> Picture:
        transform, (height, width), crs = place(picture)
        values = np.zeros((len(picture.values), height, width), picture.values.dtype)
        seen = np.zeros((height, width), np.float32)
        common = {
            "src_transform": picture.transform,
            "src_crs": picture.crs,
            "dst_transform": transform,
            "dst_crs": crs,
        }
        reproject(picture.values, values, resampling=Resampling.cubic, **common)
        reproject(picture.seen.astype(np.float32), seen, resampling=Resampling.bilinear, **common)
        return Picture(values, seen > 0.99, transform, crs)

    return change


def turned(degrees: float) -> Callable[[Picture], Picture]:
    """The scene on a grid turned round its middle, large enough for all of it."""

    def place(picture: Picture) -> tuple[Affine, tuple[int, int], CRS]:
        height, width = picture.seen.shape
        side = math.ceil(math.hypot(height, width))
        spot = picture.transform @ Affine.translation(width / 2, height / 2) @ Affine.rotation(degrees)
        return spot @ Affine.translation(-side / 2, -side / 2), (side, side), picture.crs

    return warped(place)


def scaled(factor: float) -> Callable[[Picture], Picture]:
    """The scene with pixels ``factor`` times as large."""

    def place(picture: Picture) -> tuple[Affine, tuple[int, int], CRS]:
        height, width = picture.seen.shape
        shape = math.floor(height / factor), math.floor(width / factor)
        return picture.transform @ Affine.scale(factor), shape, picture.crs

    return warped(place)


def projected(code: int) -> Callable[[Picture], Picture]:
    """The scene in another CRS, 0 for the UTM zone it lies in."""

    def place(picture: Picture) -> tuple[Affine, tuple[int, int], CRS]:
        height, width = picture.seen.shape
        bounds = rasterio.transform.array_bounds(height, width, picture.transform)
        lon = rasterio.warp.transform_bounds(picture.crs, "EPSG:4326", *bounds)
        zone = math.floor(((lon[0] + lon[2]) / 2 + 180) / 6) + 1
        crs = CRS.from_epsg(code or (32600 if lon[1] > 0 else 32700) + zone)
        transform, columns, rows = calculate_default_transform(picture.crs, crs, width, height, *bounds)
        return transform, (rows, columns), crs

    return warped(place)


CASES = (
    Case("cut 37 + 53", cut(37, 53)),
    Case("cut 11 + 90", cut(11, 90)),
    Case("cut 64 + 17", cut(64, 17)),
    Case("tiles of 256", options=(("tile", 256),)),
    Case("tiles of 512", options=(("tile", 512),)),
    Case("tiles of 1024", options=(("tile", 1024),)),
    Case("rows upwards", south_up, exact=True),
    Case("mirrored", west_up, exact=True),
    Case("turned by 90", quarter_turn, exact=True),
    Case("turned by 10", turned(10)),
    Case("turned by 30", turned(30)),
    Case("turned by 45", turned(45)),
    Case("nodata corners", hide_corners),
    Case("in a frame of nodata", frame),
    Case("pixels 10 % larger", scaled(1.1)),
    Case("pixels 10 % smaller", scaled(1 / 1.1)),
    Case("in UTM", projected(0)),
    Case("in degrees", projected(4326)),
)


def map_picture(
    picture: Picture, folder: Path, name: str, options: MapOptions, model: SettlementModel
) -> tuple[Picture, Picture]:
    """Mask and stored probability on the picture's own grid; 255 where nothing is known."""
    path = folder / f"{name}.tif"
    picture.write(path)
    files = {kind: folder / f"{name}_{kind}.tif" for kind in ("mask", "probability")}
    outputs = replace(options.outputs, mask=files["mask"], probability=files["probability"])
    batch = map_scenes([str(path)], replace(options, outputs=outputs), model)
    if batch.failures:
        raise SystemExit(batch.failures[0][1])
    answers = []
    for file in files.values():
        with rasterio.open(file) as dataset:
            values = dataset.read(1)
        answers.append(Picture(values[None], values != NODATA, picture.transform, picture.crs))
        file.unlink()
    path.unlink()
    return answers[0], answers[1]


def lay_on(answer: Picture, place: Place) -> NDArray[np.uint8]:
    """An answer's nearest pixels on another grid, 255 where there are none."""
    laid = np.full(place.shape, NODATA, np.uint8)
    reproject(
        answer.values[0],
        laid,
        src_transform=answer.transform,
        src_crs=answer.crs,
        src_nodata=NODATA,
        dst_transform=place.affine,
        dst_crs=place.crs,
        dst_nodata=NODATA,
        resampling=Resampling.nearest,
    )
    return laid


def compare(
    reference: tuple[Picture, Picture],
    found: tuple[Picture, Picture],
    margin_m: float,
    words: tuple[str, str],
    exact: bool,
) -> Row:
    """Agreement of masks farther than ``margin_m`` from every edge of what both know."""
    place = reference[0].place
    pixel = place.pixel_metres()
    one, other = reference[0].values[0], lay_on(found[0], place)
    both = np.pad((one != NODATA) & (other != NODATA), 1)
    inner = (ndimage.distance_transform_edt(both)[1:-1, 1:-1] - 0.5) * pixel > margin_m
    first, second = one[inner] == 1, other[inner] == 1
    union = int((first | second).sum())
    iou = float((first & second).sum()) / union if union else 1.0
    ratio = float(second.sum() / first.sum()) if first.any() else (1.0 if not second.any() else math.inf)
    steps = np.abs(reference[1].values[0][inner].astype(int) - lay_on(found[1], place)[inner])
    changed, off = (float((steps > 25).mean()), float(steps.mean()) / 254) if inner.any() else (0.0, 0.0)
    hectares = float(inner.sum()) * pixel**2 / 1e4
    passed: bool | None = iou >= LEAST_IOU and abs(ratio - 1) <= MOST_AREA
    if hectares < LEAST_HECTARES:
        passed = None
    elif exact:
        passed = iou == 1 and off == 0
    elif not union:
        passed = changed <= MOST_CHANGED
    share = float(first.mean()) if inner.any() else 0.0
    return Row(*words, hectares, share, iou, ratio, changed, off, passed)


def run_cases(
    scene: Path,
    picture: Picture,
    options: MapOptions,
    model: SettlementModel,
    cases: Sequence[Case],
    margin_m: float,
) -> Iterator[Row]:
    """The agreement of every case with the scene as it is."""
    with tempfile.TemporaryDirectory() as room:
        folder = Path(room)
        reference = map_picture(picture, folder, "reference", options, model)
        for case in cases:
            shown = picture if case.change is None else case.change(picture)
            run = replace(options.run, **dict(case.options))
            found = map_picture(shown, folder, "case", replace(options, run=run), model)
            yield compare(reference, found, margin_m, (scene.stem, case.name), case.exact)
        low = replace(options, shape=replace(options.shape, threshold=options.shape.threshold / 2))
        other = map_picture(picture, folder, "case", low, model)
        # Another threshold cuts the same probability: compared pixel by pixel, and at the same threshold.
        same = np.array_equal(reference[1].values, other[1].values)
        row = compare(reference, (reference[0], other[1]), margin_m, (scene.stem, "half the threshold"), True)
        yield replace(row, passed=same)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scenes", nargs="+", type=Path)
    parser.add_argument("--model", type=Path, help="model file [the one inside the package]")
    parser.add_argument("--method", help="full or coarse [the default of urban map]")
    parser.add_argument("--views", default=1, help="1, 4 or 8 [%(default)s]")
    parser.add_argument("--tile", type=int, help="side of a tile [the model's]")
    parser.add_argument("--overlap", type=int, help="overlap of tiles [the model's]")
    parser.add_argument("--threshold", type=float, help="[the model's]")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--size", type=int, default=1200, help="middle of the scene, in pixels [%(default)s]")
    parser.add_argument("--zoom", type=int, default=19, help="of web-map tiles [%(default)s]")
    parser.add_argument("--margin", type=float, help="metres [112 pixels of the model]")
    parser.add_argument("--cases", help="parts of names of the cases to run, with commas between [all]")
    parser.add_argument("--json", type=Path, help="write all figures to this file too")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a target is missed")
    return parser.parse_args()


def tell(row: Row) -> str:
    """A line of the table."""
    verdict = {True: "", False: " missed", None: " too little ground"}[row.passed]
    return (
        f"| {row.scene} | {row.case} | {row.hectares:.1f} | {row.share:.3f} | {row.iou:.3f} | "
        f"{row.area_ratio - 1:+.1%} | {row.probability_changed:.1%} | {row.probability_off:.4f} |{verdict}"
    )


def main() -> int:
    given = parse()
    chosen = {"method": given.method, "threshold": given.threshold}
    options = map_options(
        out=(),
        model=given.model,
        tile=given.tile,
        overlap=given.overlap,
        views=given.views,
        device=given.device,
        stac=False,
        quiet=True,
        **{name: value for name, value in chosen.items() if value is not None},
    )
    model = load_model(options)
    words = None if given.cases is None else given.cases.split(",")
    cases = [case for case in CASES if words is None or any(word in case.name for word in words)]
    margin = MARGIN_PIXELS * (model.resolution or 1.0) if given.margin is None else given.margin
    run = options.run
    print(f"model {model.name}, method {run.method}, views {run.views}, margin {margin:.0f} m\n")
    print("| scene | case | common ha | settled | IoU | area | probability changed | mean difference |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for scene in given.scenes:
        picture = read_tiles(scene, given.zoom) if scene.is_dir() else read_picture(scene, given.size)
        for row in run_cases(scene, picture, options, model, cases, margin):
            print(tell(row), flush=True)
            rows.append(row)
    if given.json is not None:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    missed = sum(row.passed is False for row in rows)
    compared = sum(row.passed is not None for row in rows)
    print(f"\n{compared - missed} of {compared} reach their target")
    return 1 if given.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
