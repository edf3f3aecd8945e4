"""``domainsam.run("scene", ...)``: files by sensor, folders, keywords as the command's."""

from __future__ import annotations

from pathlib import Path

import pytest

import domainsam
import domainsam_scene
from domainsam.errors import ConfigError
from domainsam.keywords import keyword_names
from domainsam_scene.commands.segment import segment_command
from domainsam_scene.generated.files import write_samples
from domainsam_scene.run import segment_inputs, segment_options
from domainsam_scene.settings import SENSORS


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    write_samples(folder, 2, 64, 5)
    return folder


def test_keywords_are_the_options_of_the_command() -> None:
    given_as_inputs = {*SENSORS, "modality", "inputs", "as_json", "verbose"}
    options = {item.name for item in segment_command.params if item.expose_value} - given_as_inputs
    assert options == set(keyword_names(segment_options, segment_inputs)) - {"made_by", "watch"}


def test_files_by_sensor(samples: Path, tmp_path: Path) -> None:
    files = {
        sensor: sorted((samples / sensor).iterdir())[0]
        for sensor in ("rgb", "depth")
        if (samples / sensor).is_dir()
    }
    result = domainsam.run("scene", files, tmp_path / "map.png", device="cpu", range={"depth": (0, 255)})
    assert result.sensors == tuple(files)
    assert result.paths["map"].is_file()


def test_a_folder_is_a_batch(samples: Path, tmp_path: Path) -> None:
    batch = domainsam.run("scene", samples, tmp_path, layout="plain", device="cpu")
    assert len(batch.results) == 2


@pytest.mark.parametrize(
    ("inputs", "keywords", "words"),
    [
        ("a.png", {}, "name its sensor"),
        ({"rgb": "a.png"}, {"layout": "plain"}, "layout takes one folder"),
        ({"rgb": "a.png"}, {"previw": "b.png"}, "did you mean preview"),
        ({"rgb": "a.png"}, {"tile": 3}, "tile is 3"),
    ],
)
def test_wrong_calls(tmp_path: Path, inputs: object, keywords: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        domainsam.run("scene", inputs, tmp_path / "m.png", **keywords)


def test_an_output_must_be_named() -> None:
    with pytest.raises(ConfigError, match="name an output"):
        domainsam.run("scene", {"rgb": "a.png"})


def test_load_model_is_at_the_root() -> None:
    assert domainsam_scene.load_model(device="cpu").name == "generated"
