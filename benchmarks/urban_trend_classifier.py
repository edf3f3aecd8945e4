"""Does a classifier of cells help? Maps labelled scenes with and without it.

Prints, for each threshold, the share of cells passed over, the pooled IoU,
precision and recall of settlement pixels, and the CPU seconds of mapping.
Labels lie beside the scenes, as for ``domainsam urban evaluate``.

    python benchmarks/urban_trend_classifier.py SCENES classifier.safetensors --thresholds 0.4 0.5 0.6
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from rasterio.warp import Resampling, reproject

from domainsam.io.pairing import Scene, find_labels, find_scenes
from domainsam.metrics.overlap import Confusion
from domainsam.protocols import Window
from domainsam_urban.map import map_scenes
from domainsam_urban.model.classifier import CellClassifier, ScreenedPrompter, load_classifier, place_cells
from domainsam_urban.model.settlement import SettlementModel, load_model
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.settings import MapOptions, OutputOptions, RunOptions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenes", type=Path)
    parser.add_argument("classifier", type=Path)
    parser.add_argument("--thresholds", type=float, nargs="*", default=[])
    parser.add_argument("--method", choices=["full", "coarse"], default="full")
    arguments = parser.parse_args()
    scenes = find_scenes([arguments.scenes])
    options = MapOptions(OutputOptions(()), run=RunOptions(device="cpu", method=arguments.method), quiet=True)
    model = load_model(options)
    classifier = load_classifier(arguments.classifier)
    print("| threshold | cells passed over | IoU | precision | recall | CPU s |")
    print("|---|---:|---:|---:|---:|---:|")
    print(row("none", 0.0, *measure(scenes, model, options)))
    for threshold in [classifier.config.threshold, *arguments.thresholds]:
        chosen = at(classifier, threshold)
        passed = np.mean([passed_over(scene, model, chosen) for scene in scenes])
        scores = measure(scenes, replace(model, classifier=chosen), options)
        print(row(f"{threshold:.3f}", float(passed), *scores), flush=True)


def row(name: str, passed: float, counts: Confusion, seconds: float) -> str:
    scores = counts.scores()
    values = (float(value[1]) for value in (scores.iou, scores.precision, scores.recall))
    return (
        f"| {name} | {passed:.0%} | " + " | ".join(f"{value:.3f}" for value in values) + f" | {seconds:.1f} |"
    )


def at(classifier: CellClassifier, threshold: float) -> CellClassifier:
    """The same classifier, asked at another threshold."""
    other = CellClassifier(replace(classifier.config, threshold=threshold))
    other.load_state_dict(classifier.state_dict())
    return other.eval()


def passed_over(scene: Scene, model: SettlementModel, classifier: CellClassifier) -> float:
    """Share of a scene's cells that the classifier finds empty."""
    screen = ScreenedPrompter(model.prompter, classifier, model.resolution)
    with RasterSource(str(scene.path), resolution=model.resolution) as source, torch.inference_mode():
        rows, columns = (length // 4 * 4 for length in source.grid.shape)
        empty = []
        for top in place_cells(rows, screen.side):
            for left in place_cells(columns, screen.side):
                block = source.read(Window(top, left, screen.side, screen.side))
                cell = torch.from_numpy(block.image)[None]
                empty.append(not bool(screen.settled(cell).any()))
    return float(np.mean(empty))


def measure(scenes: Sequence[Scene], model: SettlementModel, options: MapOptions) -> tuple[Confusion, float]:
    """Pixels of all scenes, and the CPU seconds of mapping them."""
    counts, begin = Confusion(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        for number, scene in enumerate(scenes):
            mask = Path(folder) / f"{number}.tif"
            outputs = OutputOptions((), mask=mask, stac=False)
            map_scenes([str(scene.path)], replace(options, outputs=outputs), model)
        seconds = time.process_time() - begin
        for number, scene in enumerate(scenes):
            counts.add(*compared(Path(folder) / f"{number}.tif", find_labels(scene, scene.path.parent)))
    return counts, seconds


def compared(mask: Path, labels: Path) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Truth and answer on the answer's grid."""
    with rasterio.open(mask) as found, rasterio.open(labels) as truth:
        answer = found.read(1)
        true = np.full(answer.shape, 255, np.uint8)
        reproject(
            truth.read(1),
            true,
            src_transform=truth.transform,
            src_crs=truth.crs,
            dst_transform=found.transform,
            dst_crs=found.crs,
            dst_nodata=255,
            resampling=Resampling.nearest,
        )
    return true, answer == 1


if __name__ == "__main__":
    main()
