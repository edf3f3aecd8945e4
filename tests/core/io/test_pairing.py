"""Scenes, labels and answers find each other by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from domainsam.errors import InputError
from domainsam.io.pairing import find_answer, find_labels, find_scenes


def test_pairing_knows_the_usual_names(tmp_path: Path) -> None:
    for name in ("x_image.tif", "x_mask.tif", "y.tif", "y.gpkg"):
        (tmp_path / name).touch()
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "y.tif").touch()
    x, y = find_scenes([tmp_path, tmp_path / "y.tif"])
    assert (x.name, y.name) == ("x_image", "y")
    assert find_labels(x, tmp_path).name == "x_mask.tif"
    assert find_labels(y, tmp_path).name == "y.gpkg", "a scene is not its own label"
    assert find_labels(y, tmp_path / "labels") == tmp_path / "labels" / "y.tif"
    assert find_answer(x, tmp_path / "y.gpkg").name == "y.gpkg"
    with pytest.raises(InputError, match=r"no prediction for scene 'x_image\.tif'"):
        find_answer(x, tmp_path / "labels")


def test_scenes_of_one_stem_keep_their_folders_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "s.tif").touch()
    names = [scene.name for scene in find_scenes([tmp_path / "one", tmp_path / "two"])]
    assert names == ["one/s", "two/s"]
