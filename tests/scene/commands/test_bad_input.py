"""Bad input from the command line: one line, the fitting exit code, nothing left behind."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from domainsam_scene.generated.scenes import CLASSES
from tests.scene.test_segment_stack import field, write
from tests.scene.tiny import TinyModel
from tests.scene.trees import deliver_tree, mcubes_tree, muses_tree, noise, write_png


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed last on stderr; nothing on stdout."""
    captured = capsys.readouterr()
    assert captured.out == ""
    line = captured.err.strip().splitlines()[-1]
    assert line.startswith("domainsam: ")
    return line


def refused(
    scene: Callable[..., int], capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 2
) -> str:
    """The one line with which a command is refused."""
    assert scene(*arguments) == code
    return last_line(capsys)


@pytest.fixture
def rgb(tmp_path: Path) -> Path:
    return write_png(tmp_path / "rgb.png", noise(3, 40, 60))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["no sensor was given", "--rgb a.png"]),
        (["--thermal", "rgb.png"], ["not trained on thermal", "rgb, depth, event, lidar"]),
        (["--modality", "sonar=rgb.png"], ["not trained on sonar"]),
        (["--modality", "sonar"], ["NAME=FILE"]),
        (["--rgb", "rgb.png", "--modality", "rgb=rgb.png"], ["given twice"]),
        (["rgb.png"], ["name its sensor", "--rgb rgb.png"]),
        (["--rgb", "rgb.png", "--layout", "plain", "."], ["give one of"]),
        (["--layout", "plain"], ["needs one folder"]),
        (["--rgb", "rgb.png", "--range", "rgb=1"], ["--range", "depth=0,40"]),
        (["--rgb", "none.png"], ["none.png", "no such file"]),
        (["--layout", "plain", "nowhere"], ["nowhere", "no such folder"]),
        (["--layout", "deliver", "."], ["not laid out as deliver", "img"]),
        (["--layout", "mcubes", "."], ["not laid out as mcubes", "list_folder"]),
        (["--layout", "muses", "."], ["not laid out as muses", "meta.json"]),
        (["--geotiff", "rgb=rgb.png"], ["rgb.png", "coordinate reference system", "--modality"]),
        (["--geotiff", "rgb.png"], ["NAME=FILE"]),
        (["--geotiff", "rgb=none.tif"], ["none.tif", "no such file"]),
        (["--geotiff"], ["no raster was given"]),
    ],
)
def test_impossible_calls(
    tmp_path: Path,
    rgb: Path,
    scene: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    out = "map.tif" if "--geotiff" in arguments else "map.png"
    line = refused(scene, capsys, "segment", *arguments, "-o", out)
    for word in words:
        assert word in line
    assert [path.name for path in tmp_path.iterdir()] == ["rgb.png"]


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        (["-o", "map.jpg"], [".jpg", ".png or .tif"]),
        (["-o", "map.png", "--probability", "p.tif"], ["p.tif", ".npz"]),
        (["-o", "map.png", "--preview", "v.pdf"], ["--preview", ".png"]),
        (["-o", "a.png", "--confidence", "a.png"], ["2 times"]),
    ],
)
def test_impossible_outputs(
    tmp_path: Path,
    rgb: Path,
    scene: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    outputs: list[str],
    words: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refused(scene, capsys, "segment", "--rgb", "rgb.png", *outputs)
    for word in words:
        assert word in line


def test_output_over_an_input_or_a_file_that_exists(
    tmp_path: Path, rgb: Path, scene: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    before = rgb.read_bytes()
    assert "one of the inputs" in refused(scene, capsys, "segment", "--rgb", rgb, "-o", rgb, "-f", code=4)
    assert rgb.read_bytes() == before
    kept = tmp_path / "map.png"
    kept.write_text("precious")
    assert "--overwrite" in refused(scene, capsys, "segment", "--rgb", rgb, "-o", kept, code=4)
    assert kept.read_text() == "precious"


def test_sizes_that_cannot_be_aligned(
    tmp_path: Path, rgb: Path, scene: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    depth = write_png(tmp_path / "depth.png", noise(60, 60))
    words = ("--rgb", rgb, "--depth", depth, "-o", tmp_path / "m.png", "--strict")
    line = refused(scene, capsys, "segment", *words)
    assert "rgb is 60 x 40 pixels and depth 60 x 60" in line
    assert "crop" in line


def test_floats_on_an_unknown_scale(
    tmp_path: Path,
    scene: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    use_model: Callable[[TinyModel], TinyModel],
) -> None:
    use_model(TinyModel(("thermal",)))
    np.save(tmp_path / "t.npy", field(30, 30) * 40 + 270)
    words = ["segment", "--thermal", tmp_path / "t.npy", "-o", tmp_path / "m.png"]
    assert "--range thermal=LOW,HIGH" in refused(scene, capsys, *words)
    assert scene(*words, "--range", "thermal=270,310", "-q") == 0


def test_layout_without_a_sensor_in_common_with_the_model(
    tmp_path: Path,
    scene: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    use_model: Callable[[TinyModel], TinyModel],
) -> None:
    root = mcubes_tree(tmp_path / "mcubes")
    use_model(TinyModel(("event", "lidar")))
    line = refused(scene, capsys, "segment", "--layout", "mcubes", root, "-o", tmp_path / "out")
    assert "trained on event, lidar" in line
    assert "no sensor in common" in line
    assert not (tmp_path / "out").exists()


def test_unknown_modality_and_split(
    tmp_path: Path, scene: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    root = deliver_tree(tmp_path / "DELIVER", ("000001",))
    base = ["segment", "--layout", "deliver", root, "-o", tmp_path / "out"]
    assert "sonar is not in layout deliver" in refused(scene, capsys, *base, "--modalities", "sonar")
    assert "'all' is unknown; there are: train, val, test" in refused(scene, capsys, *base, "--split", "all")


def cut_lidar(root: Path) -> Path:
    (path,) = root.glob("lidar/val/**/*.bin")
    path.write_bytes(path.read_bytes()[:-5])
    return path


def cut_events(root: Path) -> Path:
    path = root / "event_camera/val/fog/night/REC0001_frame_000003_event_camera.h5"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(40))
    return path


def cut_projection(root: Path) -> Path:
    path = root / "projected_to_rgb/radar/val/fog/night/REC0001_frame_000003_radar.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, np.zeros((54, 96, 3), np.float32))
    path.write_bytes(path.read_bytes()[:5000])
    return path


def cut_calibration(root: Path) -> Path:
    path = root / "calib.json"
    path.write_text('{"intrinsics": {')
    return path


@pytest.mark.parametrize("spoil", [cut_lidar, cut_events, cut_projection, cut_calibration])
def test_damaged_files_of_muses(
    tmp_path: Path,
    scene: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    use_model: Callable[[TinyModel], TinyModel],
    spoil: Callable[..., Any],
) -> None:
    if spoil is cut_events:
        pytest.importorskip("h5py")
    root = muses_tree(tmp_path / "muses")
    use_model(TinyModel(("rgb", "event", "lidar", "radar")))
    bad = spoil(root)
    base = ["segment", "--layout", "muses", root, "--split", "val"]
    assert scene(*base, "-o", tmp_path / "a", "-q") == 0
    told = capsys.readouterr().err
    assert bad.name in told
    assert "going on with rgb" in told
    assert refused(scene, capsys, *base, "-o", tmp_path / "b", "--strict")
    assert not (tmp_path / "b").exists()


def test_classes_that_do_not_fit_the_model(
    samples: Path,
    scene: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    use_model: Callable[[TinyModel], TinyModel],
) -> None:
    use_model(TinyModel())
    line = refused(scene, capsys, "evaluate", samples, "--layout", "plain")
    assert "its 10 classes do not fit the model's 4" in line
    assert "only the data has ground" in line


def test_labels_out_of_range(
    samples: Path, tmp_path: Path, scene: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "scenes"
    shutil.copytree(samples, root)
    for path in (root / "labels").iterdir():
        write_png(path, np.full((64, 64), len(CLASSES), np.uint8))
    line = refused(scene, capsys, "evaluate", root, "--layout", "plain")
    assert "holds labels 10, expected 0 to 9, or 255" in line


def test_labels_of_another_size(
    samples: Path, tmp_path: Path, scene: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "scenes"
    shutil.copytree(samples, root)
    for path in (root / "labels").iterdir():
        write_png(path, np.zeros((32, 64), np.uint8))
    assert "labels are 64 x 32 pixels" in refused(scene, capsys, "evaluate", root, "--layout", "plain")


def test_evaluating_without_labels(
    samples: Path, tmp_path: Path, scene: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "scenes"
    shutil.copytree(samples, root)
    shutil.rmtree(root / "labels")
    assert "has no labels" in refused(scene, capsys, "evaluate", root, "--layout", "plain")


def test_tiles_that_cannot_be(
    tmp_path: Path, scene: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "o.tif", (field(40, 40) * 255).astype(np.uint8))
    base = ["segment", "--geotiff", f"rgb={path}", "-o", tmp_path / "m.tif"]
    assert "multiple of 32" in refused(scene, capsys, *base, "--tile", "100")
    assert "overlap" in refused(scene, capsys, *base, "--tile", "64", "--overlap", "64")
    assert "has bands 1 to 1" in refused(scene, capsys, *base, "--bands", "rgb=4")
    assert "optical=4,3,2" in refused(scene, capsys, *base, "--bands", "rgb=red")
    assert [file.name for file in tmp_path.iterdir()] == ["o.tif"]


def test_full_disk_keeps_what_was_done(
    tmp_path: Path,
    scene: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write(tmp_path / "o.tif", (field(150, 150) * 255).astype(np.uint8))
    base = ["segment", "--geotiff", f"rgb={path}", "-o", tmp_path / "out" / "m.tif", "--tile", "64"]
    left = [5]
    real = os.pwrite

    def pwrite(descriptor: int, data: bytes, offset: int) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data, offset)

    with monkeypatch.context() as limited:
        limited.setattr(os, "pwrite", pwrite)
        assert "space" in refused(scene, capsys, *base, code=4).lower()
    assert [file.name for file in (tmp_path / "out").iterdir()] == [".m.domainsam"]
    assert scene(*base, "--resume", "-q") == 0
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["m.tif"]
