"""Train the model inside the package on drawn scenes; stop and go on at will.

python recipes/scene/demo.py --work runs/scene/demo --out WEIGHTS
"""

from __future__ import annotations

import argparse
from functools import lru_cache
from pathlib import Path

import numpy as np

from domainsam.train.loop import StageOptions
from domainsam_scene.generated import CLASSES, SENSORS, make_scene
from domainsam_scene.learning import LearningOptions
from domainsam_scene.material import DrawnScenes, SceneCropOptions
from domainsam_scene.modalities import Sample
from domainsam_scene.network import NetworkOptions
from domainsam_scene.recipe import TrainConfig, TrainOptions
from domainsam_scene.training import train_scenes

DRAWN = 300
"""Scenes to learn from; each is drawn once and kept."""
JUDGED_FROM = 1_000_000
"""Seeds of the scenes that weights are chosen by, far from those they learn from."""


def drawn(first: int, size: int) -> DrawnScenes:
    """Scenes of the seeds from ``first`` on; a sensor that was dropped is not in the sample."""

    def make(number: int) -> tuple[Sample, np.ndarray]:
        scene = make_scene(first + number, size)
        there = [name for name in SENSORS if scene.valid[name].any()]
        images = {name: scene.images[name] for name in there}
        return Sample(f"{first + number}", images, {name: scene.valid[name] for name in there}), scene.labels

    kept = lru_cache(DRAWN)(make)
    return DrawnScenes(kept, DRAWN if first < JUDGED_FROM else 40, CLASSES, SENSORS)


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=440)
    parser.add_argument("--batch", type=int, default=3)
    parser.add_argument("--crop", type=int, default=128, help="side of crops")
    parser.add_argument("--size", type=int, default=160, help="side of scenes")
    parser.add_argument("--method", default="both")
    parser.add_argument("--precision", default="fp32")
    options = parser.parse_args()
    config = TrainConfig(
        batch_size=options.batch,
        judged=12,
        network=NetworkOptions(method=options.method, image_size=options.size),
        crops=SceneCropOptions(options.crop, scale=(0.8, 1.4), colour=0.2),
        learning=LearningOptions(drop=0.25, balance=True),
        stage=StageOptions(
            options.steps,
            lr=1.5e-3,
            weight_decay=0.01,
            warmup=30,
            ema=0.98,
            eval_every=max(50, options.steps // 4),
        ),
    )
    run = TrainOptions(
        options.out, layout="drawn", precision=options.precision, workers=1, resume=True, overwrite=True
    )
    result = train_scenes(drawn(0, options.size), drawn(JUDGED_FROM, options.size), config, run)
    print(result.metrics)


if __name__ == "__main__":
    main()
