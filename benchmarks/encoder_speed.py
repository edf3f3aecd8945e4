"""SAM ViT-B on the CPU: the official package against ours, in float32 and bfloat16.

    OMP_NUM_THREADS=2 python benchmarks/encoder_speed.py [--rounds 3]

One table: median seconds and median CPU seconds to encode one image of
1024 x 1024 pixels, speed against the official code, IoU of the masks with the
official ones, and peak memory. All three hold the same random weights (no published ones are needed),
with position tables and last layers scaled so that features and masks vary as
those of a trained model do. The contestants take turns, so that other load on
the machine meets all of them; with one thread, CPU seconds hardly feel it.
Memory is measured in a process of its own each.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.foundation.sam import SIZES, SamFoundation, build
from domainsam.weights import SAM_PIXELS

SIDE = 1024
GRID = 4
"""Box prompts along each side of the image for the comparison of masks."""
CONTESTANTS = ("official float32", "ours float32", "ours bfloat16")
TYPES = {"ours float32": torch.float32, "ours bfloat16": torch.bfloat16}
Encoder = Callable[[Tensor], Tensor]


def random_sam() -> Sam:
    """Official ViT-B with seeded weights: positions of a trained model's size, masks that spread around 0."""
    torch.manual_seed(0)
    sam = sam_model_registry["vit_b"]()
    for name, parameter in sam.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            nn.init.normal_(parameter, std=0.1)
    return sam.eval().requires_grad_(False)


def test_image() -> Tensor:
    """Smooth random colours with noise, ``(1, 3, 1024, 1024)`` in 0 to 1."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(1, 3, 24, 24, generator=generator)
    smooth = F.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic", align_corners=False)
    return (smooth + 0.05 * torch.randn(1, 3, SIDE, SIDE, generator=generator)).clamp(0, 1)


def ours(sam: Sam, dtype: torch.dtype) -> SamFoundation:
    network = build(sam.state_dict(), SIZES["sam_vit_b"], "random weights")
    return SamFoundation(network, "sam_vit_b", SIDE, dtype)


def encoder(name: str, sam: Sam) -> Encoder:
    """What a contestant does with an image in 0 to 1, normalisation included."""
    if name in TYPES:
        foundation = ours(sam, TYPES[name])
        return lambda image: foundation.encode(image).image
    mean = torch.tensor(SAM_PIXELS.mean).view(3, 1, 1)
    std = torch.tensor(SAM_PIXELS.std).view(3, 1, 1)
    return lambda image: sam.image_encoder((image - mean) / std)


def masks(sam: Sam, features: Tensor) -> Tensor:
    """Official single-reading logits ``(N, 256, 256)`` of a grid of boxes, centred on their common median."""
    corners = torch.arange(GRID) * (SIDE / GRID)
    left, top = torch.meshgrid(corners, corners, indexing="xy")
    boxes = torch.stack([left, top, left + 250, top + 250], dim=-1).reshape(-1, 4)
    sparse, dense = sam.prompt_encoder(points=None, boxes=boxes, masks=None)
    logits, _ = sam.mask_decoder(features, sam.prompt_encoder.get_dense_pe(), sparse, dense, False)
    return logits[:, 0]


def agreement(sam: Sam, expected: Tensor, found: Tensor) -> float:
    """Mean IoU of masks decoded by the official decoder; a mask is what lies above its expected median."""
    one, other = masks(sam, expected), masks(sam, found)
    threshold = one.flatten(1).median(dim=1).values[:, None, None]
    one, other = one > threshold, other > threshold
    iou = (one & other).flatten(1).sum(1) / (one | other).flatten(1).sum(1)
    return float(iou.mean())


def peak_memory(name: str) -> float:
    """Peak resident memory in GB of a process that encodes one image."""
    command = [sys.executable, "-W", "ignore", str(Path(__file__).resolve()), "--measure-memory", name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1e6


def peak_kilobytes() -> int:
    """Peak resident memory of this process; unlike ``ru_maxrss`` it owes nothing to the parent's size."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise RuntimeError("peak memory is read from /proc, which this system lacks")


def compare(rounds: int) -> None:
    sam, image = random_sam(), test_image()
    encoders = {name: encoder(name, sam) for name in CONTESTANTS}
    seconds: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    processor: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    features: dict[str, Tensor] = {}
    for number in range(rounds + 1):
        for name, encode in encoders.items():
            start, start_processor = time.perf_counter(), time.process_time()
            features[name] = encode(image)
            if number:  # The first round warms up.
                seconds[name].append(time.perf_counter() - start)
                processor[name].append(time.process_time() - start_processor)
    reference = statistics.median(seconds[CONTESTANTS[0]])
    reference_processor = statistics.median(processor[CONTESTANTS[0]])
    print(f"SAM ViT-B encoder, {SIDE} x {SIDE}, {torch.get_num_threads()} threads, median of {rounds}")
    print(f"{'':18}{'s/image':>9}{'speed':>8}{'CPU s':>8}{'speed':>8}{'mask IoU':>10}{'peak GB':>9}")
    for name in CONTESTANTS:
        took = statistics.median(seconds[name])
        iou = agreement(sam, features[CONTESTANTS[0]], features[name])
        work = statistics.median(processor[name])
        print(
            f"{name:18}{took:9.2f}{reference / took:7.2f}x{work:8.2f}{reference_processor / work:7.2f}x"
            f"{iou:10.4f}{peak_memory(name):9.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure-memory", choices=CONTESTANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with torch.inference_mode():
        if options.measure_memory:
            encoder(options.measure_memory, random_sam())(test_image())
            print(peak_kilobytes())
        else:
            compare(options.rounds)


if __name__ == "__main__":
    main()
