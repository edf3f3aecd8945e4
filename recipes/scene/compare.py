"""Compare scene models on drawn scenes that none has learnt from: every subset of sensors, and CPU time.

    python -m recipes.scene.compare runs/scene/both.safetensors runs/scene/specialist.safetensors

All models must know the four drawn sensors and classes. Figures are mean IoU
from one confusion matrix over all pixels, as the model card counts it, with
95 % intervals that resample scenes; for the second model and later ones the
difference from the first one, whose interval resamples the same scenes for
both. Times are CPU time of one scene with all sensors in one thread, the least of some runs.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from time import process_time

import numpy as np
import torch

from domainsam.metrics.bootstrap import Interval, bootstrap
from domainsam.metrics.overlap import Confusion
from domainsam.train.losses import IGNORE
from domainsam_scene.evaluate.summary import compute_mean_iou
from domainsam_scene.generated.scenes import CLASSES, SENSORS
from domainsam_scene.model.scene import SceneModel, load_model
from recipes.scene.demo import REPORTED_FROM, SIDE, drawn

RUNS = 4
SUBSETS = tuple(
    subset for count in range(len(SENSORS), 0, -1) for subset in itertools.combinations(SENSORS, count)
)


def count(model: SceneModel, subset: Sequence[str], scenes: int) -> np.ndarray:
    """Confusion of each scene ``(S, K, K)``; a scene that has none of the sensors counts nothing."""
    source = drawn(REPORTED_FROM, SIDE)
    matrices = np.zeros((scenes, len(CLASSES), len(CLASSES)))
    for number in range(scenes):
        sample, labels = source.read(number)
        there = {name: sample.images[name] for name in subset if name in sample.images}
        if there:
            answer = model.predict_sensors(there, {name: sample.valid[name] for name in there})
            confusion = Confusion(len(CLASSES), IGNORE)
            confusion.add(labels, answer.labels)
            matrices[number] = confusion.matrix
    return matrices


def score(matrices: np.ndarray) -> Interval:
    """Mean IoU of all scenes together."""
    return bootstrap(matrices, lambda sums: compute_mean_iou(sums, None))


def lead(matrices: np.ndarray, base: np.ndarray) -> Interval:
    """By how much mean IoU is above that of other matrices of the same scenes."""
    pairs = np.stack([matrices, base], axis=1)
    return bootstrap(
        pairs, lambda sums: compute_mean_iou(sums[:, 0], None) - compute_mean_iou(sums[:, 1], None)
    )


def time_scene(model: SceneModel) -> float:
    """Seconds of CPU time for one scene with all sensors."""
    source, times = drawn(REPORTED_FROM, SIDE), []
    sample = next(
        sample for sample, _ in map(source.read, range(len(source))) if len(sample.images) == len(SENSORS)
    )
    for _ in range(RUNS):
        began = process_time()
        model.predict_sensors(sample.images, sample.valid)
        times.append(process_time() - began)
    return min(times)


def tell(interval: Interval, sign: str = "") -> str:
    """A score and its interval."""
    return f"{interval.value:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"


def main() -> None:
    """Parse the command line and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--scenes", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    models = [load_model(path, device="cpu", precision="fp32") for path in options.models]
    names = [model.name for model in models]
    print("| sensors | " + " | ".join([*names, *(f"{name} - {names[0]}" for name in names[1:])]) + " |")
    print("|---" * (2 * len(names)) + "|")
    for subset in SUBSETS:
        first, *others = counted = [count(model, subset, options.scenes) for model in models]
        cells = [tell(score(each)) for each in counted] + [tell(lead(each, first), "+") for each in others]
        print(f"| {'+'.join(subset)} | " + " | ".join(cells) + " |", flush=True)
    print("CPU seconds a scene: " + ", ".join(f"{model.name} {time_scene(model):.3f}" for model in models))


if __name__ == "__main__":
    main()
