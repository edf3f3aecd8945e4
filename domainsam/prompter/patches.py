"""SAM-PT's optional filter: points whose surroundings no longer look as where they were set."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from domainsam.prompter.query import Points

SIDE = 3
LEAST = 0.01
"""Least similarity of a patch, as in SAM-PT's code."""
WHITE = np.array([0.95047, 1.0, 1.08883])
"""CIE XYZ of the D65 white (CIE 15)."""
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""Linear sRGB to CIE XYZ (IEC 61966-2-1)."""


def convert_to_lab(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """CIE L*a*b* ``(3, H, W)`` of an sRGB picture ``(3, H, W)`` in 0 to 1, for the D65 white."""
    linear = np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)
    scaled = np.einsum("ij,jhw->ihw", TO_XYZ, linear) / WHITE[:, None, None]
    edge = 6 / 29
    bent = np.where(scaled > edge**3, np.cbrt(scaled), scaled / (3 * edge**2) + 4 / 29)
    x, y, z = bent
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def take_patches(image: NDArray[np.float32], points: Points) -> NDArray[np.float64]:
    """Lab patches ``(P, 27)`` of 3 x 3 pixels around points of a picture ``(3, H, W)``."""
    lab = torch.from_numpy(convert_to_lab(image))[None]
    shifts = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), axis=-1).reshape(-1, 2)
    places = points[:, None] + shifts[None]
    grid = torch.from_numpy(places / (image.shape[2], image.shape[1]) * 2 - 1)[None].to(lab)
    taken = F.grid_sample(lab, grid, padding_mode="border", align_corners=False)[0]
    return np.asarray(taken.permute(1, 2, 0).reshape(len(points), -1).numpy())


def compare_patches(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Similarity ``(P,)`` of patches, ``exp(-|d| / (2 p^2))`` with the side ``p`` of a patch."""
    return np.asarray(np.exp(-np.linalg.norm(one - other, axis=1) / (2 * SIDE**2)))
