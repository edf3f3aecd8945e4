"""Scenes far coarser than the model has learnt are refused before any work, unless a person asks for it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from domainsam.errors import InputError
from domainsam_urban import map as pipeline
from domainsam_urban.map import map_scenes
from domainsam_urban.model.settlement import SettlementModel
from domainsam_urban.settings import MapOptions, OutputOptions, ReadOptions, RunOptions
from tests.urban.tiny import write_scene


def options(folder: Path, resolution: float | None = None) -> MapOptions:
    outputs = OutputOptions((folder / "s.gpkg",), stac=False)
    run = RunOptions(tile=64, overlap=16)
    return MapOptions(outputs, run=run, quiet=True, read=ReadOptions(resolution=resolution))


def test_hopeless_enlargement_is_refused_before_work(
    tmp_path: Path, model: SettlementModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = write_scene(tmp_path / "a.tif", transform=Affine(30, 0, 443_200, 0, -30, 4_412_300))
    with monkeypatch.context() as context:
        context.setattr(pipeline, "find_settlements", lambda *given: pytest.fail("work began"))
        with pytest.raises(
            InputError, match=r"its pixels are 30 m, the model has learnt 0\.9 m.*--resolution 30"
        ):
            map_scenes([str(scene)], options(tmp_path), model)
    map_scenes([str(scene)], options(tmp_path, 30.0), model)
    assert (tmp_path / "s.gpkg").is_file()


def test_strong_enlargement_is_told(
    tmp_path: Path, model: SettlementModel, caplog: pytest.LogCaptureFixture
) -> None:
    scene = write_scene(
        tmp_path / "a.tif",
        write_image(),
        transform=Affine(9, 0, 443_200, 0, -9, 4_412_300),
    )
    with caplog.at_level(logging.WARNING):
        map_scenes([str(scene)], options(tmp_path), model)
    assert "its pixels of 9 m are enlarged to 0.9 m, 160 x 160 pixels" in caplog.text


def write_image() -> np.ndarray:
    from domainsam.testing.synthetic import make_settlement_scene

    return make_settlement_scene(160, 128, seed=2).image[:16, :16]
