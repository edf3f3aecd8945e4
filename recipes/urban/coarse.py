"""The shipped settlement model: SegFormer from scratch, on six tiles.

    python -m recipes.urban.coarse DATA --work runs/urban

``DATA`` is the folder of real data. Six overlapping tiles of one winter scene
must teach what holds in another district in summer, so nearly all of the
recipe is change: of scale, colour, haze, neighbourhood (CutMix), and negative
ground of other kinds (farmland from the air, drawn rows of sheds). The phases
below are those that made the shipped weights; each starts from the best state
of the one before it, by pooled IoU on the two validation tiles.

It leaves ``coarse.safetensors``, which is the shipped model: its mixer is as
it was drawn, because the joint stage (``joint.toml``) lowered the IoU on the
validation tiles at every evaluation. It also leaves ``masks/``, the training
labels with contradictory ground marked unknown: where two tiles overlap, their
masks disagree on up to 29 % of it.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.foundation import load_foundation
from domainsam.prompter.proposals import ProposalConfig
from domainsam.prompter.segformer import PrompterConfig, PromptParts, SegFormerPrompter, compute_log_odds
from domainsam.prompter.trained import save_prompter

IGNORE = 255
GROUND_PIXEL = 0.913
"""Metres a pixel of the tiles covers: web-map zoom 17 at 40 degrees north."""
FILTER = ProposalConfig(min_side=75, min_area=5625)
"""UV-SAM's least box, 100 x 100 pixels of the tiles, at three quarters of their size."""
PARTS = PromptParts(mask=False)
GATE = 0.7
"""Both chosen on the validation tiles: no mask prompt, and two thirds of the answer from the foundation."""
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)

Tile = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@dataclass(frozen=True)
class Phase:
    """``steps`` of a cosine of ``length`` steps; crops of ``size`` at ``scale`` of the tiles' own pixels."""

    name: str
    steps: int
    length: int
    rate: float
    size: int
    scale: tuple[float, float]
    judged_at: float
    farmland: float
    rows: float = 0.0
    mended: bool = True
    every: int = 100


PHASES = (
    Phase("a", 300, 1600, 1e-3, 192, (0.3, 0.7), 0.5, farmland=0.12, mended=False),
    Phase("b", 400, 1200, 1e-3, 192, (0.3, 0.75), 0.5, farmland=0.08),
    Phase("c", 1000, 1000, 8e-4, 224, (0.45, 1.0), 0.75, farmland=0.08),
    Phase("d", 500, 500, 5e-4, 224, (0.45, 1.0), 0.75, farmland=0.08, rows=0.12, every=50),
)


def read_tiles(folder: Path) -> dict[str, Tile]:
    """Images ``(H, W, 3)`` and masks ``(H, W)`` of 0 and 1, by ``ROW_COL``."""
    tiles = {}
    for path in sorted(folder.glob("*_image.tif")):
        with rasterio.open(path) as scene, rasterio.open(str(path).replace("_image", "_mask")) as mask:
            image = scene.read((1, 2, 3)).transpose(1, 2, 0)
            tiles[path.stem.removesuffix("_image")] = image, (mask.read(1) == 1).astype(np.uint8)
    return tiles


def mend(tiles: dict[str, Tile]) -> dict[str, Tile]:
    """The tiles with ground on which two of them disagree marked unknown; an index step is 256 pixels."""
    corner = {name: tuple(256 * int(part) for part in name.split("_")) for name in tiles}
    mended = {name: (image, mask.copy()) for name, (image, mask) in tiles.items()}
    for name, (top, left) in corner.items():
        for other, (top2, left2) in corner.items():
            rows = max(top, top2), min(top, top2) + 1024
            cols = max(left, left2), min(left, left2) + 1024
            if name == other or rows[0] >= rows[1] or cols[0] >= cols[1]:
                continue
            own = np.s_[rows[0] - top : rows[1] - top, cols[0] - left : cols[1] - left]
            theirs = np.s_[rows[0] - top2 : rows[1] - top2, cols[0] - left2 : cols[1] - left2]
            mended[name][1][own][tiles[name][1][own] != tiles[other][1][theirs]] = IGNORE
    return mended


def farmland(folder: Path) -> list[Tile]:
    """Aerial photographs of fields and ponds at 1 m: no settlement anywhere."""
    found = []
    for path in sorted(folder.glob("*.tif")):
        with rasterio.open(path) as scene:
            image = scene.read((1, 2, 3)).transpose(1, 2, 0)
        found.append((image, np.zeros(image.shape[:2], np.uint8)))
    return found


def shed_rows(rng: Generator, side: int = 640) -> Tile:
    """Drawn greenhouses and sheds: long parallel roofs, which are dense and regular yet no settlement."""
    rows, cols = np.mgrid[:side, :side].astype(np.float32)
    angle = rng.choice([0, np.pi / 2]) + rng.normal(0, 0.15)
    across = cols * np.cos(angle) + rows * np.sin(angle)
    along = rows * np.cos(angle) - cols * np.sin(angle)
    pitch, share = rng.uniform(8, 22), rng.uniform(0.4, 0.85)
    length, gap = rng.uniform(40, 160), rng.uniform(4, 14)
    phase = (across / pitch) % 1
    roof = (phase < share) & (along % length < length - gap)
    number = (np.floor(across / pitch) * 131 + np.floor(along / length) * 17).astype(int) % 997
    tone = rng.normal(0, rng.uniform(4, 22), (997, 1)) + rng.normal(0, 4, (997, 3))
    bright = rng.uniform(90, 210) + rng.normal(0, 12, 3) + tone[number]
    dark = rng.uniform(50, 140) + rng.normal(0, 18, 3) * np.array([1, 1.2, 0.8])
    ridge = (phase < share / 2) * rng.uniform(-25, 25)
    image = np.where(roof[..., None], bright + ridge[..., None], dark)
    image += smooth(rng.normal(0, 1, (20, 20)), (side, side))[..., None] * rng.uniform(3, 14)
    image += rng.normal(0, rng.uniform(2, 10), (side, side, 1))
    return image.clip(0, 255).astype(np.uint8), np.zeros((side, side), np.uint8)


def smooth(field: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float32]:
    """A small field enlarged smoothly to ``size`` (H, W)."""
    small = Image.fromarray(field.astype(np.float32))
    return np.array(small.resize((size[1], size[0]), Image.Resampling.BICUBIC))


def recolour(image: NDArray[np.uint8], rng: Generator) -> NDArray[np.float32]:
    """Another season, sensor and sky, 0 to 1: colour, gains, contrast, gamma, haze, noise."""
    pixels = image.astype(np.float32) / 255
    grey = pixels.mean(axis=2, keepdims=True)
    chance = rng.random(4)
    pixels = grey + (pixels - grey) * rng.uniform(0, 1.8) if chance[0] < 0.65 else grey.repeat(3, axis=2)
    pixels = pixels * rng.uniform(0.8, 1.2, 3) + rng.uniform(-0.08, 0.08, 3)
    if chance[1] < 0.2:
        pixels = pixels[..., rng.permutation(3)]
    mean = pixels.mean()
    pixels = (pixels - mean) * rng.uniform(0.6, 1.5) + mean * rng.uniform(0.7, 1.3)
    pixels = np.clip(pixels, 0, 1) ** rng.uniform(0.7, 1.4)
    if chance[2] < 0.3:
        haze = smooth(rng.uniform(0, 1, (4, 4)), pixels.shape[:2]).clip(0, 1)[..., None] * rng.uniform(0, 0.7)
        pixels = pixels * (1 - haze) + haze * 0.9
    if chance[3] < 0.3:
        pixels = pixels + rng.normal(0, rng.uniform(0, 0.05), pixels.shape)
    return np.clip(pixels, 0, 1).astype(np.float32)


class Crops:
    """Random crops of tiles, farmland and drawn sheds."""

    def __init__(self, tiles: list[Tile], fields: list[Tile], phase: Phase, rng: Generator) -> None:
        self.tiles, self.fields, self.phase, self.rng = tiles, fields, phase, rng

    def crop(self) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """One crop ``(S, S, 3)`` float32 in 0 to 1, and its labels ``(S, S)``."""
        rng, phase = self.rng, self.phase
        pool = self.tiles if rng.random() > phase.farmland else self.fields
        image, mask = pool[int(rng.integers(len(pool)))]
        if rng.random() < phase.rows:
            image, mask = shed_rows(rng)
        height, width = mask.shape
        scale = math.exp(rng.uniform(*np.log(phase.scale)))
        aspect = math.exp(rng.uniform(-0.15, 0.15))
        w, h = min(phase.size / scale * aspect, width), min(phase.size / scale / aspect, height)
        left, top = rng.uniform(0, width - w), rng.uniform(0, height - h)
        box, size = (left, top, left + w, top + h), (phase.size, phase.size)
        pixels = np.array(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, box=box))
        labels = np.array(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST, box=box))
        turns = int(rng.integers(4))
        pixels, labels = np.rot90(pixels, turns), np.rot90(labels, turns)
        if rng.random() < 0.5:
            pixels, labels = pixels[:, ::-1], labels[:, ::-1]
        return recolour(pixels, rng), labels

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """Images ``(B, 3, S, S)`` and labels ``(B, S, S)`` int64; in 40 % a square comes from a neighbour."""
        pairs = [self.crop() for _ in range(count)]
        images = torch.from_numpy(np.stack([image.transpose(2, 0, 1) for image, _ in pairs]))
        labels = torch.from_numpy(np.stack([mask for _, mask in pairs]).astype(np.int64))
        if self.rng.random() < 0.4:
            side = int(self.phase.size * self.rng.uniform(0.3, 0.6))
            top, left = (int(value) for value in self.rng.integers(0, self.phase.size - side, 2))
            view = np.s_[..., top : top + side, left : left + side]
            other = torch.randperm(count)
            images, labels = images.clone(), labels.clone()
            images[view], labels[view] = images[other][view], labels[other][view]
        return images, labels


def loss_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy (smoothing 0.05) plus half of Dice over the batch; 255 is ignored."""
    logits = F.interpolate(logits.float(), labels.shape[-2:], mode="bilinear")
    entropy = F.cross_entropy(logits, labels, label_smoothing=0.05, ignore_index=IGNORE)
    inside = logits.softmax(1)[:, 1] * (labels != IGNORE)
    truth = labels == 1
    dice = (2 * (inside * truth).sum() + 1) / (inside.sum() + truth.sum() + 1)
    return entropy + 0.5 * (1 - dice)


@torch.no_grad()
def judge(network: SegFormerPrompter, tiles: list[Tile], scale: float) -> dict[float, float]:
    """Pooled IoU at each threshold on whole tiles, seen at ``scale``."""
    network.eval()
    overlap, union = np.zeros(len(THRESHOLDS)), np.zeros(len(THRESHOLDS))
    for image, mask in tiles:
        side = int(mask.shape[0] * scale) // 32 * 32
        small = np.array(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
        pixels = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 255
        odds = F.interpolate(compute_log_odds(network.coarse(pixels).logits), mask.shape, mode="bilinear")
        guess = odds[0, 0].sigmoid().numpy()
        for index, threshold in enumerate(THRESHOLDS):
            overlap[index] += ((guess > threshold) & (mask == 1)).sum()
            union[index] += ((guess > threshold) | (mask == 1)).sum()
    network.train()
    return {
        threshold: round(float(value), 3)
        for threshold, value in zip(THRESHOLDS, overlap / union, strict=True)
    }


def run_phase(
    network: SegFormerPrompter, crops: Crops, judged: list[Tile], phase: Phase
) -> tuple[float, dict[str, Tensor]]:
    """Train one phase; the best average's score and weights."""
    parameters = [*network.encoder.parameters(), *network.head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=phase.rate, weight_decay=0.05)
    average = SegFormerPrompter(network.config)
    average.load_state_dict(network.state_dict())
    best: tuple[float, dict[str, Tensor]] = (0.0, {})
    network.train()
    for step in range(1, phase.steps + 1):
        rise = min(1.0, step / 50)
        fall = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / phase.length))
        for group in optimizer.param_groups:
            group["lr"] = phase.rate * rise * fall
        images, labels = crops.batch(8)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            coarse = network.coarse(images.contiguous(memory_format=torch.channels_last))
        loss = loss_of(coarse.logits, labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        decay = min(0.99, (1 + step) / (10 + step))
        with torch.no_grad():
            for kept, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
                if kept.dtype.is_floating_point:
                    kept.lerp_(value, 1 - decay)
                else:
                    kept.copy_(value)
        if step % phase.every == 0 or step == phase.steps:
            scores = judge(average, judged, phase.judged_at)
            print(phase.name, step, f"loss {float(loss):.3f}", scores, flush=True)
            if max(scores.values()) >= best[0]:
                best = (
                    max(scores.values()),
                    {name: value.clone() for name, value in average.state_dict().items()},
                )
    return best


def write_masks(tiles: dict[str, Tile], source: Path, folder: Path) -> None:
    """The mended masks as GeoTIFFs, 255 unknown, beside copies of nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (_, mask) in tiles.items():
        with rasterio.open(source / f"{name}_mask.tif") as original:
            profile = original.profile | {"nodata": IGNORE, "dtype": "uint8", "count": 1}
        with rasterio.open(folder / f"{name}_mask.tif", "w", **profile) as out:
            out.write(mask, 1)


def main() -> None:
    """Run all phases and leave the model and the masks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, default=Path("runs/urban"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    source = options.data / "satellite/urban_villages"
    tiles = read_tiles(source / "train")
    mended = mend(tiles)
    write_masks(mended, source / "train", options.work / "masks")
    fields = farmland(options.data / "satellite/opengeos/naip")
    judged = list(read_tiles(source / "val").values())
    config = PrompterConfig(dropout=0.0, drop_path=0.05, fusion="gate", proposals=FILTER, parts=PARTS)
    network = SegFormerPrompter(config)
    network = network.to(memory_format=torch.channels_last)
    score = 0.0
    for phase in PHASES:
        ground = mended if phase.mended else tiles
        score, state = run_phase(network, Crops(list(ground.values()), fields, phase, rng), judged, phase)
        network.load_state_dict(state)
    assert network.gate is not None
    nn.init.constant_(network.gate, GATE)
    scene = {"resolution": GROUND_PIXEL / PHASES[-1].judged_at, "tile": 512, "overlap": 128}
    labels = ("background", "settlement")
    foundation = load_foundation("embedded")
    scores = {"coarse_iou": score}
    save_prompter(
        options.work / "coarse.safetensors", network, foundation, "urban", labels, {"scene": scene}, scores
    )


if __name__ == "__main__":
    main()
