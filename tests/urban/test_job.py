"""Outputs are settled and checked before any work: names, clashes, permission, space."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from domainsam.errors import ConfigError, OutputError
from domainsam.staging import check_targets
from domainsam_urban.job import make_scene_stem, plan_outputs
from domainsam_urban.settings import OutputOptions


def options(*vectors: str, **more: Any) -> OutputOptions:
    paths: dict[str, Any] = {
        key: Path(value) if isinstance(value, str) else value for key, value in more.items()
    }
    return OutputOptions(vectors=tuple(Path(path) for path in vectors), **paths)


@pytest.mark.parametrize(
    ("source", "stem"),
    [
        ("scenes/a.b.tif", "a.b"),
        ("/vsizip/x.zip/inner/scene one.tif", "scene_one"),
        ("/vsicurl/https://host/path/east.tif?token=1", "east"),
        ("folder/", "folder"),
        ("???", "scene"),
    ],
)
def test_stem_is_a_safe_file_name(source: str, stem: str) -> None:
    assert make_scene_stem(source) == stem


def test_one_scene_to_named_files() -> None:
    (plan,) = plan_outputs(["a.tif"], options("s.gpkg", "s.fgb", probability="p.tif", grid=100.0))
    assert plan.vectors == (Path("s.gpkg"), Path("s.fgb"))
    assert set(plan.files) == {
        Path(name)
        for name in ("s.gpkg", "s.fgb", "s.qml", "s_grid.fgb", "s_grid.qml", "p.tif", "s.stac.json")
    }
    assert plan.work == Path(".s.domainsam")
    assert list(plan.named) == ["polygons gpkg", "polygons fgb", "probability", "stac"]


def test_folder_names_files_after_the_scenes(tmp_path: Path) -> None:
    plans = plan_outputs(
        ["x/a.tif", "x/b.tif"], options(str(tmp_path), probability=str(tmp_path), stac=False)
    )
    assert [plan.files for plan in plans] == [
        (tmp_path / "a.gpkg", tmp_path / "a_probability.tif"),
        (tmp_path / "b.gpkg", tmp_path / "b_probability.tif"),
    ]


def test_a_name_without_extension_is_a_folder() -> None:
    (plan,) = plan_outputs(["a.tif"], options("out", preview="out", summary="out", mask="out", stac=False))
    assert [path.as_posix() for path in plan.files] == [
        "out/a.gpkg",
        "out/a_mask.tif",
        "out/a_preview.png",
        "out/a_summary.json",
    ]


def test_stem_placeholder() -> None:
    plans = plan_outputs(["a.tif", "b.tif"], options("o/{stem}/s.parquet", stac=False))
    assert [plan.vectors[0].as_posix() for plan in plans] == ["o/a/s.parquet", "o/b/s.parquet"]


@pytest.mark.parametrize("inputs", [["a.tif", "b.tif"], ["x/a.tif", "y/a.tif"]])
def test_scenes_never_share_a_file(inputs: list[str]) -> None:
    out = "s.gpkg" if inputs[1] == "b.tif" else "out"
    with pytest.raises(ConfigError, match=r"would be written 2 times.*\{stem\}"):
        plan_outputs(inputs, options(out))


def test_an_output_never_replaces_the_scene(tmp_path: Path) -> None:
    scene = tmp_path / "a.tif"
    scene.touch()
    with pytest.raises(OutputError, match="is one of the scenes"):
        plan_outputs([str(scene)], options("s.gpkg", mask=str(scene)))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"vectors": ("s.shp",)}, r"\.shp.*\.gpkg"),
        ({"vectors": ("s.gpkg",), "preview": "p.jpg"}, r"--preview 'p\.jpg' must end in \.png"),
        ({"vectors": ("s.gpkg",), "probability": "p.vrt"}, r"--probability.*\.tif"),
    ],
)
def test_unknown_extensions_are_named(given: dict[str, Any], words: str) -> None:
    vectors = given.pop("vectors")
    with pytest.raises(ConfigError, match=words):
        plan_outputs(["a.tif"], options(*vectors, **given))


def test_existing_files_are_refused_until_allowed(tmp_path: Path) -> None:
    (plan,) = plan_outputs(["a.tif"], options(str(tmp_path / "s.gpkg"), stac=False))
    check_targets(plan.files, overwrite=False)
    assert not plan.complete
    plan.vectors[0].write_text("precious")
    with pytest.raises(OutputError, match="--overwrite"):
        check_targets(plan.files, overwrite=False)
    check_targets(plan.files, overwrite=True)
    assert all(path.is_file() for path in plan.files)
    assert plan.vectors[0].read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["s.gpkg"]


def test_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "s.stac.json").mkdir()
    (plan,) = plan_outputs(["a.tif"], options(str(tmp_path / "s.gpkg")))
    with pytest.raises(OutputError, match="is a folder"):
        check_targets(plan.files, overwrite=True)


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    (plan,) = plan_outputs(["a.tif"], options(str(blocked / "s.gpkg")))
    with pytest.raises(OutputError, match="cannot write to folder"):
        check_targets(plan.files, overwrite=False)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    (plan,) = plan_outputs(["a.tif"], options(str(tmp_path / "s.gpkg")))
    with pytest.raises(OutputError, match="check its permissions"):
        check_targets(plan.files, overwrite=False)


def test_rasters_alone_are_enough_but_something_must_be_wanted() -> None:
    (plan,) = plan_outputs(["a.tif"], options(probability="o/p.tif"))
    assert plan.files == (Path("o/p.tif"), Path("o/p.stac.json"))
    assert plan.work == Path("o/.p.domainsam")
    with pytest.raises(ConfigError, match="no output was asked"):
        plan_outputs(["a.tif"], options())
