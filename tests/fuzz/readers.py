"""What reads each format, and a digest of all that it read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Reader = Callable[[Path], str]


def digest(*parts: Any) -> str:
    """Of arrays, texts and numbers."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(str((part.shape, part.dtype)).encode() + np.ascontiguousarray(part).tobytes())
        else:
            found.update(repr(part).encode())
    return found.hexdigest()


def read_volume(path: Path) -> str:
    from domainsam_ct.read.open import open_volume

    with open_volume(path) as volume:
        voxels = [volume.slices(number, number + 1) for number in range(min(volume.shape[2], 64))]
        return digest(volume.shape, np.round(volume.grid.affine, 6), volume.warnings, *voxels)


def read_labels(path: Path) -> str:
    from domainsam_ct.read.open import read_mask

    labels, geometry = read_mask(path)
    return digest(labels, np.round(geometry.grid.affine, 6), dict(geometry.names), geometry.warnings)


def read_scene(path: Path) -> str:
    from domainsam.protocols import Window
    from domainsam_urban.read.scene import RasterSource

    with RasterSource(path, allow_no_crs=True) as source:
        rows, cols = source.grid.shape
        block = source.read(Window(0, 0, min(rows, 512), min(cols, 512)))
        return digest(block.image, block.valid, np.round(source.grid.affine, 6), source.notes)


def read_stack(path: Path) -> str:
    from domainsam.protocols import Window
    from domainsam_scene.read.rasters import SceneSource

    with SceneSource({"optical": path}) as source:
        block = source.read(Window(0, 0, 64, 64))
        return digest(block.image, block.valid)


def read_shapes(path: Path) -> str:
    from domainsam_urban.read.layers import read_polygons

    shapes, notes = read_polygons(path)
    return digest([shape.wkb_hex for shape in shapes], str(shapes.crs), notes)


def read_marked(path: Path) -> str:
    from domainsam.grid import Grid
    from domainsam.io.marks import read_marks

    affine = np.array([[0, 1, 450000.5], [-1, 0, 4429999.5], [0, 0, 1.0]])
    grid = Grid((200, 200), affine, "EPSG:32650")
    return digest(read_marks(path, grid))


def read_catalogue(path: Path) -> str:
    from domainsam_urban.read.listings import read_stac

    return digest(read_stac(path))


def read_listing(path: Path) -> str:
    from domainsam_urban.read.listings import read_csv

    return digest(read_csv(path))


def read_sample(path: Path) -> str:
    from affine import Affine
    from pyproj import CRS

    from domainsam_urban.trend.ground import CommonGround
    from domainsam_urban.trend.read.reference import read_reference
    from domainsam_urban.trend.settings import UncertaintyOptions

    ground = CommonGround(
        CRS.from_epsg(32650).to_wkt(), Affine(10, 0, 450000, 0, -10, 4430000), 100, 100, 10.0
    )
    found = read_reference(path, ground, ("2016", "2020"), UncertaintyOptions())
    return digest(found.truth, found.weight, [shape.wkb_hex for shape in found.shapes], found.notes)


def read_picture(path: Path) -> str:
    from domainsam_scene.read.images import read_image

    raw = read_image(path)
    return digest(raw.values, raw.valid)


def read_photo(path: Path) -> str:
    from domainsam_photo.read.pictures import read_mask, read_picture

    return digest(read_picture(path), read_mask(path))


def read_film(path: Path) -> str:
    from domainsam_photo.read.films import open_film

    with open_film(path) as film:
        return digest(film.frames, film.rate, *(film.read(number) for number in range(min(film.frames, 64))))


def read_cloud(path: Path) -> str:
    from domainsam_scene.read.layouts.projection import project_lidar

    return digest(project_lidar(path, _calibration(), (108, 192)))


def read_events(path: Path) -> str:
    from domainsam_scene.read.layouts.projection import project_events

    return digest(project_events(path, _calibration(), (108, 192)))


def _calibration() -> Any:
    from domainsam_scene.read.layouts.projection import Calibration

    camera = np.array([[1500.0, 0, 960], [0, 1500.0, 540], [0, 0, 1]])
    move = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    return Calibration(camera, camera, move, move, np.eye(4))


def read_muses(path: Path) -> str:
    from domainsam_scene.read.layouts import muses

    return digest(muses.MusesLayout().samples(path, "val"))


def read_model(path: Path) -> str:
    from domainsam.checkpoint import load

    found = load(path, "fuzz")
    return digest(found.header, *(tensor.numpy() for _, tensor in sorted(found.tensors.items())))


def read_torch(path: Path) -> str:
    from domainsam.foundation.loading import read_tensors

    return digest(*(tensor.numpy() for _, tensor in sorted(read_tensors(path).items())))


def read_recipe(path: Path) -> str:
    from domainsam.config import read_config
    from domainsam_ct.train.recipe import TrainConfig

    return digest(read_config(TrainConfig, path))


def read_label_map(path: Path) -> str:
    from domainsam_ct.labels import load_label_map

    return digest(load_label_map(path))


def read_journal(path: Path) -> str:
    from domainsam.infer.journal import Journal, Steps

    with Journal(path, {"input": "a"}, resume=True) as journal:
        return digest(journal.records, sorted(map(str, Steps(journal)._done)))
