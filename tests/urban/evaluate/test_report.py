"""The report: one page that needs nothing beside it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from affine import Affine

from domainsam_urban.evaluate.report import ReportText, render_report
from tests.urban.evaluate.two_scenes import SHAPE, run
from tests.urban.mask_files import METRE, write_raster


def test_report_is_one_page_that_asks_for_nothing(folder: Path) -> None:
    for kind in ("image", "mask"):
        (folder / f"a_{kind}.tif").rename(folder / f"<i>a&_{kind}.tif")
    (folder / "answers" / "a_probability.tif").rename(folder / "answers" / "<i>a&_probability.tif")
    result = run(folder)
    page = render_report(result, ReportText("m.safetensors", "labels.gpkg", "domainsam <b>"))
    assert f"{result.table['prediction']['iou'].value:.3f}" in page
    assert page.count("data:image/jpeg;base64,") == 4
    assert page.count("data:image/svg+xml;base64,") == 2
    assert set(re.findall(r'(?:src|href)="(.{5})', page)) == {"data:"}
    assert "<script" not in page
    assert "http:" not in page
    assert "https:" not in page
    assert "<i>a" not in page
    assert "&lt;i&gt;a&amp;_image" in page
    assert page == render_report(result, ReportText("m.safetensors", "labels.gpkg", "domainsam <b>"))


def test_report_of_nothing_true_and_nothing_found(folder: Path) -> None:
    empty = np.zeros(SHAPE, np.uint8)
    for number, name in enumerate("ab"):
        affine = METRE @ Affine.translation(500 * number, 0)
        write_raster(folder / f"{name}_mask.tif", empty, affine, nodata=None)
        write_raster(folder / "answers" / f"{name}_probability.tif", empty, affine)
    page = render_report(run(folder), ReportText("m", "l", "c"))
    assert "The labels hold no settlement here" in page
    assert "Not one compared pixel is wrong" in page


def test_report_reads_two_byte_scenes_of_one_band(folder: Path) -> None:
    image = np.random.default_rng(0).normal(4000, 500, SHAPE).astype(np.uint16)
    write_raster(folder / "a_image.tif", image, nodata=None)
    assert "data:image/jpeg" in render_report(run(folder), ReportText("m", "l", "c"))
