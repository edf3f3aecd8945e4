"""Marks on volumes: voxels and millimetres become exact slices and pixels, however the file's axes lie."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from domainsam.errors import InputError
from domainsam.io.marks import read_marks
from domainsam.protocols import Click, SceneObject, Window
from domainsam_ct.read.geometry import NativeGeometry, Orientation, axial_grid, to_axial

SHAPE = (20, 30, 12)


def geometry(kind: str) -> NativeGeometry:
    """A volume whose axes lie as a scanner's might: straight, flipped, permuted or oblique."""
    affine = np.diag([0.7, 0.8, 2.5, 1.0])
    affine[:3, 3] = (-11.0, 23.0, 100.0)
    if kind == "flipped":
        affine[:3, :3] = np.diag([-0.7, 0.8, -2.5])
    if kind == "sagittal":
        affine[:3, :3] = np.array([[0, 0, -2.5], [0.7, 0, 0], [0, 0.8, 0]])
    if kind == "oblique":
        angle = np.deg2rad(17)
        turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
        affine[:3, :3] = turn @ affine[:3, :3]
    return NativeGeometry(SHAPE, affine, Orientation.of(affine), "nifti")


def read(path: Path, native: NativeGeometry, frame: str, *objects: dict[str, Any]) -> tuple[SceneObject, ...]:
    path.write_text(json.dumps({"frame": frame, "objects": list(objects)}))
    return read_marks(path, axial_grid(native.canonical_grid()), voxels=native.native_grid())


@pytest.mark.parametrize("kind", ["straight", "flipped", "sagittal", "oblique"])
@pytest.mark.parametrize("frame", ["voxel", "RAS", "LPS"])
def test_every_voxel_is_found_where_the_picture_shows_it(tmp_path: Path, kind: str, frame: str) -> None:
    native = geometry(kind)
    voxel = np.array([3, 21, 7])
    volume = np.zeros(SHAPE, np.uint8)
    volume[tuple(voxel)] = 1
    pictures = to_axial(native.orientation.to_canonical(volume))
    ((number, row, col),) = np.argwhere(pictures)
    place = voxel if frame == "voxel" else native.affine[:3, :3] @ voxel + native.affine[:3, 3]
    if frame == "LPS":
        place = place * (-1, -1, 1)
    (one,) = read(tmp_path / "p.json", native, frame, {"label": "liver", "points": [list(map(float, place))]})
    assert one.bounds == Window(row, col, 1, 1, number)
    assert one.points == (Click(col + 0.5, row + 0.5),)
    assert one.label == "liver"


def test_axial_grid_places_the_elements_of_axial() -> None:
    native = geometry("oblique")
    canonical = native.canonical_grid()
    index = np.stack(np.meshgrid(*map(np.arange, canonical.shape), indexing="ij"), axis=-1)
    world = canonical.to_world(index)
    pictures = np.stack([to_axial(world[..., axis]) for axis in range(3)], axis=-1)
    grid = axial_grid(canonical)
    assert grid.shape == pictures.shape[:3]
    assert np.allclose(grid.to_world(np.argwhere(np.ones(grid.shape))), pictures.reshape(-1, 3))


def test_a_slice_number_stands_for_the_third_voxel_index(tmp_path: Path) -> None:
    native = geometry("straight")
    by_slice, by_z = read(
        tmp_path / "p.json",
        native,
        "voxel",
        {"points": [[3, 21]], "slice": 7},
        {"points": [[3, 21, 7]]},
    )
    assert by_slice.bounds == by_z.bounds
    assert by_slice.bounds.frame == 7


def test_boxes_lie_on_their_slices(tmp_path: Path) -> None:
    native = geometry("straight")
    flat, *deep = read(
        tmp_path / "p.json",
        native,
        "voxel",
        {"box": [2.5, 9.5, 6.5, 19.5], "slice": 4},
        {"label": "spleen", "box": [2.5, 9.5, 3.5, 6.5, 19.5, 6.5]},
    )
    # Pictures run from front to back and from the patient's right: both axes turn round.
    assert flat.box == (20 - 7.0, 30 - 20.0, 20 - 3.0, 30 - 10.0)
    assert flat.bounds == Window(10, 13, 10, 4, 4)
    assert [one.bounds.frame for one in deep] == [4, 5, 6]
    assert {one.box for one in deep} == {flat.box}
    with pytest.raises(InputError, match=r"crosses slices 10 to 19 of the pictures; give 6 numbers"):
        read(tmp_path / "p.json", geometry("sagittal"), "voxel", {"box": [2, 9.5, 6, 19.5], "slice": 4})


def test_the_frame_is_never_guessed(tmp_path: Path) -> None:
    native = geometry("straight")
    grid = axial_grid(native.canonical_grid())
    table = tmp_path / "p.csv"
    table.write_text("x,y,z\n3,21,7\n")
    with pytest.raises(InputError, match="state the frame: voxel or RAS or LPS or pixel"):
        read_marks(table, grid, voxels=native.native_grid())
    (one,) = read_marks(table, grid, voxels=native.native_grid(), frame="voxel")
    assert one.bounds == Window(30 - 22, 20 - 4, 1, 1, 7)
    with pytest.raises(InputError, match="frame 'world' cannot be used here; expected voxel or RAS"):
        read(table.with_suffix(".json"), native, "world", {"points": [[1, 2, 3]]})
    with pytest.raises(InputError, match="has only x and y; give z, RAS millimetres are three"):
        read(table.with_suffix(".json"), native, "RAS", {"points": [[1, 2]], "slice": 3})
    path = tmp_path / "p.gpkg"
    path.write_bytes(b"")
    with pytest.raises(InputError, match="a vector file cannot mark a volume"):
        read_marks(path, grid)
