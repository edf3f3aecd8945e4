"""``urban ask``: what a phrase means in a scene becomes ranked polygons, tiles joined and told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
from scipy import ndimage

import domainsam
from domainsam.errors import ConfigError, EndpointError
from domainsam.keywords import keyword_names
from domainsam.prompter.language.hugging import HuggingSpeaker
from domainsam.prompter.language.keywords import ask_options as language_options
from domainsam.testing.oracle import SeeingSpeaker
from domainsam_cli import main
from domainsam_urban.commands.ask import ask_command
from domainsam_urban.run import map_options
from domainsam_urban.run_ask import NOT_ASKED, ask_options, run_ask
from tests.urban.tiny import PLACE, write_scene

PHRASE = "red roofs"
ROWS, COLS = 96, 144
ROOFS = ((6, 8, 26, 30), (34, 50, 50, 62), (66, 100, 90, 130))
"""Top, left, bottom, right; of the second several windows of 64 pixels see a part."""


def draw() -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 5, (ROWS, COLS, 3))
    picture = np.clip(np.array((120, 140, 110)) + noise, 1, 255).astype(np.uint8)
    for top, left, bottom, right in ROOFS:
        picture[top:bottom, left:right] = (210, 50, 40)
    return picture


def see(picture: np.ndarray) -> dict[str, list[np.ndarray]]:
    """What of a tile is red, each piece of its own."""
    red = (picture[..., 0].astype(int) - picture[..., 1]) > 80
    pieces, count = ndimage.label(red)
    return {PHRASE: [pieces == number for number in range(1, count + 1) if (pieces == number).sum() > 20]}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scene(tmp_path_factory.mktemp("ask") / "scene_2021.tif", draw())


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> SeeingSpeaker:
    """Answers in the place of a model that is loaded."""
    speaker = SeeingSpeaker(see)
    monkeypatch.setattr("domainsam_urban.model.asked.load_speaker", lambda *_: speaker)
    monkeypatch.setattr("domainsam.prompter.language.speakers.load_speaker", lambda *_: speaker)
    return speaker


def ask(scene: Path, out: Path, phrase: str = PHRASE, **more: Any) -> Any:
    return run_ask(
        scene, phrase, out, mllm="oracle", foundation="fake", mode="pqpp", device="cpu", quiet=True, **more
    )


def test_words_become_ranked_polygons_each_once(scene: Path, oracle: SeeingSpeaker, tmp_path: Path) -> None:
    out = tmp_path / "roofs.gpkg"
    result = ask(scene, out, summary=tmp_path / "s.json", preview=tmp_path / "p.png")
    table = geopandas.read_file(out, layer="settlements")
    assert len(table) == 3
    assert table["rank"].tolist() == [1, 2, 3]
    assert table["confidence"].is_monotonic_decreasing
    assert set(table["class"]) == {PHRASE}
    assert set(table["method"]) == {"ask"}
    pixel = abs(PLACE.a * PLACE.e)
    for top, left, bottom, right in ROOFS:
        x, y = PLACE @ ((left + right) / 2, (top + bottom) / 2)
        near = table.geometry.distance(geopandas.points_from_xy([x], [y])[0])
        area = float(table.loc[near.idxmin(), "area_m2"])
        # The stand-in of a foundation draws clicks as it is told, so that a middle may be left open.
        assert near.min() < 8 * PLACE.a
        assert 0.2 < area / ((bottom - top) * (right - left) * pixel) < 1.3
    told = json.loads((tmp_path / "s.json").read_text())["ask"]
    assert told["words"] == PHRASE
    assert told["windows"] > 2
    assert told["unanswered"] == 0
    assert "3 objects" in result.sentence()


def test_a_killed_run_asks_only_what_it_does_not_know(
    scene: Path, oracle: SeeingSpeaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "a.gpkg", tmp_path / "b.gpkg"
    ask(scene, whole, stac=False)
    write, asked = HuggingSpeaker.write, []

    def die(self: HuggingSpeaker, *given: Any) -> Any:
        asked.append(1)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return write(self, *given)

    monkeypatch.setattr(HuggingSpeaker, "write", die)
    command = ["urban", "ask", str(scene), PHRASE, "--mllm", "oracle", "-o", str(out), "--no-stac", "-q"]
    command += ["--foundation", "fake", "--mode", "pqpp"]
    assert main([*command, "--device", "cpu"]) == 130
    assert not out.exists()
    assert main([*command, "--device", "cpu", "--resume"]) == 0
    # Two batches of windows: the first was answered, the second was killed and is asked again.
    assert len(asked) == 3
    one, other = (geopandas.read_file(path, layer="settlements") for path in (out, whole))
    assert one.geometry.geom_equals(other.geometry).all()


def test_nothing_found_is_an_answer_and_a_dead_server_none(
    scene: Path,
    oracle: SeeingSpeaker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "none.gpkg"
    base = ["urban", "ask", str(scene), "purple igloos", "--mllm", "oracle", "--device", "cpu"]
    base += ["--foundation", "fake"]
    assert main([*base, "-o", str(out)]) == 0
    assert "0 objects" in capsys.readouterr().out
    assert len(geopandas.read_file(out, layer="settlements")) == 0

    def fail(*_: Any) -> Any:
        raise EndpointError("http://localhost:9: cannot be reached")

    monkeypatch.setattr(HuggingSpeaker, "write", fail)
    assert main([*base, "-o", str(tmp_path / "dead.gpkg")]) == 3
    error = capsys.readouterr().err
    assert "cannot be reached" in error
    assert "Traceback" not in error
    assert not (tmp_path / "dead.gpkg").exists()


def test_a_scene_that_is_open_in_python_is_asked_too(
    scene: Path, oracle: SeeingSpeaker, tmp_path: Path
) -> None:
    with domainsam.open(scene) as opened:
        found = opened.find(ask=PHRASE, mllm="oracle", mode="pqpp", device="cpu", foundation="fake")
        assert len(found.objects) == 3
        assert found.told["words"] == PHRASE
        assert found.labels[16, 18] == 1
        found.save(tmp_path / "found.gpkg")
        with pytest.raises(ConfigError, match="mllm="):
            opened.find(ask=PHRASE)
        with pytest.raises(ConfigError, match="one way"):
            opened.find(ask=PHRASE, mllm="o", points=[(1, 2)])
        with pytest.raises(ConfigError, match="no option is named 'mood'"):
            opened.find(ask=PHRASE, mllm="o", mood="good", foundation="fake")
    assert len(geopandas.read_file(tmp_path / "found.gpkg", layer="settlements")) == 3


def test_keywords_are_the_options_of_the_command() -> None:
    options = {item.name for item in ask_command.params if item.expose_value}
    options -= {"as_json", "verbose", "scene", "phrase"}
    known = set(keyword_names(map_options)) - set(NOT_ASKED) - {"made_by"}
    assert options == known | set(keyword_names(ask_options, language_options)) - {"phrase"}
