"""Pictures of the worst windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from domainsam_urban.evaluate.pictures import draw_case, find_worst_windows
from tests.urban.evaluate.two_scenes import run
from tests.urban.mask_files import write_raster


def test_worst_windows_lie_where_the_errors_are(folder: Path) -> None:
    wide = np.zeros((200, 3000), np.uint8)
    wrong = wide.copy()
    wrong[50:150, 2500:2600] = 1
    wrong[50:100, 40:80] = 1
    write_raster(folder / "a_image.tif", wide, nodata=None)
    write_raster(folder / "a_mask.tif", wide, nodata=None)
    write_raster(folder / "answers" / "a_probability.tif", wrong)
    result = run(folder)
    first, *others = [w for s, w in find_worst_windows(result, "prediction", 5) if s.scene.name == "a_image"]
    assert first.col <= 2500
    assert first.col + first.width >= 2600
    assert [other.col for other in others] == [0]
    case = draw_case(result.scenes[0], "prediction", first, 0.5)
    assert case.iou == 0
    assert case.false_ha == pytest.approx(1, rel=1e-3)
    assert case.missed_ha == 0
