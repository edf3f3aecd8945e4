"""Every pack gives the same answer whoever computes the foundation: torch, ONNX Runtime or OpenVINO."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from PIL import Image

from domainsam.foundation import efficient, export, load_foundation, runtimes
from domainsam.predictor import Predictor
from domainsam.weights import FOLDER_VARIABLE
from domainsam_cli import main
from domainsam_urban.map import map_scenes
from domainsam_urban.run import map_options
from tests.core.generalists import random_network
from tests.core.official import picture
from tests.core.runtimes import need_runtime
from tests.ct.made import canonical_volume, oblique, stored, write_nifti
from tests.scene.trees import noise, write_png
from tests.urban.tiny import tiny_model, write_scene

TINY = {"width": 48, "heads": 3, "depth": 1, "segment": 16, "dilation": 2}
NAME = "lightening"


@pytest.fixture(scope="module", params=["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def runtime(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A runtime; the smallest generalist of random weights lies where weights are looked for."""
    need_runtime(request.param)
    folder = tmp_path_factory.mktemp("weights")
    spec = replace(efficient.SPECS[NAME], image_size=64)
    path = folder / "lightening.safetensors"
    efficient.save_network(random_network(NAME, **TINY), spec, path, None, **TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(folder))
        patch.setitem(efficient.SPECS, NAME, spec)
        patch.setattr(runtimes, "find_user_cache", lambda: folder / "cache")
        yield request.param


def read_mask(path: Path) -> NDArray[np.uint8]:
    with rasterio.open(path) as raster:
        values: NDArray[np.uint8] = raster.read(1)
    return values


def test_settlements(runtime: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = write_scene(tmp_path / "scene.tif")
    (tmp_path / "boxes.csv").write_text("left,top,right,bottom,label\n24,20,56,44,pond\n")
    where = ("urban", "map", str(scene), "--boxes", str(tmp_path / "boxes.csv"), "--precision", "fp32")
    found = []
    for chosen in ("torch", runtime):
        outputs = ("-o", str(tmp_path / f"{chosen}.gpkg"), "--mask", str(tmp_path / f"{chosen}.tif"))
        assert main([*where, *outputs, "--foundation", NAME, "--runtime", chosen]) == 0, (
            capsys.readouterr().err
        )
        found.append(read_mask(tmp_path / f"{chosen}.tif"))
    assert (found[0] == 1).any()
    assert (found[0] != found[1]).mean() < 0.001


def test_both_passes_of_settlements(runtime: str, tmp_path: Path) -> None:
    scene, found = write_scene(tmp_path / "scene.tif"), []
    for chosen in ("torch", runtime):
        foundation = load_foundation(NAME, runtime=chosen)
        model = replace(tiny_model(), foundation=foundation)
        options = map_options(
            out=tmp_path / f"{chosen}.gpkg", probability=tmp_path / f"{chosen}.tif", method="full", quiet=True
        )
        assert map_scenes([str(scene)], options, model).results
        found.append(read_mask(tmp_path / f"{chosen}.tif").astype(int))
    assert len(np.unique(found[0])) > 10
    assert (np.abs(found[0] - found[1]) > 1).mean() < 0.001, "bytes of probability"


def test_the_ladder_of_organs(runtime: str) -> None:
    from domainsam_ct.model.network import NetworkConfig, build_network

    answers = []
    slices = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    for chosen in ("torch", runtime):
        torch.manual_seed(0)
        network = build_network(NetworkConfig(), load_foundation(NAME, runtime=chosen), 4).eval()
        with torch.inference_mode():
            answers.append(network(slices, network.encode(slices)))
    assert answers[0].std() > 0.01
    torch.testing.assert_close(answers[1], answers[0], atol=1e-3, rtol=1e-3)


def test_organs(runtime: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    array, affine = stored(canonical_volume((64, 80, 3)), oblique(), (0, 1, 2), (False, False, False))
    scan = write_nifti(tmp_path / "ct.nii.gz", array, affine)
    box = {"label": "liver", "box": [11.5, 19.5, 0.5, 35.5, 51.5, 1.5]}
    (tmp_path / "marks.json").write_text(json.dumps({"frame": "voxel", "objects": [box]}))
    where = ("ct", "segment", str(scan), "--boxes", str(tmp_path / "marks.json"), "--precision", "fp32")
    found = []
    for chosen in ("torch", runtime):
        out = tmp_path / f"{chosen}.nii.gz"
        given = (*where, "-o", str(out), "--foundation", NAME, "--runtime", chosen)
        assert main([*given]) == 0, capsys.readouterr().err
        found.append(np.asarray(nibabel.load(out).dataobj))
    assert found[0].any()
    assert (found[0] != found[1]).mean() < 0.001


def test_scenes_and_clicks(runtime: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = write_png(tmp_path / "a.png", noise(3, 160, 128))
    (tmp_path / "boxes.csv").write_text("left,top,right,bottom,label\n24,20,56,44,cat\n")
    where = ("scene", "segment", "--rgb", str(shown), "--boxes", str(tmp_path / "boxes.csv"))
    found, clicked = [], []
    for chosen in ("torch", runtime):
        out = ("-o", str(tmp_path / f"{chosen}.png"), "--precision", "fp32")
        assert main([*where, *out, "--foundation", NAME, "--runtime", chosen]) == 0, capsys.readouterr().err
        found.append(np.asarray(Image.open(tmp_path / f"{chosen}.png")))
        predictor = Predictor(NAME, device="cpu", runtime=chosen)
        predictor.set_image(picture(100, 160))
        clicked.append(predictor.predict([[40, 30]], [1], return_logits=True)[0])
    assert (found[0] != found[1]).mean() < 0.001
    assert clicked[0].std() > 0.01
    assert np.abs(clicked[0] - clicked[1]).max() <= 1e-3 * np.abs(clicked[0]).max()


def test_the_command_writes_a_folder_that_is_a_foundation(
    runtime: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "exported"
    given = ("export", "--foundation", NAME, "--to", runtime, "-o", str(out))
    photos = tmp_path / "photos"
    photos.mkdir()
    write_png(photos / "a.png", noise(3, 64, 80))
    mask = np.zeros((64, 80), np.uint8)
    mask[10:40, 20:60] = 255
    Image.fromarray(mask).save(photos / "a_mask.png")
    assert main([*given, "--int8", str(photos), "--json"]) == 0, capsys.readouterr().err
    told = json.loads(capsys.readouterr().out)
    assert (told["name"], told["opset"], told["precision"]) == (NAME, export.OPSET, "int8")
    assert sorted(map(Path, told["files"])) == sorted(out.iterdir())
    cost = {row["arithmetic"]: row for row in told["cost"]}
    assert list(cost) == ["fp32", "bf16", "int8"]
    assert cost["fp32"]["cost_box"] == 0
    for row in cost.values():
        assert row["cost_box"] == pytest.approx(cost["fp32"]["iou_box"] - row["iou_box"])
        assert abs(row["cost_box"]) < 0.2
        assert row["seconds"] > 0
    assert main([*given]) == 4, "the files exist"
    assert "exists" in capsys.readouterr().err
    other = {"onnx": "openvino", "openvino": "onnx"}[runtime]
    assert main(["export", "--foundation", NAME, "--to", other, "-o", str(out)]) == 2
    assert f"exported to {runtime} already" in capsys.readouterr().err
    shown = write_png(tmp_path / "b.png", noise(3, 64, 64))
    (tmp_path / "boxes.csv").write_text("left,top,right,bottom,label\n24,20,56,44,cat\n")
    where = ("scene", "segment", "--rgb", str(shown), "--boxes", str(tmp_path / "boxes.csv"))
    assert main([*where, "-o", str(tmp_path / "m.png"), "--foundation", str(out)]) == 0, (
        capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("urban", "map", "SCENE", "-o", "s.gpkg", "--method", "coarse"), "method coarse asks none"),
        (("ct", "segment", "SCAN", "-o", "m.nii.gz"), "is a specialist without a foundation"),
        (("scene", "segment", "--rgb", "PICTURE", "-o", "m.png"), "--runtime onnx is for marks"),
        (("export", "--foundation", "fake", "--to", "onnx", "-o", "out"), "'fake' cannot be exported"),
        (("export", "--foundation", "edge_sma", "--to", "onnx", "-o", "out"), "did you mean edge_sam"),
        (("export", "--to", "onnx", "-o", "out", "--int8", "nowhere"), "folder 'nowhere' does not exist"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(
    arguments: tuple[str, ...],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "--int8" in arguments:
        need_runtime("onnx")
    monkeypatch.chdir(tmp_path)
    array, affine = stored(canonical_volume((32, 32, 3)), oblique(), (0, 1, 2), (False, False, False))
    places = {
        "SCENE": write_scene(tmp_path / "scene.tif"),
        "SCAN": write_nifti(tmp_path / "ct.nii.gz", array, affine),
        "PICTURE": write_png(tmp_path / "a.png", noise(3, 64, 64)),
    }
    before = sorted(tmp_path.iterdir())
    runtime = () if arguments[0] == "export" else ("--runtime", "onnx")
    assert main([*(str(places.get(word, word)) for word in arguments), *runtime]) in (2, 3)
    *notices, line = capsys.readouterr().err.strip().splitlines()
    assert expected in line
    assert all("are for research" in notice for notice in notices)
    assert sorted(tmp_path.iterdir()) == before
