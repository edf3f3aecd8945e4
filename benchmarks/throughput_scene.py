"""What the contestants of ``urban_throughput.py`` work on: a large scene and a model file, both generated.

python throughput_scene.py scene 4096 4096 scene.tif
python throughput_scene.py model model.safetensors foundation.safetensors
python throughput_scene.py agreement one.tif other.tif
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import rasterio
import torch
from affine import Affine
from numpy.typing import NDArray
from rasterio.windows import Window
from torch import Tensor

from domainsam.foundation import load_foundation
from domainsam.foundation.decoders.compact import CompactSam
from domainsam.foundation.embedded import WEIGHTS, save_embedded
from domainsam.infer.blend import NODATA, find_threshold_level
from domainsam.prompter.segformer import PrompterConfig, SegFormerPrompter, compute_log_odds
from domainsam.prompter.trained import save_prompter
from domainsam.testing.synthetic import GROUND_PIXEL_M, make_settlement_scene

CELL = 1024
"""The scene is laid out in drawn cells of this side."""
CELLS_DRAWN = 3
SLANT = 0.05
"""The swath leans by this share of the width, which leaves a wedge without data on either side."""
CORNER = (443_200.0, 4_412_300.0)
RIDGE = 1.0
CERTAINTY = 3.0
"""Log-odds that the classifier is fitted to inside (+) and outside (-) settlements."""


def write_scene(rows: int, cols: int, path: Path) -> None:
    """An RGB uint8 GeoTIFF, drawn cell by cell; a strip of 1024 rows is the most that is in memory."""
    drawn = [make_settlement_scene(CELL, CELL, seed).image for seed in range(CELLS_DRAWN)]
    profile = {
        "driver": "GTiff", "dtype": "uint8", "count": 3, "height": rows, "width": cols,
        "nodata": 0, "crs": "EPSG:32650", "photometric": "rgb", "tiled": True, "blockxsize": 512,
        "blockysize": 512, "compress": "deflate", "predictor": 2, "zlevel": 1, "bigtiff": "if_safer",
        "transform": Affine.translation(*CORNER) @ Affine.scale(GROUND_PIXEL_M, -GROUND_PIXEL_M),
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        for top in range(0, rows, CELL):
            strip = np.concatenate([_cell(drawn, top, left) for left in range(0, cols, CELL)], axis=1)
            strip = np.maximum(strip[: rows - top, :cols], 1)
            strip[~_swath(top, strip.shape[0], rows, cols)] = 0
            dataset.write(strip.transpose(2, 0, 1), window=Window(0, top, cols, strip.shape[0]))


def _cell(drawn: list[NDArray[np.uint8]], top: int, left: int) -> NDArray[np.uint8]:
    """One of the drawings, turned and mirrored by where it lies."""
    number = (top // CELL) * 7 + (left // CELL) * 3
    turned = np.rot90(drawn[number % CELLS_DRAWN], number // CELLS_DRAWN % 4)
    return turned[:, ::-1] if number // 12 % 2 else turned


def _swath(top: int, height: int, rows: int, cols: int) -> NDArray[np.bool_]:
    """Pixels with data ``(height, cols)`` of rows from ``top``: a parallelogram as satellites scan it."""
    share = (top + np.arange(height))[:, None] / rows
    first = SLANT * cols * share
    col = np.arange(cols)[None]
    return (col >= first) & (col < cols * (1 - SLANT) + first)


def write_model(path: Path, foundation_path: Path) -> None:
    """A seeded prompter (MiT-B0) whose classifier is fitted to one drawing, on the embedded foundation.

    Fitting the last layer alone (ridge regression) takes seconds and gives
    masks in the shape of settlements, so that polygons and prompts are of a
    realistic number. Where the package has no embedded weights, those of the
    foundation are random too.
    """
    if WEIGHTS.is_file():
        foundation_path.write_bytes(WEIGHTS.read_bytes())
    else:
        torch.manual_seed(1)
        about = {"name": "embedded", "version": "random", "licence": "Apache-2.0"}
        save_embedded(CompactSam(), foundation_path, about)
    torch.manual_seed(0)
    # The gate averages with the coarse mask: a random foundation alone would draw noise.
    prompter = SegFormerPrompter(PrompterConfig(fusion="gate")).eval()
    _fit_classifier(prompter, seed=100)
    print(f"coarse IoU on another drawing: {_coarse_iou(prompter, seed=101):.2f}", file=sys.stderr)
    foundation = load_foundation(foundation_path)
    scene = {"resolution": GROUND_PIXEL_M}
    save_prompter(path, prompter, foundation, "urban", ("background", "settlement"), {"scene": scene}, {})


@torch.no_grad()
def _fit_classifier(prompter: SegFormerPrompter, seed: int) -> None:
    images, truth = _drawing(seed)
    fused = prompter.coarse(images).features
    assert fused is not None
    features = fused[0].flatten(1).T.double()
    mean = features.mean(0)
    centred = features - mean
    target = CERTAINTY * (2 * truth.flatten().double() - 1)
    moment = centred.T @ centred + RIDGE * torch.eye(centred.shape[1], dtype=torch.float64)
    weight = torch.linalg.solve(moment, centred.T @ (target - target.mean()))
    classify = prompter.head.classify
    classify.weight.zero_()
    classify.weight[1, :, 0, 0] = weight.float()
    assert classify.bias is not None
    classify.bias.zero_()
    classify.bias[1] = float(target.mean() - mean @ weight)


@torch.no_grad()
def _coarse_iou(prompter: SegFormerPrompter, seed: int) -> float:
    images, truth = _drawing(seed)
    found = compute_log_odds(prompter.coarse(images).logits)[0, 0] > 0
    return float((found & truth).sum() / (found | truth).sum().clamp(min=1))


def _drawing(seed: int) -> tuple[Tensor, Tensor]:
    """A drawing as a network takes it, and its truth at a quarter of the size."""
    drawn = make_settlement_scene(CELL, CELL, seed)
    images = torch.from_numpy(drawn.image.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    truth = torch.from_numpy(drawn.truth.reshape(CELL // 4, 4, CELL // 4, 4).mean(axis=(1, 3)) >= 0.5)
    return images, truth


def agreement(one: Path, other: Path) -> tuple[float, float]:
    """IoU of two probability files at 0.5, over pixels where both have data; and the first one's share."""
    level = find_threshold_level(0.5)
    both = either = inside = valid = 0
    with rasterio.open(one) as first, rasterio.open(other) as second:
        for top in range(0, first.height, CELL):
            window = Window(0, top, first.width, min(CELL, first.height - top))
            a, b = first.read(1, window=window), second.read(1, window=window)
            seen = (a != NODATA) & (b != NODATA)
            a, b = (a >= level) & seen, (b >= level) & seen
            both += int((a & b).sum())
            either += int((a | b).sum())
            inside += int(a.sum())
            valid += int(seen.sum())
    return (both / either if either else 1.0), inside / max(valid, 1)


def main() -> None:
    what, *rest = sys.argv[1:]
    if what == "scene":
        write_scene(int(rest[0]), int(rest[1]), Path(rest[2]))
    elif what == "model":
        write_model(Path(rest[0]), Path(rest[1]))
    else:
        print(*agreement(Path(rest[0]), Path(rest[1])))


if __name__ == "__main__":
    main()
