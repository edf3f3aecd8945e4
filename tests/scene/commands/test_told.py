"""Several sensors are never silently read in another way than a person or a model means it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import domainsam
from domainsam.errors import ConfigError, InputError, MissingInputError
from domainsam_scene.evaluate.evaluate import EvaluateOptions, evaluate_layout, lay_on_network
from domainsam_scene.generated.scenes import CLASSES
from domainsam_scene.read.images import RawImage
from domainsam_scene.read.layouts.base import SampleRef, read_sample
from domainsam_scene.read.layouts.plain import PlainLayout
from domainsam_scene.read.layouts.projection import dilate_events
from domainsam_scene.read.modalities import Sample, scale_plane
from domainsam_scene.read.reading import make_reading_table, parse_reading_table, settle_reading
from domainsam_scene.settings import Reading, ReadOptions
from tests.scene.test_segment_stack import field, write
from tests.scene.tiny import TinyModel, tiny_scene_model
from tests.scene.trees import noise, write_png


def test_a_typed_path_that_is_not_there_is_an_error(
    samples: Path, tmp_path: Path, scene: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    rgb, absent = samples / "rgb" / "scene000.png", tmp_path / "depht.png"
    assert scene("segment", "--rgb", rgb, "--depth", absent, "-o", tmp_path / "m.png") == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "depht.png: no such file, given for sensor depth" in line
    boxes = tmp_path / "boxes.csv"
    boxes.write_text("x0,y0,x1,y1\n2,2,30,30\n")
    assert scene("segment", "--rgb", rgb, "--depth", absent, "--boxes", boxes, "-o", tmp_path / "m.png") == 2
    assert not (tmp_path / "m.png").exists()
    with pytest.raises(MissingInputError, match="depht"):
        domainsam.open({"rgb": rgb, "depth": absent}, pack="scene")


def test_a_typed_raster_that_is_not_there_is_an_error(
    tmp_path: Path, scene: Callable[..., int], use_model: Callable[[TinyModel], TinyModel]
) -> None:
    use_model(TinyModel(("optical", "sar")))
    optical = write(tmp_path / "o.tif", field(40, 40))
    words = ["segment", "--geotiff", f"optical={optical}", f"sar={tmp_path / 's.tif'}"]
    assert scene(*words, "-o", tmp_path / "m.tif") == 2
    assert not (tmp_path / "m.tif").exists()


def test_a_sensor_asked_for_that_no_sample_has_is_an_error(
    samples: Path, tmp_path: Path, scene: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "scenes"
    shutil.copytree(samples, root)
    for path in (root / "event").iterdir():
        path.rename(path.with_suffix(".raw"))
    for words in (["segment", root, "-o", tmp_path / "out"], ["evaluate", root]):
        assert scene(*words, "--layout", "plain", "--modalities", "rgb,event") == 2
        assert "event" in capsys.readouterr().err


def test_align_and_georeferenced_rasters_do_not_go_together(
    tmp_path: Path, scene: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    optical = write(tmp_path / "o.tif", field(40, 40))
    assert scene("segment", "--geotiff", f"rgb={optical}", "--align", "-o", tmp_path / "m.tif") == 2
    assert "align moves pictures of one view" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="align"):
        domainsam.run("scene", {"rgb": optical}, tmp_path / "m.tif", geotiff=True, align=True)


@pytest.mark.parametrize("spot", [0.0, 1.0])
def test_a_constant_raster_delivered_nothing(
    tmp_path: Path,
    scene: Callable[..., int],
    use_model: Callable[[TinyModel], TinyModel],
    capsys: pytest.CaptureFixture[str],
    spot: float,
) -> None:
    """One other pixel that no overview of the raster shows is something, though."""
    use_model(TinyModel(("optical", "sar")))
    values = np.full((2600, 60), 0.25, np.float32)
    values[1301, 31] += spot
    given = {"optical": write(tmp_path / "o.tif", field(60, 60)), "sar": write(tmp_path / "s.tif", values)}
    words = ["segment", "--geotiff", *(f"{name}={path}" for name, path in given.items())]
    assert scene(*words, "-o", tmp_path / "m.tif", "--strict") == (0 if spot else 2)
    capsys.readouterr()
    assert scene(*words, "-o", tmp_path / "n.tif", "--json") == 0
    captured = capsys.readouterr()
    (result,) = json.loads(captured.out)["scenes"]
    assert result["sensors"] == (["optical", "sar"] if spot else ["optical"])
    assert ("delivered nothing" in captured.err) == (not spot)


def test_another_aspect_costs_the_sensor_and_not_the_sample(tmp_path: Path) -> None:
    files = {
        "rgb": (write_png(tmp_path / "a.png", noise(3, 40, 60)),),
        "depth": (write_png(tmp_path / "d.png", noise(60, 60)),),
        "lidar": (write_png(tmp_path / "l.png", noise(20, 30)),),
    }
    ref = SampleRef("a", files)
    sample = read_sample(PlainLayout(), ref, tuple(files))
    assert list(sample.images) == ["rgb", "lidar"]
    assert "rgb is 60 x 40 pixels and depth 60 x 60" in sample.missing["depth"]
    with pytest.raises(InputError, match="no one scale fits"):
        read_sample(PlainLayout(), ref, tuple(files), ReadOptions(strict=True))


def test_a_model_is_shown_what_it_learnt_from() -> None:
    learnt = Reading({"depth": (0.0, 40.0)}, {"sar": (2,)}, dilate=2, known=True)
    assert (
        parse_reading_table(
            json.loads(
                json.dumps(make_reading_table(ReadOptions(learnt.ranges, dilate=2, bands=learnt.bands)))
            ),
            "a",
        )
        == learnt
    )
    silent = settle_reading(ReadOptions(), learnt, ("rgb", "depth"))
    assert (silent.ranges, silent.dilate, silent.notes) == ({"depth": (0.0, 40.0)}, 2, ())
    other = settle_reading(ReadOptions({"depth": (0.0, 80.0), "rgb": (0.0, 9.0)}), learnt, ("rgb", "depth"))
    assert other.ranges == {"depth": (0.0, 80.0), "rgb": (0.0, 9.0)}
    assert "--range depth=0,80 was asked for, but the model learnt with depth=0,40" in other.notes[1]
    assert "rgb" in other.notes[0]
    raster = settle_reading(ReadOptions(bands={"sar": (1,)}), learnt, ("sar",), rasters=True)
    assert raster.bands == {"sar": (1,)}
    assert ["--bands sar=1" in raster.notes[0], "learnt from pictures" in raster.notes[1]] == [True, True]
    assert settle_reading(ReadOptions(), Reading(), ("rgb",)).notes == ()


def test_the_range_in_the_model_counts_and_another_is_told(
    samples: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Depth of 0 to 40 m and not of 0 to 80 m: twice as bright, unless somebody says otherwise."""
    model = tiny_scene_model(labels=CLASSES, reading=Reading({"depth": (0.0, 40000.0)}, known=True))
    options = EvaluateOptions(modalities=("depth",))
    by_file = evaluate_layout("plain", samples, None, model, options)
    plain = tiny_scene_model(labels=CLASSES)
    asked = EvaluateOptions(("depth",), read=ReadOptions({"depth": (0.0, 40000.0)}))
    by_hand = evaluate_layout("plain", samples, None, plain, asked)
    usual = evaluate_layout("plain", samples, None, plain, options)
    assert np.array_equal(by_file.matrix("all sensors"), by_hand.matrix("all sensors"))
    assert not np.array_equal(by_file.matrix("all sensors"), usual.matrix("all sensors"))
    assert by_file.notes == by_hand.notes
    other = EvaluateOptions(("depth",), read=ReadOptions({"depth": (0.0, 90000.0)}))
    assert "depth=0,40000" in evaluate_layout("plain", samples, None, model, other).notes[0]
    assert "depth=0,40000" in caplog.text


def _truth(root: Path, values: np.ndarray[Any, Any]) -> Path:
    for name in ("a", "b"):
        write_png(root / "rgb" / f"{name}.png", noise(3, *values.shape))
        write_png(root / "labels" / f"{name}.png", values.astype(np.uint8))
    (root / "labels.txt").write_text("ground\nhouse\n")
    return root


def test_a_class_that_never_occurs_has_no_iou(
    tmp_path: Path, scene: Callable[..., int], use_model: Callable[[TinyModel], TinyModel], capsys: Any
) -> None:
    """A mask of 0 and 255 leaves one class, and no mean of 1.000 [1.000, 1.000]."""
    use_model(TinyModel(("rgb",), ("ground", "house")))
    mask = np.zeros((32, 32), np.uint8)
    mask[8:20, 8:20] = 255
    root = _truth(tmp_path, mask)
    for name in ("a", "b"):
        write_png(root / "rgb" / f"{name}.png", np.full((3, 32, 32), 10, np.uint8) + noise(3, 32, 32, high=9))
    assert scene("evaluate", root, "--layout", "plain", "--json") == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert document["never_in_labels"] == ["house"]
    whole = document["variants"][0]
    assert (whole["miou"], whole["miou_low"], whole["miou_high"]) == (None, None, None)
    assert whole["class_iou"] == [1.0, None]
    assert "ground alone occurs" in captured.err
    assert "255" in captured.err


def test_every_variant_by_condition_in_the_table(
    samples: Path, tmp_path: Path, scene: Callable[..., int]
) -> None:
    table = tmp_path / "s.csv"
    words = ["evaluate", samples, "--layout", "plain", "--missing", "subsets", "--csv", table, "--quiet"]
    assert scene(*words) == 0
    rows = list(csv.DictReader(table.read_text().splitlines()))
    found = evaluate_layout(
        "plain", samples, None, tiny_scene_model(labels=CLASSES), EvaluateOptions(protocols=("subsets",))
    )
    assert len(rows) == 15 * (1 + 3 + 1)
    (fog,) = (
        row for row in rows if (row["variant"], row["condition"], row["value"]) == ("lidar", "weather", "fog")
    )
    assert fog["samples"] == "1"
    assert float(fog["miou"]) == pytest.approx(found.by_condition("lidar")["weather"]["fog"][0], abs=1e-4)
    document = found.document()["variants"][-1]
    assert document["conditions"]["weather"]["fog"] == pytest.approx(
        found.by_condition(document["name"])["weather"]["fog"][0]
    )


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("depth", np.full((8, 8), 50.0, np.float32), ""),
        ("depth", np.full((8, 8), 5000.0, np.float32), "100% of depth lies beyond 80 m"),
        ("thermal", np.full((8, 8), 4000, np.uint16), "reach 4000 of the 65535"),
        ("thermal", np.full((8, 8), 40000, np.uint16), ""),
        ("rgb", np.full((8, 8), 40, np.uint8), ""),
    ],
)
def test_values_that_do_not_fit_their_scale_are_told(name: str, values: Any, words: str) -> None:
    raw = RawImage(values[None], np.ones(values.shape, bool))
    note = scale_plane(name, raw, "a").note
    assert (words in note) if words else note == ""
    assert scale_plane(name, raw, "a", (0.0, 9000.0)).note == ""


def test_events_are_drawn_as_squares() -> None:
    image = np.zeros((3, 5, 5), np.float32)
    image[0, 1, 2], image[1, 4, 4] = 3, 2
    drawn = dilate_events(image, 2)
    assert np.argwhere(drawn[0] == 3).tolist() == [[1, 2], [1, 3], [2, 2], [2, 3]]
    assert np.argwhere(drawn[1] == 2).tolist() == [[4, 4]]
    assert np.array_equal(dilate_events(image, 1), image)


def test_scenes_are_laid_on_the_networks_grid_as_delivers_code_does() -> None:
    truth = np.arange(42, dtype=np.uint8)[:, None].repeat(42, 1) % 5
    sample = Sample(
        "a", {"rgb": (noise(3, 42, 42) / 255).astype(np.float32)}, {"rgb": np.ones((42, 42), bool)}
    )
    laid, labels = lay_on_network(sample, truth, 64)
    assert laid.images["rgb"].shape == (3, 64, 64)
    rows = (np.arange(64) * 42) // 64
    assert np.array_equal(labels, truth[np.ix_(rows, rows)])
    wide, _ = lay_on_network(
        Sample("a", {"rgb": np.zeros((3, 40, 70), np.float32)}, {"rgb": np.ones((40, 70), bool)}),
        np.zeros((40, 70), np.uint8),
        64,
    )
    assert wide.shape == (64, 128)
