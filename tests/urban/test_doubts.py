"""Doubts about a map are told everywhere, and a map is refused for them only on demand."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest

from domainsam.errors import InputError
from domainsam.familiar import learn_known
from domainsam_urban.map import map_scenes
from domainsam_urban.model.settlement import SettlementModel
from domainsam_urban.read.looks import BANDS, sample_scene
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.settings import MapOptions, OutputOptions, RunOptions
from domainsam_urban.trend.read.survey import survey
from domainsam_urban.trend.read.years import read_years
from tests.urban.tiny import write_scene
from tests.urban.trend.scenes import options as trend_options
from tests.urban.trend.scenes import place, texture, write_years

RUN = RunOptions(tile=64, overlap=16)


@pytest.fixture
def knowing(model: SettlementModel, tmp_path: Path) -> SettlementModel:
    """A model that has learnt from dark scenes and tells how well."""
    folder = tmp_path / "learnt"
    folder.mkdir()
    looks = []
    for seed in range(4):
        picture = (texture(128, 160, seed) * 0.3).astype("uint8")
        with RasterSource(write_scene(folder / f"{seed}.tif", picture, transform=place())) as source:
            looks.append(sample_scene(source))
    known = learn_known(looks, BANDS, resolutions=[0.9])
    return replace(model, known=known, validated={"full_iou": 0.61, "coarse_iou": 0.58})


def test_a_doubt_is_told_and_refused_only_with_strict(
    tmp_path: Path, knowing: SettlementModel, caplog: pytest.LogCaptureFixture
) -> None:
    scene = str(write_scene(tmp_path / "scene.tif", texture(), transform=place()))
    out = tmp_path / "out"
    outputs = OutputOptions((out / "s.gpkg",), summary=out / "s.json", stac=False)
    options = MapOptions(outputs, run=RUN, quiet=True)
    with pytest.raises(InputError, match=r"doubtful: values.*--strict was given; leave it out"):
        map_scenes([scene], replace(options, strict=True), knowing)
    assert not out.exists()
    with caplog.at_level(logging.WARNING):
        (result,) = map_scenes([scene], options, knowing).results
    assert "values are not distributed as in training" in caplog.text
    assert "; the model's IoU in validation 0.61; doubtful: values" in result.sentence()
    told = json.loads((out / "s.json").read_text())
    assert told["model_iou"] == 0.61
    assert told["judgement"]["doubtful"] is True
    assert told["judgement"]["compared_with_training"] is True
    assert told["judgement"]["doubts"][0]["kind"] == "values"


def test_a_model_without_scores_says_so(tmp_path: Path, model: SettlementModel) -> None:
    scene = str(write_scene(tmp_path / "scene.tif", texture(), transform=place()))
    options = MapOptions(OutputOptions((tmp_path / "s.gpkg",), stac=False), run=RUN, quiet=True)
    (result,) = map_scenes([scene], options, replace(model, validated={}, known=None)).results
    assert "; the model has no validation score" in result.sentence()
    assert result.document()["judgement"]["compared_with_training"] is False
    coarse = replace(
        options, run=replace(RUN, method="coarse"), outputs=replace(options.outputs, overwrite=True)
    )
    older = replace(model, validated={"val_iou_full": 0.5, "val_iou_coarse": 0.4})
    assert (older.get_score("full"), older.get_score("coarse")) == (0.5, 0.4)
    cities = replace(
        model, validated={"a_folds_iou": 0.7, "b_folds_iou": 0.5, "full_iou": 0.6, "coarse_iou": 0.8}
    )
    assert (cities.get_score("full"), cities.get_score("coarse")) == (0.6, 0.5)
    scored = replace(model, validated={"full_iou": 0.61, "coarse_iou": 0.58})
    assert map_scenes([scene], coarse, scored).results[0].model_iou == 0.58


def test_years_unlike_what_the_model_knows_are_told_before_they_are_compared(
    tmp_path: Path, knowing: SettlementModel
) -> None:
    paths = write_years(tmp_path, (2016, 2020))
    years = read_years([str(path) for path in paths])
    told = survey(years, trend_options(tmp_path / "out"), 0.9, knowing.known).warnings
    for label in ("2016", "2020"):
        assert any(line.startswith(f"{label}: doubtful: values") for line in told), told
    assert not any("doubtful" in line for line in survey(years, trend_options(tmp_path), 0.9).warnings)
