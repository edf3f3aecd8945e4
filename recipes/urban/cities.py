r"""Data for the shipped settlement model: Mumbai and Beijing, ground of other kinds, five folds of both.

    python -m recipes.urban.cities MUMBAI DATA --work W

``MUMBAI`` is the set of Dabra & Kumar (2023) as its source gives it: folders
``train``, ``val`` and ``test`` with ``images`` and ``masks`` of tiles of 120 x 120
at 0.5 m (also below a folder ``data``). Tiles of a patch overlap by half; they are
put together again into 110 patches of 600 x 600, and ground on which masks of two
tiles disagree is unknown. ``DATA`` is the folder of real data, of which
``urban_villages`` (Beijing), ``fair_banepa``, ``solaris_sample`` and
``opengeos/naip`` are used. Kampala and Rio are not: benchmarks look there.

It leaves in ``W``: ``beijing``, ``mumbai`` and ``others`` (scenes), ``labels`` (masks
of all of them), ``val`` (Beijing's two validation tiles), and ``fold1`` to ``fold5``
(a fifth of Mumbai's patches and of Beijing's mosaic each, masks beside them). Then,
with the trunk's weights in a file ``TRUNK``:

    domainsam urban train W/beijing W/mumbai W/others --labels W/labels --val W/fold1 \
        --config cities --trunk-weights TRUNK -o RUNS/fold1.safetensors
    domainsam urban train W/beijing W/mumbai W/others --labels W/labels --val W/val \
        --config cities --trunk-weights TRUNK -o RUNS/final.safetensors

Ground under a validation scene, and 20 m around it, is not trained on, so tiles that
overlap leak nothing. ``recipes.urban.folds`` judges the folds and writes the file to ship.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from PIL import Image

from recipes.urban.coarse import shed_rows

PATCH, TILE, STEP, GRID = 600, 120, 60, 9
"""Pixels of a patch, of a tile, from tile to tile; tiles along a patch. Numbers of tiles run row by row."""
PIXEL = 0.5
"""Metres, of Mumbai's tiles."""
INFORMAL = (250, 235, 185)
UNLABELLED = (0, 0, 0)
"""Colours of masks."""
NOWHERE = 32631
"""EPSG code of the made-up places of scenes that have none: around 0 north, 0 east, where nobody lives."""
FOLDS = 5
HALF = 512
"""Pixels of half a tile of Beijing, the cells that its folds are made of."""
CELLS = (
    ((0, 0), (0, 1), (1, 0), (1, 1)),
    ((0, 2), (1, 2), (2, 2)),
    ((2, 0), (2, 1), (3, 1)),
    ((4, 1), (4, 2), (3, 2)),
    ((2, 3), (2, 4), (3, 3), (3, 4)),
)
"""Cells, row and column, of the mosaic of Beijing's training tiles, by fold: neighbours stay together."""
SHEDS = 8

Picture = NDArray[np.uint8]


def read_mumbai(folder: Path) -> Iterator[tuple[str, Picture, Picture]]:
    """Patches by name, image ``(600, 600, 3)`` and labels ``(600, 600)``: 1 informal, 0 not, 255 unknown."""
    tiles: dict[str, dict[int, Path]] = defaultdict(dict)
    for path in folder.rglob("images/*.tif"):
        name, number = re.fullmatch(r"(.+)_(\d+)", path.stem).groups()  # type: ignore[union-attr]
        tiles[name][int(number)] = path
    for name in sorted(tiles):
        if len(tiles[name]) != GRID**2:
            raise SystemExit(f"patch {name} has {len(tiles[name])} tiles, expected {GRID**2}")
        yield name, *put_together(tiles[name])


def put_together(tiles: dict[int, Path]) -> tuple[Picture, Picture]:
    """A patch of its tiles; where masks of two tiles disagree, the ground is unknown."""
    image, labels = np.zeros((PATCH, PATCH, 3), np.uint8), np.full((PATCH, PATCH), 254, np.uint8)
    for number, path in tiles.items():
        row, col = (STEP * int(part) for part in divmod(number - 1, GRID))
        place = np.s_[row : row + TILE, col : col + TILE]
        image[place] = np.asarray(Image.open(path).convert("RGB"))
        mask = np.asarray(Image.open(path.parents[1] / "masks" / f"{path.stem}.png").convert("RGB"))
        own = (mask == INFORMAL).all(axis=2).astype(np.uint8)
        own[(mask == UNLABELLED).all(axis=2)] = 255
        before = labels[place]
        labels[place] = np.where((before == 254) | (before == own), own, 255)
    return image, labels


def write(
    path: Path, image: NDArray[np.generic], transform: Affine, crs: int, nodata: float | None = None
) -> None:
    """Write a raster ``(H, W)`` or ``(H, W, bands)`` as a compressed GeoTIFF."""
    bands = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "dtype": "uint8", "compress": "deflate", "tiled": True}
    with rasterio.open(
        path,
        "w",
        width=bands.shape[2],
        height=bands.shape[1],
        count=bands.shape[0],
        crs=f"EPSG:{crs}",
        transform=transform,
        nodata=nodata,
        **profile,
    ) as file:
        file.write(bands.astype(np.uint8))


def write_pair(
    work: Path, group: str, name: str, image: Picture, labels: Picture, place: Affine, crs: int
) -> None:
    """A scene in its group, its mask among the labels."""
    write(work / group / f"{name}.tif", image, place, crs)
    write(work / "labels" / f"{name}_mask.tif", labels, place, crs)


def made_up_place(number: int, pixel: float, row: int = 0) -> Affine:
    """A transform of a scene that has no place: scenes in a row, 2 km apart, at the equator."""
    return Affine(pixel, 0, 166000 + 2000 * number, 0, -pixel, 10000 + 4000 * row)


def prepare_mumbai(folder: Path, work: Path) -> None:
    """All patches, and a fifth of those with settlement and of those without for each fold."""
    count = {True: 0, False: 0}
    for number, (name, image, labels) in enumerate(read_mumbai(folder)):
        place = made_up_place(number % 50, PIXEL, number // 50)
        name = f"mumbai_{name.replace('.', '_')}"
        write_pair(work, "mumbai", name, image, labels, place, NOWHERE)
        settled = bool((labels == 1).any())
        fold = work / f"fold{count[settled] % FOLDS + 1}"
        count[settled] += 1
        write(fold / f"{name}.tif", image, place, NOWHERE)
        write(fold / f"{name}_mask.tif", labels, place, NOWHERE)
    print(f"Mumbai: {count[True]} patches with settlement, {count[False]} without")


def prepare_beijing(folder: Path, work: Path) -> None:
    """The tiles as they are, the validation tiles, and cells of their mosaic for each fold."""
    tiles = {}
    for path in sorted((folder / "train").glob("*_image.tif")):
        with rasterio.open(path) as scene, rasterio.open(str(path).replace("_image", "_mask")) as mask:
            image, labels = scene.read((1, 2, 3)).transpose(1, 2, 0), (mask.read(1) == 1).astype(np.uint8)
            tiles[path.stem] = image, labels, scene.transform
        name = path.stem.removesuffix("_image")
        write_pair(work, "beijing", f"beijing_{name}", image, labels, tiles[path.stem][2], 3857)
    for path in sorted((folder / "val").glob("*.tif")):
        target = work / "val" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    mosaic, truth, origin = join_tiles(tiles)
    for number, cells in enumerate(CELLS, 1):
        for row, col in cells:
            part = np.s_[row * HALF : (row + 1) * HALF, col * HALF : (col + 1) * HALF]
            place = origin @ Affine.translation(col * HALF, row * HALF)
            name = f"beijing_cell_{row}_{col}"
            write(work / f"fold{number}" / f"{name}.tif", mosaic[part], place, 3857)
            write(work / f"fold{number}" / f"{name}_mask.tif", truth[part], place, 3857)
    print(f"Beijing: {(truth == 1).mean():.3f} of the mosaic settled, {(truth == 255).mean():.3f} unknown")


def join_tiles(tiles: dict[str, tuple[Picture, Picture, Affine]]) -> tuple[Picture, Picture, Affine]:
    """Mosaic of overlapping tiles, its labels (unknown where tiles disagree or nothing is), its transform."""
    left = min(place.c for *_, place in tiles.values())
    top = max(place.f for *_, place in tiles.values())
    pixel = next(iter(tiles.values()))[2].a
    corners = {
        name: (round((top - place.f) / pixel), round((place.c - left) / pixel))
        for name, (*_, place) in tiles.items()
    }
    rows = max(row for row, _ in corners.values()) + 2 * HALF
    cols = max(col for _, col in corners.values()) + 2 * HALF
    mosaic, truth = np.zeros((rows, cols, 3), np.uint8), np.full((rows, cols), 254, np.uint8)
    for name, (image, labels, _) in tiles.items():
        row, col = corners[name]
        part = np.s_[row : row + 2 * HALF, col : col + 2 * HALF]
        mosaic[part] = image
        before = truth[part]
        truth[part] = np.where((before == 254) | (before == labels), labels, 255)
    truth[truth == 254] = 255
    return mosaic, truth, Affine(pixel, 0, left, 0, -pixel, top)


def prepare_others(data: Path, work: Path) -> None:
    """Ground without informal settlement: a Nepalese town, an American suburb, farmland, drawn sheds."""
    banepa = join_web_tiles(sorted((data / "fair_banepa" / "train" / "oam").glob("OAM-*.tif")))
    scenes = {"banepa": (banepa, 0.53)}
    with rasterio.open(data / "solaris_sample" / "sample_geotiff.tif") as file:
        grey = file.read(1).astype(np.float32)
        low, high = np.percentile(grey[grey > 0], (1, 99))
        grey = ((grey - low) / (high - low) * 255).clip(0, 255)
        scenes["atlanta"] = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2), PIXEL
    for path in sorted((data / "opengeos" / "naip").glob("*.tif"))[::2]:
        with rasterio.open(path) as file:
            scenes[path.stem] = file.read((1, 2, 3)).transpose(1, 2, 0), file.res[0]
    rng = np.random.default_rng(0)
    for number in range(SHEDS):
        scenes[f"sheds{number}"] = shed_rows(rng, 480)[0], 1.0
    for number, (name, (image, pixel)) in enumerate(scenes.items()):
        nothing = np.zeros(image.shape[:2], np.uint8)
        write_pair(work, "others", name, image, nothing, made_up_place(number * 3, pixel, 10), NOWHERE)


def join_web_tiles(paths: list[Path]) -> Picture:
    """Web-map tiles of zoom 19 joined, a quarter of their size (0.13 m to 0.53 m)."""
    places = [tuple(map(int, path.stem.split("-")[1:3])) for path in paths]
    left, top = (min(place[axis] for place in places) for axis in (0, 1))
    right, bottom = (max(place[axis] for place in places) for axis in (0, 1))
    joined = np.zeros(((bottom - top + 1) * 128, (right - left + 1) * 128, 3), np.uint8)
    for path, (x, y) in zip(paths, places, strict=True):
        tile = Image.open(path).convert("RGB").resize((128, 128), Image.Resampling.BOX)
        joined[(y - top) * 128 : (y - top + 1) * 128, (x - left) * 128 : (x - left + 1) * 128] = np.asarray(
            tile
        )
    return joined


def main() -> None:
    """Write everything below ``--work``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("mumbai", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    given = parser.parse_args()
    prepare_mumbai(given.mumbai, given.work)
    prepare_beijing(given.data / "urban_villages", given.work)
    prepare_others(given.data, given.work)


if __name__ == "__main__":
    main()
