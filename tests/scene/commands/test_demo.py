"""The demo: the main job on scenes that it draws itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from domainsam_cli import main
from domainsam_scene.commands import demo as demo_command
from domainsam_scene.generated.scenes import SENSORS, make_scene
from domainsam_scene.model.scene import load_model


def test_demo_shows_the_way_and_says_that_it_is_generated(
    tmp_path: Path,
    scene: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(demo_command, "SIDE", 64)
    monkeypatch.setattr(demo_command, "SAMPLES", 2)
    assert main(["demo", "--pack", "scene", "-o", str(tmp_path / "d")]) == 0
    printed = capsys.readouterr().out
    assert "generated" in printed
    assert "domainsam scene segment --rgb" in printed
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == [
        "maps",
        "previews",
        "samples",
        "summaries",
    ]
    assert main(["demo", "--pack", "scene", "-o", str(tmp_path / "d")]) == 4
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    assert scene("demo", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["generated"]
    assert len(document["scenes"]) == 2
    assert (tmp_path / "domainsam-demo" / "maps" / "scene000.png").is_file()


def test_the_shipped_model_answers_with_any_sensor_missing() -> None:
    model = load_model(device="cpu")
    assert model.modalities == SENSORS
    random = np.random.default_rng(0)
    images = {sensor: random.random((3, 64, 64), np.float32) for sensor in SENSORS}
    for missing in SENSORS:
        rest = {sensor: image for sensor, image in images.items() if sensor != missing}
        answer = model.predict_sensors(rest)
        assert np.isfinite(answer.probability).all()
        assert int(answer.labels.max()) < len(model.labels)


def test_the_shipped_model_understands_drawn_scenes() -> None:
    model, right = load_model(device="cpu"), []
    for seed in (5_000_001, 5_000_002):
        scene = make_scene(seed, 128, "day", "none")
        right.append((model.predict_sensors(scene.images).labels == scene.labels).mean())
    assert np.mean(right) > 0.75
