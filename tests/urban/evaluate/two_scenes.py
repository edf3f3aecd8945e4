"""Two scenes with labels beside them and answers in a folder, and what they score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import shapely
from affine import Affine
from rasterio import features
from scipy import ndimage

from domainsam.io.pairing import find_scenes
from domainsam_urban.evaluate.evaluate import evaluate_scenes, look_up_answers
from domainsam_urban.evaluate.scores import ScoringOptions
from domainsam_urban.evaluate.summary import Evaluation, EvaluationOptions
from tests.urban.mask_files import METRE, UTM, write_raster

SHAPE = (150, 180)


def truth_mask(shift: int = 0) -> np.ndarray:
    """Two settlements; the smaller one has a hole."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[20 + shift : 80 + shift, 30:90] = 1
    mask[100:130, 120:165] = 1
    mask[110:115, 135:145] = 0
    return mask


def probability_of(mask: np.ndarray, seed: int = 0) -> np.ndarray:
    """A blurred, noisy 8-bit probability; one corner is nodata."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=mask.shape), 4)
    chance = np.clip(ndimage.gaussian_filter(mask.astype(float), 5) + 1.5 * noise, 0, 1)
    stored = np.round(chance * 254).astype(np.uint8)
    stored[:8, :15] = 255
    return stored


def write_two_scenes(folder: Path) -> Path:
    """Two scenes, their masks beside them, and predictions in a folder of their own."""
    (folder / "answers").mkdir()
    for number, name in enumerate(("a", "b")):
        affine = METRE @ Affine.translation(number * 500, 0)
        image = np.random.default_rng(number).integers(0, 255, (3, *SHAPE)).astype(np.uint8)
        write_raster(folder / f"{name}_image.tif", image, affine, nodata=None)
        write_raster(folder / f"{name}_mask.tif", truth_mask(), affine, nodata=None)
        answer = probability_of(truth_mask(shift=6 * number), number)
        write_raster(folder / "answers" / f"{name}_probability.tif", answer, affine)
    return folder


def run(folder: Path, labels: Path | None = None, answers: Path | None = None, **options: Any) -> Evaluation:
    work = folder / "work"
    work.mkdir()
    chosen = EvaluationOptions(**{"resamples": 200, "scoring": ScoringOptions(block_m=40), **options})
    predict = look_up_answers(answers or folder / "answers")
    return evaluate_scenes(find_scenes([folder]), labels or folder, predict, work, chosen)


def polygons_of(mask: np.ndarray, affine: Affine, crs: str = UTM) -> gpd.GeoDataFrame:
    shapes = [shapely.geometry.shape(s) for s, v in features.shapes(mask, mask > 0, transform=affine) if v]
    return gpd.GeoDataFrame(geometry=shapes, crs=crs)
