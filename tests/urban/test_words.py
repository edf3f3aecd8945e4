"""Words find ranked polygons in a scene, and name outlines that other tools have drawn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas
import pytest
import rasterio
from shapely.geometry import LineString, Point, box

import domainsam
from domainsam.errors import ConfigError, InputError, OutputError
from domainsam.keywords import keyword_names
from domainsam.protocols import Understood, Word
from domainsam.vocabulary import load_vocabulary_model
from domainsam.vocabulary.fake import FakeNamer
from domainsam_cli import main
from domainsam_cli.options import job_options
from domainsam_urban.commands.label import label_command
from domainsam_urban.run_alike import find_options, run_find
from domainsam_urban.run_label import label_options, run_label
from domainsam_urban.settings import AGAINST
from domainsam_urban.worded import choose_known
from tests.urban.tiny import PLACE, UTM, write_scene

ROWS, COLS = 160, 192
PIXEL = 0.9
RED, BLUE, GREY = (230, 26, 26), (26, 26, 230), (128, 128, 128)
REDS, BLUES = ((24, 24, 64, 72), (100, 120, 140, 152)), ((30, 120, 62, 168),)
"""Rows and columns, from and to."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey ground with two red places and a blue one; the left margin has no data."""
    picture = np.zeros((ROWS, COLS, 3), np.uint8)
    picture[:] = GREY
    for colour, places in ((RED, REDS), (BLUE, BLUES)):
        for top, left, bottom, right in places:
            picture[top:bottom, left:right] = colour
    picture[:, :8] = 0
    return write_scene(tmp_path_factory.mktemp("words") / "scene_2021.tif", picture, nodata=0)


def place(top: float, left: float, bottom: float, right: float) -> Any:
    return box(*(PLACE @ (left, bottom)), *(PLACE @ (right, top)))


def find(scene: Path, out: Path, **more: Any) -> Any:
    return run_find(scene, out, vocabulary_model="fake", proposals="map", device="cpu", quiet=True, **more)


def test_words_find_ranked_polygons(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.gpkg"
    result = find(scene, out, words=["red", "blue"], mask=tmp_path / "m.tif", summary=tmp_path / "s.json")
    table = geopandas.read_file(out, layer="settlements")
    assert sorted(table["class"]) == ["blue", "red", "red"]
    assert table["rank"].tolist() == [1, 2, 3]
    assert table["confidence"].is_monotonic_decreasing
    assert table["confidence"].min() > 0.5
    assert set(table["method"]) == {"words"}
    for word, places in (("red", REDS), ("blue", BLUES)):
        own = table[table["class"] == word].geometry
        for one in places:
            truth = place(*one)
            # A map of words has cells of four pixels.
            assert (own.intersection(truth).area / own.union(truth).area).max() > 0.75
    told = json.loads((tmp_path / "s.json").read_text())["words"]
    assert told["words"] == ["red", "blue"]
    assert told["understood"]["red"] == {"known": "red", "nearness": 1.0}
    assert told["found"] == 3
    assert "3 objects" in result.sentence()
    with rasterio.open(tmp_path / "m.tif") as mask:
        values = mask.read(1)
    assert values[40, 40] == 1
    assert values[40, 140] == 2
    assert values[80, 80] == 0
    assert (values[:, :6] == 255).all()


class Closed(FakeNamer):
    """Takes ``house`` as ``building``, knows roads, and nothing else."""

    def understand(self, words: Sequence[Word]) -> tuple[Understood, ...]:
        known = {"house": "building", "building": "building", "road": "road"}
        strange = [word.name for word in words if word.name not in known]
        if strange:
            raise InputError(f"{strange[0]!r} is far from all known words")
        return tuple(Understood(word.name, known[word.name], 0.9) for word in words)


def test_words_that_are_taken_as_what_is_looked_for_are_no_rivals() -> None:
    assert choose_known(Closed(), ("road", "tree", "building"), [Word("house")]) == (Word("road"),)
    assert choose_known(Closed(), ("road", "building"), [Word("road")]) == (Word("building"),)


def test_a_synonym_of_what_is_looked_for_is_no_rival() -> None:
    """The embedded model knows both words, as one thing whose score they would share."""
    model = load_vocabulary_model("embedded", "cpu")
    rivals = [word.name for word in choose_known(model, AGAINST, [Word("house")])]
    assert "building" not in rivals
    assert "road" in rivals
    taken = [number for one in model.understand([Word(name) for name in rivals]) for number in one.classes]
    assert len(set(taken)) == len(taken)
    # What is one kind of the thing that is looked for would take its own places away.
    assert "car" in rivals
    assert "car" not in {word.name for word in choose_known(model, AGAINST, [Word("vehicle")])}


def test_nothing_found_is_an_answer(scene: Path, tmp_path: Path) -> None:
    result = find(scene, tmp_path / "none.gpkg", words=["yellow"], stac=False)
    assert "0 objects" in result.sentence()
    assert len(geopandas.read_file(tmp_path / "none.gpkg", layer="settlements")) == 0


def test_an_opened_scene_is_found_in_by_words(scene: Path, tmp_path: Path) -> None:
    with domainsam.open(scene, pack="urban") as opened:
        found = opened.find(words=["red", "blue"], vocabulary_model=FakeNamer(), proposals="map")
        assert sorted(str(one.label) for one in found.objects) == ["blue", "red", "red"]
        found.save(tmp_path / "saved.gpkg", stac=False)
        with pytest.raises(ConfigError, match="in one way"):
            opened.find(words=["red"], points=[(0, 0)])
        with pytest.raises(InputError, match="'roof' is no colour"):
            opened.find(words=["roof"], vocabulary_model="fake")
    assert len(geopandas.read_file(tmp_path / "saved.gpkg", layer="settlements")) == 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "name an example.*or a word, such as --words roof"),
        ({"words": ["red"], "like": "e.gpkg"}, "in one way: --like an example, or --words"),
        ({"words": ["red"], "method": "persam"}, "--method goes with --like"),
        ({"words": ["red"], "unlike": "e.gpkg"}, "--not goes with --like"),
        ({"like": "e.gpkg", "vocabulary_model": "fake"}, "--vocabulary-model goes with --words"),
        ({"like": "e.gpkg", "against": ["tree"]}, "--against goes with --words"),
        ({"words": [""]}, "is empty; expected a word"),
        ({"words": ["red"], "proposals": "some"}, "expected one of: auto, everything, map"),
        ({"words": ["red"], "least_score": 2.0}, "least is 2.0; expected 0 to 1"),
    ],
)
def test_a_search_that_cannot_be_meant(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_options(out="o.gpkg", **given)


def test_a_word_that_is_not_understood_is_one_line(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("urban", "find", str(scene), "--words", "roof", "--vocabulary-model", "fake", "-q")
    assert main([*words, "-o", str(tmp_path / "a.gpkg"), "--device", "cpu"]) == 2
    told = capsys.readouterr().err.strip()
    assert "the word 'roof' is no colour" in told
    assert len(told.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def outlines() -> geopandas.GeoDataFrame:
    """Outlines of all kinds, with attributes of their own, one named as a column of ours."""
    shapes = [
        place(*REDS[0]),
        place(*BLUES[0]).union(place(*REDS[1])),
        place(80, 80, 90, 90),
        place(-500, -500, -400, -400),
        place(20, 1, 60, 6),
        Point(*(PLACE @ (40, 40))),
        None,
        place(30.2, 30.2, 30.5, 30.5),
        LineString([PLACE @ (0, 0), PLACE @ (50, 50)]),
    ]
    return geopandas.GeoDataFrame(
        {"word": [f"w{n}" for n in range(9)], "height": range(9)}, geometry=shapes, crs=UTM
    )


@pytest.mark.parametrize("crs", [UTM, "EPSG:4326"])
def test_outlines_are_named_and_stay_as_they_are(scene: Path, tmp_path: Path, crs: str) -> None:
    given = outlines().to_crs(crs)
    given.to_file(tmp_path / "outlines.gpkg", layer="roofs")
    words = tmp_path / "words.txt"
    words.write_text("red\nblue\n")
    out = tmp_path / "labelled.gpkg"
    result = run_label(
        tmp_path / "outlines.gpkg", scene, out, FakeNamer(), vocabulary=words, device="cpu", quiet=True
    )
    table = geopandas.read_file(out, layer="roofs")
    assert table.crs == given.crs
    assert table["height"].tolist() == list(range(9))
    assert table["word"].tolist() == given["word"].tolist()
    assert result.columns == ("word_2", "word_score", "second_word", "second_score", "answer")
    assert table["answer"].tolist() == [
        *("named", "none fits", "none fits", "outside", "no data"),
        *("no outline", "no outline", "named", "no outline"),
    ]
    assert [name if isinstance(name, str) else None for name in table["word_2"]] == [
        *("red", None, None, None, None, None, None, "red", None)
    ]
    assert table["word_score"][0] > 0.9
    assert table["second_word"][0] == "blue"
    assert pandas.isna(table["word_score"][3])
    same = [
        one is other is None or one.equals_exact(other, 1e-9)
        for one, other in zip(table.geometry, given.geometry, strict=True)
    ]
    assert all(same)
    assert result.words == {"red": 2}
    assert result.answers == {"named": 2, "none fits": 2, "outside": 1, "no data": 1, "no outline": 3}
    assert "(outside) 1" in "\n".join(result.lines())


def test_an_outline_where_the_scenes_crs_ends_is_outside(scene: Path, tmp_path: Path) -> None:
    far = geopandas.GeoDataFrame(geometry=[box(-180, -90, 180, 90), box(100, -10, 101, -9)], crs="EPSG:4326")
    far.to_file(tmp_path / "far.geojson")
    result = run_label(
        tmp_path / "far.geojson", scene, tmp_path / "o.parquet", FakeNamer(), words="red", quiet=True
    )
    assert result.answers["outside"] >= 1
    assert len(geopandas.read_parquet(tmp_path / "o.parquet")) == 2


@pytest.mark.parametrize("ending", [".gpkg", ".geojson", ".fgb", ".parquet"])
def test_every_format_holds_every_row(scene: Path, tmp_path: Path, ending: str) -> None:
    table = outlines().iloc[[0, 3]]
    table.to_file(tmp_path / "in.gpkg")
    out = tmp_path / f"out{ending}"
    run_label(tmp_path / "in.gpkg", scene, out, FakeNamer(), words=["red"], least_score=0.5, quiet=True)
    read = geopandas.read_parquet(out) if ending == ".parquet" else geopandas.read_file(out)
    assert read.sort_values("height")["answer"].tolist() == ["named", "outside"]
    with pytest.raises(OutputError, match="exists"):
        run_label(tmp_path / "in.gpkg", scene, out, FakeNamer(), words=["red"], quiet=True)


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_bad_outlines_are_one_line(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.gpkg"
    nowhere = tmp_path / "nowhere.gpkg"
    outlines().iloc[:1].set_crs(None, allow_override=True).to_file(nowhere)
    several = tmp_path / "several.gpkg"
    for layer in ("a", "b"):
        outlines().iloc[:1].to_file(several, layer=layer)
    for path, message in (
        (nowhere, "has no CRS"),
        (several, r"has 2 layers \(a, b\); say by --layer"),
        (tmp_path / "absent.gpkg", "no such file"),
    ):
        with pytest.raises(InputError, match=message):
            run_label(path, scene, out, FakeNamer(), words="red")
    with pytest.raises(InputError, match="has no layer 'c'; it has a, b"):
        run_label(several, scene, out, FakeNamer(), words="red", layer="c")
    with pytest.raises(ConfigError, match="nothing says what outlines may be called"):
        run_label(several, scene, out, FakeNamer())
    with pytest.raises(OutputError, match="input"):
        run_label(several, scene, several, FakeNamer(), words="red", layer="a", overwrite=True)
    assert not out.exists()


def test_label_from_the_command_line(scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outlines().to_file(tmp_path / "in.gpkg")
    words = ("urban", "label", str(tmp_path / "in.gpkg"), str(scene), "--words", "red", "--words", "blue")
    assert main([*words, "-o", str(tmp_path / "o.gpkg"), "--vocabulary-model", "fake", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["outlines"] == 9
    assert told["answers"]["named"] == 2
    assert told["understood"]["blue"] == {"known": "blue", "nearness": 1.0}


def test_keywords_and_defaults_of_label_are_those_of_the_command() -> None:
    given = {item.name for item in label_command.params if item.expose_value}
    assert given - {"outlines", "scene", "as_json", "verbose"} == set(keyword_names(label_options))
    chosen = label_command.make_context("label", ["a.gpkg", "s.tif", "--words", "red", "-o", "o.gpkg"]).params
    del chosen["outlines"], chosen["scene"]
    assert label_options(**job_options(chosen)) == label_options(out="o.gpkg", words="red")
