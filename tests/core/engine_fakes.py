"""Scenes and networks for tests of the engine: small, deterministic, with finite context."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.grid import Grid
from domainsam.infer.tiling import TileGrid
from domainsam.prompts import PromptSet
from domainsam.protocols import Block, Coarse, Features, Foundation, Window


@contextmanager
def one_thread() -> Iterator[None]:
    """Networks this small only wait for one another on many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass
class ArraySource:
    """A scene held in memory."""

    image: NDArray[np.float32]
    valid: NDArray[np.bool_]
    delay: float = 0.0
    reads: list[Window] = field(default_factory=list)

    @property
    def grid(self) -> Grid:
        return Grid(self.valid.shape, np.eye(3), "pixel")

    def read(self, window: Window) -> Block:
        self.reads.append(window)
        if self.delay:
            time.sleep(self.delay)
        image = np.zeros((3, window.height, window.width), dtype=np.float32)
        valid = np.zeros((window.height, window.width), dtype=bool)
        height, width = self.valid.shape
        rows = slice(max(0, window.row), min(height, window.row + window.height))
        cols = slice(max(0, window.col), min(width, window.col + window.width))
        into = (
            slice(rows.start - window.row, rows.stop - window.row),
            slice(cols.start - window.col, cols.stop - window.col),
        )
        valid[into] = self.valid[rows, cols]
        image[(slice(None), *into)] = self.image[:, rows, cols] * self.valid[rows, cols]
        return Block(window, image, valid)

    def blocks(self, size: int, overlap: int) -> Iterator[Block]:
        for window in TileGrid.cover(self.valid.shape, size, overlap).windows():
            yield self.read(window)


def textured_scene(
    shape: tuple[int, int], seed: int = 0, blob: float = 12.0, invalid: bool = True
) -> ArraySource:
    """Bright blobs of many sizes on a dark ground with texture, and a corner without data."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), blob)
    texture = ndimage.gaussian_filter(rng.standard_normal((3, *shape)), (0, 1, 1))
    field_ = noise / noise.std()
    image = 0.5 + 0.12 * field_[None] + 0.1 * texture
    valid = np.ones(shape, dtype=bool)
    if invalid:
        valid[: shape[0] // 6, : shape[1] // 5] = False
    return ArraySource(np.clip(image, 0, 1).astype(np.float32), valid)


class BrightPrompter(nn.Module):
    """Takes bright places for objects, from what lies within about 20 pixels, as a trained network would."""

    bright: Tensor
    blur: Tensor

    def __init__(self, bright: float = 0.56, delay: float = 0.0, adds_feature: bool = True) -> None:
        super().__init__()
        self.register_buffer("bright", torch.tensor(bright))
        taps = torch.exp(-((torch.arange(9) - 4.0) ** 2) / 8)
        self.register_buffer("blur", (taps[:, None] * taps[None] / taps.sum() ** 2)[None, None])
        self.delay = delay
        self.adds_feature = adds_feature
        self.calls = 0

    def coarse(self, images: Tensor) -> Coarse:
        self.calls += 1
        if self.delay:
            time.sleep(self.delay)
        pooled = F.avg_pool2d(images.mean(1, keepdim=True), 4)
        smooth = F.conv2d(F.pad(pooled, (4, 4, 4, 4), mode="replicate"), self.blur)
        logit = 40 * (smooth - self.bright)
        return Coarse(torch.cat([-logit / 2, logit / 2], dim=1), F.avg_pool2d(images, 4))

    def prompts(
        self, coarse: Coarse, features: Features, foundation: Foundation, proposals: PromptSet | None = None
    ) -> PromptSet:
        assert proposals is not None
        return proposals

    def fuse(self, coarse_logits: Tensor, mask_logits: Tensor) -> Tensor:
        return mask_logits


@dataclass
class WaveSource:
    """A scene of any size that takes no memory: bright blobs made of waves as they are read."""

    shape: tuple[int, int]

    @property
    def grid(self) -> Grid:
        return Grid(self.shape, np.eye(3), "pixel")

    def read(self, window: Window) -> Block:
        rows = np.arange(window.row, window.row + window.height, dtype=np.float32)[:, None]
        cols = np.arange(window.col, window.col + window.width, dtype=np.float32)[None]
        waves = np.sin(rows / 41) * np.sin(cols / 37) + 0.5 * np.sin((rows + cols) / 97)
        image = np.broadcast_to(0.5 + 0.12 * waves, (3, window.height, window.width))
        inside = (rows >= 0) & (rows < self.shape[0]) & (cols >= 0) & (cols < self.shape[1])
        return Block(window, (image * inside).astype(np.float32), inside)

    def blocks(self, size: int, overlap: int) -> Iterator[Block]:
        for window in TileGrid.cover(self.shape, size, overlap).windows():
            yield self.read(window)
