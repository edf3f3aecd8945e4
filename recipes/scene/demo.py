"""Train the model inside the package on drawn scenes; stop and go on at will.

    python -m recipes.scene.demo --out runs/scene/generated.safetensors --steps 2000
    python -m recipes.scene.demo --out runs/scene/generated.safetensors --finish

Training weighs rare classes more, so that it finds them; afterwards that
weight is taken out of the answer again as far as does the answer good, and
the size at which scenes are looked at is chosen (``--finish``). Both are
chosen on drawn scenes that are neither learnt from nor reported on.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from domainsam.checkpoint import NO_FOUNDATION, read_header
from domainsam.foundation import load_foundation
from domainsam.metrics.overlap import Confusion
from domainsam.train.loop import StageOptions
from domainsam.train.losses import IGNORE
from domainsam_scene.generated.scenes import CLASSES, SENSORS, make_scene
from domainsam_scene.model.build import AnyNetwork
from domainsam_scene.model.network import NetworkOptions
from domainsam_scene.model.predict import predict
from domainsam_scene.model.scene import load_network, save_network
from domainsam_scene.read.modalities import Sample
from domainsam_scene.train.crops import SceneCropOptions
from domainsam_scene.train.objective import LearningOptions, compute_class_weights, unweigh
from domainsam_scene.train.recipe import TrainConfig, TrainOptions
from domainsam_scene.train.scene import measure_class_frequency, train_scenes
from domainsam_scene.train.scenes import DrawnScenes

DRAWN = 300
"""Scenes to learn from; each is drawn once and kept."""
JUDGED_FROM = 1_000_000
"""Seeds of the scenes that weights are chosen by, far from those they learn from."""
REPORTED_FROM = 2_000_000
"""Seeds of the scenes that figures are reported of."""
SIDE = 256
"""Side of the scenes that the finished model is chosen and reported by, that of the demo."""
SIZES = (160, 192, 224)
PARTS = (0.0, 0.5, 0.75, 1.0)


def drawn(first: int, size: int) -> DrawnScenes:
    """Scenes of the seeds from ``first`` on; a sensor that was dropped is not in the sample."""

    def make(number: int) -> tuple[Sample, np.ndarray]:
        scene = make_scene(first + number, size)
        there = [name for name in SENSORS if scene.valid[name].any()]
        images = {name: scene.images[name] for name in there}
        return Sample(f"{first + number}", images, {name: scene.valid[name] for name in there}), scene.labels

    kept = lru_cache(DRAWN)(make)
    return DrawnScenes(kept, DRAWN if first < JUDGED_FROM else 40, CLASSES, SENSORS)


def scores(network: AnyNetwork, first: int, count: int, without: str | None = None) -> np.ndarray:
    """IoU of each class on drawn scenes, with all sensors that they have or without one."""
    confusion = Confusion(len(CLASSES), IGNORE)
    scenes = drawn(first, SIDE)
    for number in range(count):
        sample, labels = scenes.read(number)
        there = {name: image for name, image in sample.images.items() if name != without}
        valid = {name: sample.valid[name] for name in there}
        answer = predict(network, there, valid, torch.device("cpu"), torch.float32)
        confusion.add(labels, answer.labels)
    return confusion.scores().iou


def finish(path: Path, scenes: DrawnScenes, count: int) -> None:
    """Choose how much of the classes' weight is taken out and the size; write the file anew; report."""
    name = read_header(path).foundation
    foundation = None if name == NO_FOUNDATION else load_foundation(name)
    weights = compute_class_weights(measure_class_frequency(scenes))

    def at(size: int, part: float) -> AnyNetwork:
        network, _ = load_network(path, foundation)
        network.config = replace(network.config, image_size=size)
        unweigh(network, weights, part)
        return network

    judged = {}
    for size, part in itertools.product(SIZES, PARTS):
        judged[size, part] = float(np.nanmean(scores(at(size, part), JUDGED_FROM, count)))
        print(f"size {size}, weight taken out {part}: mean IoU {judged[size, part]:.3f}", flush=True)
    size, part = max(judged, key=lambda key: judged[key])
    network = at(size, part)
    found = {name: scores(network, REPORTED_FROM, count, name) for name in (None, *SENSORS)}
    figures = {
        "mean_iou": float(np.nanmean(found[None])),
        **{f"mean_iou_without_{name}": float(np.nanmean(found[name])) for name in SENSORS},
    }
    recipe = {"recipe": read_header(path).config["recipe"], "weight_taken_out": part}
    save_network(path, network, foundation, figures, recipe)
    print(json.dumps({"image_size": size, "weight_taken_out": part, **figures}, indent=1))
    for number, name in enumerate(CLASSES):
        print(f"| {name} | " + " | ".join(f"{iou[number]:.2f}" for iou in found.values()) + " |")


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
    parser.add_argument("--trunk-weights", help="of the specialist alone (--method specialist)")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--finish", action="store_true", help="finish a trained file instead of training")
    parser.add_argument("--judged", type=int, default=24, help="scenes that --finish chooses and reports by")
    options = parser.parse_args()
    if options.finish:
        finish(options.out, drawn(0, options.size), options.judged)
        return
    config = TrainConfig(
        trunk_weights=options.trunk_weights,
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
