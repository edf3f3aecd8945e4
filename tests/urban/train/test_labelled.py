"""Labels on a scene's grid, and the ground shared out between training and validation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine

from domainsam.errors import InputError
from domainsam.protocols import Window
from domainsam.train.losses import IGNORE
from domainsam.train.split import BlockOptions, add_counts, choose_blocks
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.train.labelled import (
    JUDGED,
    LEARNT,
    LabelledScene,
    assign_sides,
    count_scene,
    find_outside,
    locate_cell_corners,
    stage_scene,
)
from tests.urban.tiny import PLACE, UTM, write_scene

ROWS, COLS = 96, 128


def picture(rows: int = ROWS, cols: int = COLS) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (rows, cols, 3), dtype=np.uint8)


def box(left: int, top: int, right: int, bottom: int, transform: Affine = PLACE) -> shapely.Polygon:
    return shapely.box(*(transform @ (left, bottom)), *(transform @ (right, top)))


@contextmanager
def staged(
    folder: Path, scene: Path, labels: Path, resolution: float | None = None
) -> Iterator[LabelledScene]:
    result = stage_scene(RasterSource(scene, resolution=resolution), labels, folder, scene.stem, 1.0)
    try:
        yield result
    finally:
        result.close()


def polygons(path: Path, shapes: list[shapely.Geometry], crs: str = UTM) -> Path:
    gpd.GeoDataFrame(geometry=shapes, crs=UTM).to_crs(crs).to_file(path)
    return path


@pytest.mark.parametrize("crs", [UTM, "EPSG:4326", "EPSG:3857"])
def test_polygons_of_any_crs_are_burnt_where_they_lie(tmp_path: Path, crs: str) -> None:
    scene = write_scene(tmp_path / "a.tif", picture())
    labels = polygons(tmp_path / "l.gpkg", [box(20, 10, 60, 50)], crs)
    with staged(tmp_path, scene, labels) as result:
        expected = np.zeros((ROWS, COLS), np.uint8)
        expected[10:50, 20:60] = 1
        assert np.mean(result.truth != expected) < 0.003
        assert set(np.unique(result.truth)) == {0, 1}


def test_mended_and_empty_geometries_are_counted(tmp_path: Path) -> None:
    bow = shapely.Polygon([PLACE @ p for p in ((10, 10), (50, 50), (50, 10), (10, 50))])
    labels = polygons(tmp_path / "l.gpkg", [bow, box(60, 60, 80, 80), shapely.Polygon()])
    with staged(tmp_path, write_scene(tmp_path / "a.tif", picture()), labels) as result:
        assert any("1 of 3" in note and "mended" in note for note in result.notes)
        assert any("1 of 3" in note and "empty" in note for note in result.notes)
        assert int((result.truth == 1).sum()) == pytest.approx(20 * 20 + 800, rel=0.05)


def test_pixels_without_image_have_no_label(tmp_path: Path) -> None:
    image = picture()
    image[:30] = 0
    scene = write_scene(tmp_path / "a.tif", image, nodata=0)
    mask = write_scene(tmp_path / "a_mask.tif", np.ones((ROWS, COLS, 1), np.uint8))
    with staged(tmp_path, scene, mask) as result:
        assert np.all(result.truth[:30] == IGNORE)
        assert np.all(result.truth[30:] == 1)


def test_masks_follow_the_work_grid(tmp_path: Path) -> None:
    mask = np.zeros((ROWS, COLS, 1), np.uint8)
    mask[:48] = 1
    scene = write_scene(tmp_path / "a_image.tif", picture())
    with staged(tmp_path, scene, write_scene(tmp_path / "m.tif", mask), 1.8) as result:
        assert abs(result.shape[0] - ROWS / 2) <= 1
        assert result.truth.mean() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("kind", ["polygons", "mask"])
def test_labels_elsewhere_are_refused(tmp_path: Path, kind: str) -> None:
    far = Affine.translation(90_000, 0) @ PLACE
    if kind == "polygons":
        labels = polygons(tmp_path / "l.gpkg", [box(0, 0, 9, 9, far)])
    else:
        labels = write_scene(tmp_path / "m.tif", np.ones((ROWS, COLS, 1), np.uint8), transform=far)
    scene = write_scene(tmp_path / "a.tif", picture())
    with (
        pytest.raises(InputError, match=r"do(es)? not overlap.*covers? .*the scene \["),
        staged(tmp_path, scene, labels),
    ):
        pass


def test_polygons_without_crs_are_refused_with_a_hint(tmp_path: Path) -> None:
    labels = tmp_path / "l.gpkg"
    with pytest.warns(UserWarning, match="crs"):
        gpd.GeoDataFrame(geometry=[box(0, 0, 9, 9)]).to_file(labels)
    with (
        pytest.raises(InputError, match=r"no CRS.*assign"),
        staged(tmp_path, write_scene(tmp_path / "a.tif", picture()), labels),
    ):
        pass


def test_a_world_point_of_two_overlapping_scenes_is_on_one_side_only(tmp_path: Path) -> None:
    size = 512
    image = picture(size, size)
    mask = (np.indices((size, size)).sum(0) // 64 % 2).astype(np.uint8)[..., None]
    shift = Affine.translation(size // 2, 0)
    scenes = []
    for name, place in (("a", PLACE), ("b", PLACE @ shift)):
        path = write_scene(tmp_path / f"{name}.tif", image, transform=place)
        labels = write_scene(tmp_path / f"{name}_mask.tif", mask, transform=place)
        scenes.append(stage_scene(RasterSource(path), labels, tmp_path, name, 1.0))
    options = BlockOptions(size_m=80, buffer_m=15)
    split = choose_blocks(add_counts([count_scene(scene, 80) for scene in scenes]), options)
    world = np.zeros((2, size, size + size // 2), bool)
    for number, scene in enumerate(scenes):
        scene.share_out(assign_sides(scene, split.is_training, split.is_validation))
        assert (scene.sides == LEARNT).any()
        assert (scene.sides == JUDGED).any()
        whole = Window(0, 0, size, size)
        left = number * size // 2
        world[0, :, left : left + size] |= scene.sample(whole).image.any(axis=0)
        world[1, :, left : left + size] |= scene.judged(whole).labels != IGNORE
        scene.close()
    assert world.any(axis=(1, 2)).all()
    assert not (world[0] & world[1]).any()


def test_ground_of_validation_scenes_is_hidden_from_training(tmp_path: Path) -> None:
    mask = write_scene(tmp_path / "m.tif", np.ones((ROWS, COLS, 1), np.uint8))
    kept = PLACE @ Affine.translation(COLS // 2, 0)
    other = write_scene(tmp_path / "v.tif", picture(), transform=kept)
    with (
        staged(tmp_path, write_scene(tmp_path / "a.tif", picture()), mask) as scene,
        staged(tmp_path, other, mask) as val,
    ):
        learnt = find_outside([val], 5.0)
        scene.share_out(assign_sides(scene, learnt, lambda points: ~learnt(points)))
        seen = scene.sample(Window(0, 0, ROWS, COLS))
        assert not seen.valid[:, COLS // 2 - 5 :].any()
        assert seen.valid[:, : COLS // 2 - 16].all()
        assert np.all(scene.anchors[:, 1] < COLS // 2)
        assert locate_cell_corners(scene.source).shape == (ROWS // 8 + 1, COLS // 8 + 1, 2)
