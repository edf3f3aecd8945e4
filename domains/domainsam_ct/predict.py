"""Organs of axial slices: windowing, resampling, batching, and the answer at the slices' own size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domainsam.errors import InputError
from domainsam_ct.network import OrganNetwork
from domainsam_ct.sampling import SliceGrid, slice_grid

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """The model's answer for a stack of slices.

    ``labels`` is ``(S, H, W)`` uint8, an index into the model's labels;
    ``confidence`` is ``(S, H, W)`` float16, the probability of that label.
    """

    labels: NDArray[np.uint8]
    confidence: NDArray[np.float16]


def windowed(slices: Float32, window: tuple[float, float]) -> Tensor:
    """Hounsfield units to 0 to 1, linear within the window."""
    low, high = window
    return ((torch.from_numpy(np.ascontiguousarray(slices, np.float32)) - low) / (high - low)).clamp_(0, 1)


def with_neighbours(stack: Tensor, before: Tensor | None, after: Tensor | None) -> Tensor:
    """Slices ``(S, H, W)`` with the one below and the one above, ``(S, 3, H, W)``; the edge repeats."""
    below = stack[:1] if before is None or not len(before) else before[-1:]
    above = stack[-1:] if after is None or not len(after) else after[:1]
    padded = torch.cat([below, stack, above])
    return torch.stack([padded[:-2], padded[1:-1], padded[2:]], dim=1)


@torch.inference_mode()
def predict_slices(
    network: OrganNetwork,
    slices: Float32,
    grid: SliceGrid,
    window: tuple[float, float],
    neighbours: tuple[Float32 | None, Float32 | None] = (None, None),
    batch: int = 8,
    dtype: torch.dtype = torch.float32,
) -> Prediction:
    """See :meth:`domainsam_ct.model.OrganModel.predict`."""
    device = network.foundation.device

    def inward(part: Float32 | None) -> Tensor | None:
        return None if part is None or not len(part) else grid.inward(windowed(part, window))

    labels = np.zeros(slices.shape, np.uint8)
    confidence = np.zeros(slices.shape, np.float16)
    for start in range(0, len(slices), batch):
        stop = min(start + batch, len(slices))
        stack = inward(slices[start:stop])
        assert stack is not None
        images = stack[:, None]
        if network.config.neighbours:
            before = slices[start - 1 : start] if start else neighbours[0]
            after = slices[stop : stop + 1] if stop < len(slices) else neighbours[1]
            images = with_neighbours(stack, inward(before), inward(after))
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = network(images.to(device))
        for index, found in enumerate(logits.float()):
            best, share = _chosen(found, grid)
            labels[start + index] = best.to(torch.uint8).cpu().numpy()
            confidence[start + index] = share.half().cpu().numpy()
    return Prediction(labels, confidence)


def _chosen(logits: Tensor, grid: SliceGrid) -> tuple[Tensor, Tensor]:
    """The likeliest label ``(H, W)`` of one slice and its probability, from ``(K, h/4, w/4)``."""
    full = grid.outward(logits)
    highest, best = full.max(dim=0)
    share = 1 / torch.exp(full - highest).sum(dim=0)
    return best, share


def checked_slices(slices: Float32) -> None:
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


__all__ = ["Prediction", "checked_slices", "predict_slices", "slice_grid", "windowed"]
