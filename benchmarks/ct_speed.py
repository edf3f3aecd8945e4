"""Slices of a real CT through the organ model: SAM-LST's published loop against ours.

Same weights, same slices, same network grid, one process. The published loop
(``utils.test_single_volume``) takes one slice at a time in float32: cubic
resampling with scipy, the network, logits enlarged to the network's size,
softmax and arg max there, nearest resampling back. Ours is what ``domainsam ct
segment`` runs. Both are timed several times in turn; the least counts.

    python benchmarks/ct_speed.py CT.nii.gz [--labels SEG.nii.gz] [--device cuda] [--model FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import zoom
from torch.nn import functional as F

from domainsam.machine import keep_freed_memory
from domainsam_ct.labels import load_label_map
from domainsam_ct.model.organs import OrganModel, load_model
from domainsam_ct.model.predict import apply_window, make_slice_grid
from domainsam_ct.read.geometry import to_axial
from domainsam_ct.read.open import open_volume, read_mask
from domainsam_ct.train.slices import score_case

UInt8 = NDArray[np.uint8]


@torch.no_grad()
def published(model: OrganModel, slices: NDArray[np.float32], spacing: tuple[float, float]) -> UInt8:
    grid = make_slice_grid(slices.shape[1:], spacing, model.config.pixel_mm, model.config.side)
    # The part of the network's grid that the slice covers; the rest is padding.
    covered = [round(have / step) for have, step in zip(grid.size, grid.step, strict=True)]
    before = [(want - have) // 2 for want, have in zip(grid.network, covered, strict=True)]
    inside = tuple(slice(start, start + size) for start, size in zip(before, covered, strict=True))
    found = np.zeros(slices.shape, np.uint8)
    for index, image in enumerate(apply_window(slices, model.window).numpy()):
        factors = (covered[0] / image.shape[0], covered[1] / image.shape[1])
        small = np.zeros(grid.network, np.float32)
        small[inside] = zoom(image, factors, order=3)
        batch = torch.from_numpy(small)[None, None].to(model.network.device)
        logits = model.network(batch)
        full = F.interpolate(logits, grid.network, mode="bilinear", align_corners=False)
        best = torch.argmax(torch.softmax(full, dim=1), dim=1)[0].cpu().numpy()[inside]
        found[index] = zoom(best, (1 / factors[0], 1 / factors[1]), order=0)
    return found


def timed(work: Callable[[], UInt8]) -> tuple[float, float, UInt8]:
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu, found


def truth_of(path: Path, label_map: str, model: OrganModel) -> UInt8:
    values = to_axial(read_mask(path).labels)
    theirs = {organ.name: value for value, organ in load_label_map(label_map).items()}
    found = np.zeros(values.shape, np.uint8)
    for index, name in enumerate(model.labels):
        if index and name in theirs:
            found[values == theirs[name]] = index
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--label-map", default="totalsegmentator")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--slices", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    keep_freed_memory()
    ours = load_model(given.model, device=given.device)
    theirs = load_model(given.model, device=given.device, precision="fp32")
    with open_volume(given.image) as volume:
        last = min(given.slices, volume.shape[2])
        first = volume.shape[2] - last
        slices = np.ascontiguousarray(to_axial(volume.slices(first, first + last)))
        spacing = (volume.spacing[1], volume.spacing[0])
    runs: dict[str, list[tuple[float, float, UInt8]]] = {"published": [], "ours": []}
    ours.predict_slices(slices[:8], spacing)
    published(theirs, slices[:1], spacing)
    for _ in range(given.repeats):
        runs["published"].append(timed(lambda: published(theirs, slices, spacing)))
        runs["ours"].append(timed(lambda: ours.predict_slices(slices, spacing).labels))
    report: dict[str, object] = {
        "slices": list(slices.shape),
        "precision": str(ours.dtype),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    if given.labels is not None:
        truth = truth_of(given.labels, given.label_map, ours)[first : first + last]
        dice = {name: score_case(truth, parts[-1][2], ours.labels) for name, parts in runs.items()}
        # What arithmetic alone changes, without the two ways of resampling.
        dice["ours, fp32"] = score_case(truth, theirs.predict_slices(slices, spacing).labels, ours.labels)
        report["dice"] = {
            name: {organ: round(value, 4) for organ, value in part.items()} for name, part in dice.items()
        }
        means = {name: float(np.mean(list(part.values()))) for name, part in dice.items()}
        report["mean_dice"] = {name: round(value, 4) for name, value in means.items()}
    apart = np.mean(runs["published"][-1][2] != runs["ours"][-1][2])
    report["voxels_that_differ"] = round(float(apart), 5)
    for position, clock in enumerate(("wall", "cpu")):
        least = {name: min(part[:2][position] for part in parts) for name, parts in runs.items()}
        report[f"{clock}_ms_a_slice"] = {name: round(value / last * 1e3, 1) for name, value in least.items()}
        report[f"{clock}_times_faster"] = round(least["published"] / least["ours"], 2)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
