"""Predict organs of axial slices: windowing, resampling, batching."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domainsam.errors import InputError
from domainsam.machine import require_finite
from domainsam_ct.model.network import AnyNetwork

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """The model's answer for a stack of slices.

    ``labels`` is ``(S, H, W)`` uint8, an index into the model's labels;
    ``confidence`` is ``(S, H, W)`` float16, the probability of that label.
    """

    labels: NDArray[np.uint8]
    confidence: NDArray[np.float16]


def apply_window(slices: Float32, window: tuple[float, float]) -> Tensor:
    """Scale Hounsfield units linearly to 0 to 1 within a window."""
    low, high = window
    return ((torch.from_numpy(np.ascontiguousarray(slices, np.float32)) - low) / (high - low)).clamp_(0, 1)


def add_neighbours(stack: Tensor, before: Tensor | None, after: Tensor | None) -> Tensor:
    """Slices ``(S, H, W)`` with the one below and the one above, ``(S, 3, H, W)``; the edge repeats."""
    below = stack[:1] if before is None or not len(before) else before[-1:]
    above = stack[-1:] if after is None or not len(after) else after[:1]
    padded = torch.cat([below, stack, above])
    return torch.stack([padded[:-2], padded[1:-1], padded[2:]], dim=1)


@torch.inference_mode()
def predict_slices(
    network: AnyNetwork,
    slices: Float32,
    grid: SliceGrid,
    window: tuple[float, float],
    neighbours: tuple[Float32 | None, Float32 | None] = (None, None),
    batch: int = 8,
    dtype: torch.dtype = torch.float32,
) -> Prediction:
    """See :meth:`domainsam_ct.model.organs.OrganModel.predict_slices`."""
    labels = np.zeros(slices.shape, np.uint8)
    confidence = np.zeros(slices.shape, np.float16)
    for start in range(0, len(slices), batch):
        stop = min(start + batch, len(slices))
        before = slices[start - 1 : start] if start else neighbours[0]
        after = slices[stop : stop + 1] if stop < len(slices) else neighbours[1]
        logits = _logits(network, slices[start:stop], grid, window, (before, after), dtype)
        for index, found in enumerate(logits):
            best, share = _chosen(found, grid)
            labels[start + index] = best.to(torch.uint8).cpu().numpy()
            confidence[start + index] = share.half().cpu().numpy()
    return Prediction(labels, confidence)


@torch.inference_mode()
def predict_probability(
    network: AnyNetwork,
    slices: Float32,
    grid: SliceGrid,
    window: tuple[float, float],
    dtype: torch.dtype = torch.float32,
) -> Float32:
    """Probability ``(K, H, W)`` of every label in one slice ``(1, H, W)`` of Hounsfield units."""
    (logits,) = _logits(network, slices, grid, window, (None, None), dtype)
    probability: Float32 = grid.resample_outward(logits).softmax(dim=0).cpu().numpy()
    return probability


def _logits(
    network: AnyNetwork,
    slices: Float32,
    grid: SliceGrid,
    window: tuple[float, float],
    neighbours: tuple[Float32 | None, Float32 | None],
    dtype: torch.dtype,
) -> Tensor:
    """The network's answer ``(S, K, h/stride, w/stride)`` float32 for slices that go through it together."""
    images = prepare_images(slices, grid, window, neighbours, bool(network.config.neighbours))
    device = network.device
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        logits: Tensor = network(images.to(device))
    return require_finite(logits.float(), "the organ model")


def prepare_images(
    slices: Float32,
    grid: SliceGrid,
    window: tuple[float, float],
    neighbours: tuple[Float32 | None, Float32 | None],
    stacked: bool,
) -> Tensor:
    """Slices as a network takes them, ``(S, 1, h, w)`` or, where ``stacked``, each between its neighbours."""

    def inward(part: Float32) -> Tensor:
        return grid.resample_inward(apply_window(part, window))

    stack = inward(slices)
    if not stacked:
        return stack[:, None]
    below, above = (None if part is None or not len(part) else inward(part) for part in neighbours)
    return add_neighbours(stack, below, above)


def _chosen(logits: Tensor, grid: SliceGrid) -> tuple[Tensor, Tensor]:
    """The likeliest label ``(H, W)`` of one slice and its probability, from ``(K, h/stride, w/stride)``."""
    full = grid.resample_outward(logits)
    highest, best = full.max(dim=0)
    share = 1 / torch.exp(full - highest).sum(dim=0)
    return best, share


def check_slices(slices: Float32) -> None:
    """Refuse anything but a stack of finite slices.

    Raises
    ------
    InputError
        If it is no ``(S, H, W)`` array, or holds values that are no numbers.
    """
    if slices.ndim != 3 or 0 in slices.shape[1:]:
        raise InputError(f"slices have shape {slices.shape}, expected (slices, rows, columns)")
    if not np.isfinite(slices).all():
        raise InputError("slices hold values that are no numbers (NaN or infinite)")


__all__ = [
    "Prediction",
    "apply_window",
    "check_slices",
    "make_slice_grid",
    "predict_probability",
    "predict_slices",
    "prepare_images",
]


STRIDE = 32
"""Sides of the network's grid are multiples of this."""


@dataclass(frozen=True)
class SliceGrid:
    """How slices of one size and spacing lie on the network's grid.

    The two share their centre. ``size`` and ``network`` are (H, W) in pixels,
    ``step`` the network's pixel as a multiple of the slice's, (rows, columns).
    """

    size: tuple[int, int]
    network: tuple[int, int]
    step: tuple[float, float]

    def resample_inward(self, stack: Tensor) -> Tensor:
        """Slices ``(..., H, W)`` on the network's grid, 0 outside them."""
        rows, columns = (
            _inward_matrix(have, want, step)
            for have, want, step in zip(self.size, self.network, self.step, strict=True)
        )
        return rows.to(stack) @ stack @ columns.to(stack).T

    def resample_outward(self, maps: Tensor) -> Tensor:
        """The network's maps ``(..., h/stride, w/stride)`` at the slices' own pixels."""
        rows, columns = self.make_outward_matrices(self.network[0] // maps.shape[-2])
        return rows.to(maps) @ maps @ columns.to(maps).T

    def make_outward_matrices(self, stride: int) -> tuple[Tensor, Tensor]:
        """Linear interpolation of rows and of columns, ``(H, h/stride)`` and ``(W, w/stride)``."""
        rows, columns = (
            _outward_matrix(want, have // stride, step * stride)
            for want, have, step in zip(self.size, self.network, self.step, strict=True)
        )
        return rows, columns


def make_slice_grid(
    size: tuple[int, int], spacing_mm: tuple[float, float], pixel_mm: float, side: int
) -> SliceGrid:
    """The network's grid for slices.

    Parameters
    ----------
    size, spacing_mm
        Of the slices: (H, W) in pixels, and the pixel's height and width in millimetres.
    pixel_mm
        The network's pixel; 0 stretches every slice to ``side``, as published.
    side
        Side of the network's grid where slices are stretched.
    """
    if not pixel_mm:
        return SliceGrid(size, (side, side), (size[0] / side, size[1] / side))
    steps = (pixel_mm / spacing_mm[0], pixel_mm / spacing_mm[1])
    height, width = (
        max(STRIDE, math.ceil(count / step / STRIDE - 1e-6) * STRIDE)
        for count, step in zip(size, steps, strict=True)
    )
    return SliceGrid(size, (height, width), steps)


@lru_cache(maxsize=64)
def _inward_matrix(have: int, want: int, step: float) -> Tensor:
    """``(want, have)`` weights; a row sums to 1 where its centre lies on the slice, else it is 0.

    The kernel is a triangle as wide as the larger of the two pixels.
    """
    centres = (np.arange(want) + 0.5 - want / 2) * step + have / 2
    reach = max(1.0, step)
    distance = np.abs(np.arange(have) + 0.5 - centres[:, None]) / reach
    weights = np.clip(1 - distance, 0, None)
    inside = (centres > 0) & (centres < have)
    total = weights.sum(axis=1, keepdims=True)
    weights = np.divide(weights, total, out=np.zeros_like(weights), where=inside[:, None] & (total > 0))
    return torch.from_numpy(weights.astype(np.float32))


@lru_cache(maxsize=64)
def _outward_matrix(want: int, have: int, step: float) -> Tensor:
    """``(want, have)`` weights of linear interpolation, the edge repeated."""
    position = (np.arange(want) + 0.5 - want / 2) / step + have / 2 - 0.5
    position = np.clip(position, 0, have - 1)
    low = np.minimum(position.astype(np.intp), max(0, have - 2))
    part = position - low
    weights = np.zeros((want, have), np.float32)
    rows = np.arange(want)
    weights[rows, low] += (1 - part).astype(np.float32)
    weights[rows, np.minimum(low + 1, have - 1)] += part.astype(np.float32)
    return torch.from_numpy(weights)
