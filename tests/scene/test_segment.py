"""Segmenting single scenes and folders: outputs, subsets, failing sensors, resuming."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from domainsam.io.rasters import open_quietly
from domainsam_scene.generated.files import write_samples
from domainsam_scene.generated.scenes import CLASSES, COLOURS
from domainsam_scene.read.images import read_image
from domainsam_scene.segment import segment_files, segment_layout
from domainsam_scene.settings import OutputOptions, SegmentOptions
from domainsam_scene.write.maps import write_arrays
from tests.scene.tiny import TinyModel, tiny_scene_model
from tests.scene.trees import deliver_tree, noise, write_png


def files_of(samples: Path, name: str, *sensors: str) -> list[str]:
    return [word for sensor in sensors for word in (f"--{sensor}", str(samples / sensor / f"{name}.png"))]


def test_one_scene_with_every_output(
    samples: Path, tmp_path: Path, scene: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    given = files_of(samples, "scene000", "rgb", "depth", "event", "lidar")
    outputs = {
        "-o": "map.png",
        "--probability": "p.npz",
        "--confidence": "c.tif",
        "--contribution": "s.npz",
        "--preview": "v.png",
        "--summary": "s.json",
    }
    words = [word for option, name in outputs.items() for word in (option, str(tmp_path / name))]
    assert scene("segment", *given, *words) == 0
    assert "64 x 64 pixels; rgb, depth, event, lidar" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == set(outputs.values())
    labels = read_image(tmp_path / "map.png", indices=True).values[0]
    with np.load(tmp_path / "p.npz") as stored:
        assert tuple(stored["labels"]) == CLASSES
        assert stored["probability"].dtype == np.float16
        np.testing.assert_allclose(stored["probability"].sum(axis=0), 1, atol=5e-3)
        # Rounding to 16 bits may decide a tie otherwise.
        assert (stored["probability"].argmax(axis=0) == labels).mean() > 0.999
    with np.load(tmp_path / "s.npz") as stored:
        shares = np.stack([stored[name] for name in ("rgb", "depth", "event", "lidar")]).astype(int)
    assert np.abs(shares.sum(axis=0) - 254).max() <= 2
    summary = json.loads((tmp_path / "s.json").read_text())
    assert sum(summary["shares"].values()) == pytest.approx(1)


def test_map_carries_the_classes_colours(samples: Path, tmp_path: Path, scene: Callable[..., int]) -> None:
    assert scene("segment", *files_of(samples, "scene000", "rgb"), "-o", tmp_path / "m.png", "-q") == 0
    with open_quietly(tmp_path / "m.png") as dataset:
        table = dataset.colormap(1)
    assert table[255][3] == 0
    assert [table[index][:3] for index in range(len(CLASSES))] == list(COLOURS)


def test_order_of_sensors_does_not_matter(samples: Path, tmp_path: Path) -> None:
    paths = {name: samples / name / "scene001.png" for name in ("rgb", "depth", "event")}
    for number, names in enumerate((("rgb", "depth", "event"), ("event", "rgb", "depth"))):
        outputs = OutputOptions(tmp_path / f"{number}.png")
        segment_files(
            {name: paths[name] for name in names}, SegmentOptions(outputs), tiny_scene_model(reach=2)
        )
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()


def test_another_resolution_is_laid_on_the_camera(
    samples: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = write_png(tmp_path / "nir.png", noise(32, 32))
    options = SegmentOptions(OutputOptions(tmp_path / "m.png"))
    files = {"depth": small, "rgb": samples / "rgb" / "scene000.png"}
    with caplog.at_level(logging.WARNING):
        (result,) = segment_files(files, options, tiny_scene_model()).results
    assert result.shape == (64, 64)
    assert result.notes == ("depth resized from 32 x 32 to 64 x 64",)
    assert "depth resized" in caplog.text


@pytest.mark.parametrize("spoil", ["cut", "blank"])
def test_scene_goes_on_without_a_sensor_that_failed(
    samples: Path, tmp_path: Path, scene: Callable[..., int], capsys: pytest.CaptureFixture[str], spoil: str
) -> None:
    depth = tmp_path / "depth.png"
    if spoil == "cut":
        depth.write_bytes((samples / "depth" / "scene000.png").read_bytes()[:200])
    if spoil == "blank":
        write_png(depth, np.zeros((64, 64), np.uint16))
    given = [*files_of(samples, "scene000", "rgb"), "--depth", depth]
    assert scene("segment", *given, "-o", tmp_path / "m.png", "--json") == 0
    captured = capsys.readouterr()
    (result,) = json.loads(captured.out)["scenes"]
    assert result["sensors"] == ["rgb"]
    assert list(result["missing"]) == ["depth"]
    assert "depth.png" in captured.err
    assert "going on with rgb" in captured.err
    assert scene("segment", *given, "-o", tmp_path / "n.png", "--strict") == 2
    assert not (tmp_path / "n.png").exists()


def test_folder_of_any_layout_with_resume(
    tmp_path: Path,
    use_model: Callable[[TinyModel], TinyModel],
    scene: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = deliver_tree(tmp_path / "DELIVER")
    out = tmp_path / "out"
    command = ["segment", "--layout", "deliver", root, "--split", "val", "-o", out]
    assert scene(*command) == 0
    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert found == [
        "fog/MAP_1_point3/000001.png",
        "fog/MAP_1_point3/000002.png",
        "night/MAP_10_point9_motionblur/000001.png",
        "night/MAP_10_point9_motionblur/000002.png",
    ]
    kept = out / found[1]
    before = kept.read_bytes(), kept.stat().st_mtime_ns
    (out / found[0]).unlink()
    assert scene(*command) == 4
    assert "--overwrite" in capsys.readouterr().err
    assert scene(*command, "--resume") == 0
    assert "3 complete already" in capsys.readouterr().out
    assert (kept.read_bytes(), kept.stat().st_mtime_ns) == before
    assert (out / found[0]).is_file()


def test_bad_sample_among_several(
    samples: Path, tmp_path: Path, scene: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "scenes"
    shutil.copytree(samples, root)
    for sensor in ("rgb", "depth", "event", "lidar"):
        (root / sensor / "scene001.png").write_text("no picture")
    assert scene("segment", "--layout", "plain", root, "-o", tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert "1 of 3 samples failed" in captured.err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["scene000.png", "scene002.png"]


def test_modalities_choose(samples: Path, tmp_path: Path) -> None:
    options = SegmentOptions(OutputOptions(tmp_path / "out"), modalities=("lidar", "rgb"))
    results = segment_layout("plain", samples, None, options, tiny_scene_model()).results
    assert {result.sensors for result in results} == {("lidar", "rgb")}


def test_equal_arrays_make_equal_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_arrays(tmp_path / f"{name}.npz", {"x": np.arange(5)})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.slow
def test_killed_folder_goes_on_to_the_same_maps(tmp_path: Path) -> None:
    """A real process, the shipped model, and no chance to tidy up."""
    write_samples(tmp_path / "scenes", 4, 64)

    def command(out: str) -> list[str]:
        words = [
            sys.executable,
            "-c",
            "import sys; from domainsam_cli import main; sys.exit(main())",
            "scene",
            "segment",
            "--layout",
            "plain",
        ]
        return [*words, str(tmp_path / "scenes"), "-o", str(tmp_path / out), "--quiet"]

    subprocess.run(command("whole"), check=True, capture_output=True)
    running = subprocess.Popen(command("parts"), stderr=subprocess.DEVNULL)
    while running.poll() is None and not list((tmp_path / "parts").glob("*.png")):
        time.sleep(0.005)
    running.kill()
    running.wait()
    assert len(list((tmp_path / "parts").glob("*.png"))) < 4
    subprocess.run([*command("parts"), "--resume"], check=True, capture_output=True)
    found = {path.name: path.read_bytes() for path in (tmp_path / "parts").iterdir()}
    assert found == {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    assert len(found) == 4
