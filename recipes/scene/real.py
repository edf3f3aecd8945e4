"""Every method against the best single sensor and early fusion, on real paired data, with all subsets.

    python -m recipes.scene.real DATA --work runs/scene/real
    python -m recipes.scene.real DATA --work runs/scene/real --ablation
    python -m recipes.scene.real DATA --work runs/scene/real --table
    python -m recipes.scene.real DATA --work runs/scene/real --sets tumours --ship WEIGHTS

Three folds; the same foundation, learning rate, crops and losses for all; the
number of steps is such that every method has the same computing time. Each
finished training is a line of ``results.jsonl``; the same command does what is
still missing.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from domainsam.foundation import load_foundation
from domainsam.memory.memorysam import SequenceOptions
from domainsam.metrics.overlap import Confusion
from domainsam.trunks import load_trunk
from domainsam_scene.model.build import AnyNetwork, build_network
from domainsam_scene.model.network import Method, NetworkConfig
from domainsam_scene.model.scene import save_network
from domainsam_scene.model.specialist import SpecialistNetwork
from domainsam_scene.read.modalities import Sample
from domainsam_scene.train.crops import SceneCropOptions, SceneCrops
from domainsam_scene.train.objective import LearningOptions, SceneObjective
from domainsam_scene.train.scenes import DrawnScenes
from recipes.scene.realdata import IGNORE, SETS, SIDE, Fold, Scene

SHIPPED: Method = "both"
"""Method of the weights that ``--ship`` writes."""
BATCH = 6
RATE = 1.2e-3
STEPS = {"memorysam": 95, "mlesam": 125, "both": 75, "early": 220, "single": 220, "specialist": 190}
"""Batches that take about the same computing time, measured on one core."""


@dataclass(frozen=True)
class Job:
    """One training: a set, a fold, a method under a name, and its network's options."""

    data: str
    fold: int
    name: str
    method: Method
    sensors: tuple[str, ...]
    sequence: SequenceOptions = SequenceOptions()  # noqa: RUF009 - frozen
    drop: float = 0.3
    trunk_weights: str | None = None
    """Of the specialist alone."""


def jobs(
    data: str, sensors: tuple[str, ...], ablation: bool, trunk_weights: str | None = None
) -> Iterator[Job]:
    """What is to be trained on one set, fold by fold."""
    base = SequenceOptions()
    changed = {
        "class map: highest IoU head": replace(base, class_map="iou"),
        "class map: largest class": replace(base, class_map="largest"),
        "slots: same": replace(base, slots="same"),
        "slots: order": replace(base, slots="order"),
        "object gate": replace(base, object_gate=True),
    }
    for fold in range(3):
        if ablation:
            for name, options in changed.items():
                yield Job(data, fold, name, "memorysam", sensors, options)
            yield Job(data, fold, "no dropping", "both", sensors, base, drop=0.0)
            continue
        joined: tuple[Method, ...] = ("both", "mlesam", "memorysam", "early")
        for method in joined:
            yield Job(data, fold, method, method, sensors)
        yield Job(data, fold, "specialist", "specialist", sensors, trunk_weights=trunk_weights)
        for sensor in sensors:
            yield Job(data, fold, f"{sensor} alone", "single", (sensor,))


def learn(job: Job, fold: Fold, foundation: Any, steps: int) -> AnyNetwork:
    """Train one network."""
    torch.manual_seed(job.fold)
    config = NetworkConfig(
        labels=fold.labels,
        modalities=job.sensors,
        method=job.method,
        image_size=SIDE,
        sequence=job.sequence,
    )
    network = build_network(config, foundation)
    if job.trunk_weights and isinstance(network, SpecialistNetwork):
        load_trunk(network.trunk, job.trunk_weights)
    objective = SceneObjective(network, LearningOptions(drop=job.drop)).train()
    crops = SceneCrops(
        DrawnScenes(lambda number: as_sample(fold.train[number]), len(fold.train), fold.labels, job.sensors),
        SceneCropOptions(SIDE, scale=(0.9, 1.4), turn=fold.turn, colour=0.0),
        max(fold.train[0].labels.shape),
        BATCH,
        (job.fold,),
    )
    parameters = [part for part in network.parameters() if part.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.01)
    for step in range(steps):
        part = step / steps
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 15) * 0.5 * (1 + math.cos(math.pi * part))
        batch = crops.batch(step)
        loss = objective(batch)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return network.eval()


def as_sample(scene: Scene) -> tuple[Sample, np.ndarray]:
    """A scene as the training material has it."""
    valid = {name: np.ones(scene.labels.shape, bool) for name in scene.images}
    return Sample(scene.group, scene.images, valid), scene.labels


@torch.inference_mode()
def judge(network: AnyNetwork, fold: Fold) -> dict[str, float]:
    """The score with every subset of the network's sensors."""
    sensors, scores = network.config.modalities, {}
    for count in range(1, len(sensors) + 1):
        for subset in itertools.combinations(sensors, count):
            parts = {}
            for group, scenes in itertools.groupby(fold.test, lambda scene: scene.group):
                part = parts[group] = Confusion(len(fold.labels), IGNORE)
                own = list(scenes)
                answer = network({name: padded(own, name) for name in subset}).logits.argmax(1)
                for scene, found in zip(own, answer.numpy(), strict=True):
                    height, width = scene.labels.shape
                    part.add(scene.labels, found[:height, :width])
            scores["+".join(subset)] = round(fold.score(parts), 4)
    return scores


def padded(scenes: list[Scene], sensor: str) -> torch.Tensor:
    """One sensor's images of scenes of one size, their sides made multiples of 32."""
    images = torch.from_numpy(np.stack([scene.images[sensor] for scene in scenes]))
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % 32, 0, -height % 32), mode="replicate")


def run(options: argparse.Namespace) -> None:
    """Train what is missing, one line a training."""
    options.work.mkdir(parents=True, exist_ok=True)
    log = options.work / "results.jsonl"
    done = {(row["data"], row["fold"], row["name"]) for row in rows(log)}
    foundation = load_foundation("embedded_sam2")
    folds = {data: SETS[data](options.data) for data in options.sets}
    every = [
        job
        for data in options.sets
        for job in jobs(data, folds[data][0].sensors, options.ablation, options.trunk_weights)
    ]
    for job in sorted(every, key=lambda job: job.fold):
        if (job.data, job.fold, job.name) in done or job.name not in (options.only or [job.name]):
            continue
        began, cpu = time.time(), time.process_time()
        steps = max(1, round(STEPS[job.method] * options.effort))
        network = learn(job, folds[job.data][job.fold], foundation, steps)
        spent = time.process_time() - cpu
        row = {
            "data": job.data,
            "fold": job.fold,
            "name": job.name,
            "steps": steps,
            "cpu_s": round(spent, 1),
            "wall_s": round(time.time() - began, 1),
            "million": round(
                sum(part.numel() for part in network.parameters() if part.requires_grad) / 1e6, 2
            ),
            "scores": judge(network, folds[job.data][job.fold]),
        }
        print(json.dumps(row), flush=True)
        with log.open("a") as file:
            file.write(json.dumps(row) + "\n")


def rows(log: Path) -> list[dict[str, Any]]:
    """All finished trainings."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []


def ship(options: argparse.Namespace) -> None:
    """Train on all scenes of the set as one of its folds was, and write the weights.

    Their header has the folds' mean scores: of subjects that took no part, by networks that
    learned from fewer.
    """
    data = options.sets[0]
    fold = SETS[data](options.data)[0]
    job = Job(data, 0, SHIPPED, SHIPPED, fold.sensors)
    foundation = load_foundation("embedded_sam2")
    steps = max(1, round(STEPS[SHIPPED] * options.effort))
    network = learn(job, replace(fold, train=fold.train + fold.test), foundation, steps)
    runs = [
        row["scores"]
        for row in rows(options.work / "results.jsonl")
        if (row["data"], row["name"], row["steps"]) == (data, SHIPPED, steps)
    ]
    metrics = {name: float(np.mean([run[name] for run in runs])) for name in runs[0]} if runs else {}
    recipe = {"recipe": {"script": "recipes/scene/real.py", "steps": steps, "batch_size": BATCH, "lr": RATE}}
    save_network(options.ship, network, foundation, metrics, recipe)


def table(options: argparse.Namespace) -> None:
    """Print means and spreads over folds as Markdown."""
    found = rows(options.work / "results.jsonl")
    for data in dict.fromkeys(row["data"] for row in found):
        own = [row for row in found if row["data"] == data]
        subsets = list(dict.fromkeys(name for row in own for name in row["scores"]))
        print(f"\n| {data} | steps | CPU s | M | " + " | ".join(subsets) + " |")
        print("|" + "---|" * (len(subsets) + 4))
        for name in dict.fromkeys(row["name"] for row in own):
            runs = [row for row in own if row["name"] == name]
            cells = []
            for subset in subsets:
                values = [row["scores"][subset] for row in runs if subset in row["scores"]]
                cells.append(f"{np.mean(values):.3f} ± {np.std(values):.3f}" if values else "")
            cpu = np.mean([row["cpu_s"] for row in runs])
            print(
                f"| {name} | {runs[0]['steps']} | {cpu:.0f} | {runs[0]['million']} | "
                + " | ".join(cells)
                + " |"
            )


def main() -> None:
    """Parse the command line and do as told."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/scene/real"))
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--effort", type=float, default=1.0, help="times the usual number of steps")
    parser.add_argument("--ablation", action="store_true", help="train the variants of memory instead")
    parser.add_argument("--trunk-weights", help="pretrained weights of the specialist's trunk")
    parser.add_argument("--only", nargs="+", help="names of what is trained, as in the table")
    parser.add_argument("--table", action="store_true", help="print what is there instead of training")
    parser.add_argument("--ship", type=Path, help="train on all scenes of the first set and write a model")
    options = parser.parse_args()
    if options.table:
        table(options)
    elif options.ship:
        ship(options)
    else:
        run(options)


if __name__ == "__main__":
    main()
