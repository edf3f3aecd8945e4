"""Latency and memory of the scene network by number of sensors, against SAM 2's own video predictor.

    python benchmarks/scene_latency.py sensors      # 1 to 6 sensors, each way of joining them
    python benchmarks/scene_latency.py video        # six frames, official predictor and ours, same weights
    python benchmarks/scene_latency.py training     # memory of experts against full fine-tuning

Times are CPU time of one thread, so that other work on the machine does not
count; the least of several runs. Weights are random: nothing here depends on them.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
from PIL import Image

from domainsam.foundation import sam2
from domainsam.foundation.embedded_sam2 import TinySam2Foundation, build
from domainsam.machine import keep_freed_memory
from domainsam.memory.bank import MemoryBank, MemoryParts
from domainsam.protocols import Features, Masks
from domainsam_scene.model.network import NetworkConfig, SceneNetwork

NAME = "sam2.1_hiera_tiny"
CONFIG = "configs/sam2.1/sam2.1_hiera_t.yaml"
CLICK = (0.4, 0.55)
HARD = 1e4
"""Factor that makes a sigmoid of logits a threshold, as the predictor does to masks from clicks."""


def least(work: Callable[[], Any], runs: int) -> float:
    """Seconds of CPU time, the least of some runs after one to warm up."""
    work()
    times = []
    for _ in range(runs):
        began = process_time()
        work()
        times.append(process_time() - began)
    return min(times)


def sensors(options: argparse.Namespace) -> None:
    """Seconds an image and peak memory for 1 to 6 sensors."""
    if options.method is None:
        for method in ("memorysam", "mlesam", "both"):
            for count in range(1, 7):
                again = [sys.executable, "-W", "ignore", __file__, "sensors", "--method", method]
                subprocess.run([*again, "--count", str(count), "--side", str(options.side)], check=True)
        return
    torch.manual_seed(0)
    names = tuple(f"sensor{number}" for number in range(options.count))
    config = NetworkConfig(labels=tuple("abcdefghij"), modalities=names, method=options.method)
    network = SceneNetwork(config, TinySam2Foundation(build())).eval()
    images = {name: torch.rand(1, 3, options.side, options.side) for name in names}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.inference_mode():
        seconds = least(lambda: network(images), options.runs)
        reading = time_of_reading(lambda: network(images))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    row = {
        "method": options.method,
        "sensors": options.count,
        "ms": round(1000 * seconds),
        "of which memory attention": round(1000 * reading),
        "MB": round(grown),
    }
    print(json.dumps(row), flush=True)


def time_of_reading(work: Callable[[], Any]) -> float:
    """Seconds of CPU time that work spends in reading memory."""
    read, clock = MemoryBank.read, process_time
    spent: list[float] = []

    def timed(self: MemoryBank, features: Features, time: int | None = None) -> Features:
        began = clock()
        seen = read(self, features, time)
        spent.append(clock() - began)
        return seen

    MemoryBank.read = timed  # type: ignore[method-assign]
    try:
        work()
    finally:
        MemoryBank.read = read  # type: ignore[method-assign]
    return sum(spent)


def official(model: Any, frames: Path) -> tuple[Callable[[], torch.Tensor], torch.Tensor]:
    """SAM 2's predictor over a folder of frames after one click, and the frames as it has read them."""
    state = model.init_state(str(frames))
    pixels: torch.Tensor = state["images"]
    click = np.array([CLICK], np.float32) * (state["video_width"], state["video_height"])

    @torch.inference_mode()
    def run() -> torch.Tensor:
        model.reset_state(state)
        state["cached_features"].clear()
        model.add_new_points_or_box(state, 0, 1, points=click, labels=np.ones(1, np.int32))
        return torch.cat([logits for _, _, logits in model.propagate_in_video(state)])

    return run, pixels


def ours(model: Any, pixels: torch.Tensor, shape: tuple[int, int]) -> Callable[[], torch.Tensor]:
    """The same with our memory bank; the heads are the official ones."""
    parts = MemoryParts(model).eval()
    side = int(model.image_size)
    point = {
        "point_coords": torch.tensor([[CLICK]]) * side,
        "point_labels": torch.ones(1, 1, dtype=torch.int32),
    }

    @torch.inference_mode()
    def run() -> torch.Tensor:
        bank = MemoryBank(parts, frames=len(pixels), store=torch.bfloat16)
        answers = []
        pyramid = [level.split(1) for level in model.forward_image(pixels)["backbone_fpn"]]
        for number, (at4, at8, plain) in enumerate(zip(*pyramid, strict=True)):
            features = Features(plain, (at4, at8), (side, side))
            seen = bank.read(features, number)
            first = number == 0
            _, _, _, low, _, pointer, score = model._forward_sam_heads(
                seen.image,
                point_inputs=point if first else None,
                high_res_features=[at4, at8],
                multimask_output=True,
            )
            answers.append(low)
            if number + 1 < len(pixels):
                drawn = Masks(low * HARD if first else low, score)
                bank.write(number, features, drawn, pointer, -1 if first else None, (score > 0).float())
        return torch.nn.functional.interpolate(
            torch.cat(answers), shape, mode="bilinear", align_corners=False
        )

    return run


def video(options: argparse.Namespace) -> None:
    """Both over the same frames with the same weights, one after the other."""
    from sam2.build_sam import build_sam2_video_predictor

    torch.manual_seed(0)
    overrides = [f"++model.image_size={options.side}", "++model.fill_hole_area=0"]
    model = build_sam2_video_predictor(CONFIG, device="cpu", hydra_overrides_extra=overrides)
    model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.data.fill_(10.0)
    for name, part in model.named_parameters():
        if "output_hypernetworks_mlps" in name and name.endswith("layers.2.weight"):
            part.data.mul_(30)
    with tempfile.TemporaryDirectory() as folder:
        random = np.random.default_rng(0)
        shape = (options.side * 3 // 4, options.side)
        for number in range(options.count):
            coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), np.uint8).astype(np.uint8))
            coarse.resize(shape[::-1], Image.Resampling.BICUBIC).save(Path(folder) / f"{number:05d}.jpg")
        theirs, pixels = official(model, Path(folder))
        mine = ours(model, pixels, shape)
        gap = float((theirs() - mine()).abs().max())
        spread = float(theirs().std())
        seconds = {"official": least(theirs, options.runs), "ours": least(mine, options.runs)}
    row = {"frames": options.count, "side": options.side, "largest difference": gap, "logits' spread": spread}
    print(json.dumps({**row, **seconds, "times faster": seconds["official"] / seconds["ours"]}))


def training(options: argparse.Namespace) -> None:
    """Peak memory of two training steps on SAM 2.1 Tiny's shape."""
    modes = ("experts", "experts, checkpointing", "full fine-tuning")
    if options.method is None:
        for mode in modes:
            again = [sys.executable, "-W", "ignore", __file__, "training", "--method", mode]
            subprocess.run([*again, "--count", str(options.count), "--side", str(options.side)], check=True)
        return
    foundation = sam2.Sam2Foundation(sam2.build(NAME), NAME)
    names = tuple(f"sensor{number}" for number in range(options.count))
    config = NetworkConfig(
        labels=tuple("abcdefghij"),
        modalities=names,
        method="mlesam",
        rank=32,
        head_width=256,
        checkpointing=options.method.endswith("checkpointing"),
    )
    network = SceneNetwork(config, foundation).train()
    trained = [part for part in network.parameters() if part.requires_grad]
    if options.method == "full fine-tuning":
        trained += list(foundation.model.image_encoder.requires_grad_(True).parameters())
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        images = {name: torch.rand(2, 3, options.side, options.side) for name in names}
        optimizer.zero_grad(set_to_none=True)
        network(images).logits.square().mean().backward()
        optimizer.step()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    million = sum(part.numel() for part in trained) / 1e6
    print(
        json.dumps({"mode": options.method, "trained, M": round(million, 1), "MB": round(grown)}), flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["sensors", "video", "training"])
    parser.add_argument("--count", type=int, default=6, help="sensors or frames")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--method", help="run this one alone, in this process")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    {"sensors": sensors, "video": video, "training": training}[options.what](options)


if __name__ == "__main__":
    main()
