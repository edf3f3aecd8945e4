"""Training material of the embedded foundation: images with object masks, from folders of real data.

Every record is an RGB image with an id map; objects are class-agnostic. A
fifth of the general photographs and microscope images, chosen by a hash of
their names, is held back for evaluation. The abdominal CT series and the
validation tiles of the urban villages are left out altogether, so that the
domain packs can be judged on them.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from domainsam.train.samples import Record

LONGEST = 640
"""Images are stored with this longest side at most; training crops are smaller still."""
MIN_AREA = 64
"""Objects smaller than this many stored pixels are not asked for."""
SHARES = {
    "coco_open": 5.0,
    "ccp": 2.0,
    "feral_cat": 2.0,
    "dsb2018": 1.5,
    "fair_kampala": 1.5,
    "fair_banepa": 0.5,
    "spacenet_rio": 0.4,
    "urban_villages": 0.8,
}
"""How often each set is drawn, in proportion; others have :data:`domainsam.train.samples.OTHER_SHARE`."""


def held_back(name: str) -> bool:
    """A stable fifth of all names."""
    return hashlib.sha256(name.encode()).digest()[0] % 5 == 0


def shrink(image: Image.Image, ids: NDArray[np.integer]) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """Scale both so that the longest side is at most :data:`LONGEST`."""
    scale = min(1.0, LONGEST / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = np.array(
        image.convert("RGB").resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST)
    )
    labels = np.array(Image.fromarray(ids.astype(np.int32)).resize(size, Image.Resampling.NEAREST))
    return small, labels.astype(np.int16)


def drop_small(ids: NDArray[np.int16]) -> NDArray[np.int16]:
    """Set objects under :data:`MIN_AREA` pixels to 0."""
    area = np.bincount(ids.ravel())
    return np.where(area[ids] >= MIN_AREA, ids, 0).astype(np.int16)


def record(source: str, name: str, image: Image.Image, ids: NDArray[np.integer], general: bool) -> Record:
    """A record of an image and its ids, shrunk; ``general`` sets are split, others all train."""
    small, labels = shrink(image, ids)
    return Record(source, name, general and held_back(name), small, drop_small(labels))


def components(
    classes: NDArray[np.integer], smallest: int
) -> tuple[NDArray[np.int32], tuple[tuple[int, ...], ...]]:
    """Connected parts of a class map, and the groups of parts that share a class."""
    ids = np.zeros(classes.shape, np.int32)
    groups = []
    for value in np.unique(classes[classes > 0]):
        parts, count = ndimage.label(classes == value, np.ones((3, 3)))
        area = np.bincount(parts.ravel(), minlength=count + 1)
        group = []
        for part in range(1, count + 1):
            if area[part] >= smallest:
                group.append(int(ids.max()) + 1)
                ids[parts == part] = group[-1]
        if len(group) > 1:
            groups.append(tuple(group))
    return ids, tuple(groups)


def coco_open(root: Path) -> Iterator[Record]:
    """COCO photographs with open licences: things and stuff."""
    for entry in json.loads((root / "general/coco_open/index_dev.json").read_text()):
        stem = Path(entry["file"]).stem
        ids = np.array(Image.open(root / f"general/coco_open/instances/{stem}.png")).astype(np.int32)
        for segment in entry["segments"]:
            if segment["iscrowd"]:
                ids[ids == segment["id"]] = 0
        image = Image.open(root / f"general/coco_open/images/{entry['file']}")
        yield record("coco_open", stem, image, ids, general=True)


def ccp(root: Path) -> Iterator[Record]:
    """Street fashion: garments, pairs of shoes, whole persons."""
    for path in sorted((root / "general/ccp/images").glob("*.jpg")):
        classes = np.array(Image.open(root / f"general/ccp/labels/{path.stem}.png"))
        image, small = shrink(Image.open(path), classes)
        ids, groups = components(small, MIN_AREA)
        person = tuple(int(value) for value in np.unique(ids[ids > 0]))
        yield Record("ccp", path.stem, held_back(path.stem), image, ids.astype(np.int16), (*groups, person))


def feral_cat(root: Path) -> Iterator[Record]:
    """Cats outdoors, from polygons."""
    folder = root / "general/feral_cat/valid"
    for path in sorted((folder / "images").glob("*.jpg")):
        image = Image.open(path)
        canvas = Image.new("I", image.size)
        lines = (folder / "labels" / f"{path.stem}.txt").read_text().split("\n")
        for index, line in enumerate(filter(None, lines), start=1):
            points = np.array(line.split()[1:], float).reshape(-1, 2) * image.size
            ImageDraw.Draw(canvas).polygon([tuple(point) for point in points], fill=index)
        yield record("feral_cat", path.stem, image, np.array(canvas), general=True)


def dsb2018(root: Path) -> Iterator[Record]:
    """Nuclei under the microscope."""
    for path in sorted((root / "general/dsb2018/images").glob("*.png")):
        ids = np.array(Image.open(root / f"general/dsb2018/labels/{path.name}"))
        yield record("dsb2018", path.stem, Image.open(path), ids.astype(np.int32), general=True)


def slippy_bounds(stem: str) -> tuple[float, float, float, float]:
    """West, south, east, north in degrees of an ``OAM-x-y-z`` web-map tile."""
    x, y, zoom = (int(part) for part in stem.split("-")[1:])
    span = 2**zoom

    def latitude(row: float) -> float:
        return float(np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * row / span)))))

    return x / span * 360 - 180, latitude(y + 1), (x + 1) / span * 360 - 180, latitude(y)


def buildings(root: Path) -> Iterator[Record]:
    """Kampala, Banepa and Rio: building footprints on web-map tiles and GeoTIFFs."""
    import geopandas as gpd
    import rasterio
    from rasterio.features import rasterize
    from rasterio.transform import from_bounds

    def burn(
        shapes: gpd.GeoDataFrame, size: tuple[int, int], transform: rasterio.Affine
    ) -> NDArray[np.int32]:
        pairs = [(shape, index) for index, shape in enumerate(shapes.geometry, start=1) if not shape.is_empty]
        if not pairs:
            return np.zeros(size, np.int32)
        return rasterize(pairs, size, transform=transform, dtype="int32")

    kampala = gpd.read_file(root / "satellite/fair_kampala/buildings_dev.geojson")
    for path in sorted((root / "satellite/fair_kampala/input").glob("*.png")):
        bounds, image = slippy_bounds(path.stem), Image.open(path)
        near = kampala.cx[bounds[0] : bounds[2], bounds[1] : bounds[3]]
        ids = burn(near, (image.height, image.width), from_bounds(*bounds, image.width, image.height))
        yield record("fair_kampala", path.stem, image, ids, general=False)
    banepa = gpd.read_file(root / "satellite/fair_banepa/buildings_dev.geojson")
    rio = root / "satellite/spacenet_rio"
    scenes = [(path, banepa) for path in sorted((root / "satellite/fair_banepa/train/oam").glob("*.tif"))]
    for path in sorted((rio / "3band").glob("*.tif")):
        label = rio / "vectorData/geoJson" / f"{path.stem.removeprefix('3band_')}_Geo.geojson"
        scenes.append((path, gpd.read_file(label)))
    for path, shapes in scenes:
        with rasterio.open(path) as scene:
            pixels = scene.read((1, 2, 3)).transpose(1, 2, 0)
            if not len(shapes) or not pixels.any():
                continue
            near = (shapes.to_crs(scene.crs) if scene.crs else shapes).cx[
                scene.bounds[0] : scene.bounds[2], scene.bounds[1] : scene.bounds[3]
            ]
            ids = burn(near, scene.shape, scene.transform)
        yield record(
            path.parts[-3] if "rio" not in str(path) else "spacenet_rio",
            path.stem,
            Image.fromarray(pixels),
            ids,
            False,
        )


def urban_villages(root: Path) -> Iterator[Record]:
    """Training tiles only, in quarters, so that their texture stays at full resolution."""
    import rasterio

    for path in sorted((root / "satellite/urban_villages/train").glob("*_image.tif")):
        with rasterio.open(path) as scene, rasterio.open(str(path).replace("_image", "_mask")) as mask:
            pixels, classes = scene.read((1, 2, 3)).transpose(1, 2, 0), mask.read(1)
        for row in (0, 424):
            for col in (0, 424):
                view = np.s_[row : row + 600, col : col + 600]
                ids, _ = components(classes[view], MIN_AREA)
                name = f"{path.stem}_{row}_{col}"
                yield record("urban_villages", name, Image.fromarray(pixels[view]), ids, False)


def medical(root: Path) -> Iterator[Record]:
    """Single CT, MR and microscope images with masks, and slices of an MR and a vessel CT."""
    import nibabel as nib

    demo = root / "medical/sammed2d_demo"
    for path in sorted((demo / "images").glob("*.png")):
        image = Image.open(path)
        masks = [
            np.array(Image.open(mask)) > 0 for mask in sorted((demo / "masks").glob(f"{path.stem}_*.png"))
        ]
        ids = np.zeros((image.height, image.width), np.int32)
        for index, mask in enumerate(sorted(masks, key=lambda mask: -int(mask.sum())), start=1):
            ids[mask] = index
        yield record("sammed2d", path.stem, image, ids, False)
    for path in sorted((root / "medical/medscribble").glob("*.npz")):
        sample = np.load(path)
        yield record(
            "medscribble", path.stem, Image.fromarray(sample["img"]), sample["seg"].astype(np.int32), False
        )
    folder = root / "medical/totalsegmentator"
    volume = np.asanyarray(nib.load(folder / "example_mr_sm.nii.gz").dataobj)
    labels = np.asanyarray(nib.load(folder / "example_seg_mr.nii.gz").dataobj)
    window = np.percentile(volume, (1, 99))
    grey = (np.clip((volume - window[0]) / (window[1] - window[0]), 0, 1) * 255).astype(np.uint8)
    for index in range(2, volume.shape[2] - 2, 3):
        ids = labels[:, :, index].astype(np.int32)
        yield record("mr", f"mr_{index}", Image.fromarray(grey[:, :, index]), ids, False)


SOURCES = (coco_open, ccp, feral_cat, dsb2018, buildings, urban_villages, medical)


def load(root: Path) -> list[Record]:
    """All records with at least one object, in a stable order."""
    return [item for source in SOURCES for item in source(root) if item.ids.any()]


def load_once(root: Path, work: Path) -> list[Record]:
    """All records of a data folder, kept in the work folder between runs."""
    kept = work / "corpus.pkl"
    if kept.is_file():
        return list(pickle.loads(kept.read_bytes()))
    records = load(root)
    work.mkdir(parents=True, exist_ok=True)
    kept.write_bytes(pickle.dumps(records))
    return records
