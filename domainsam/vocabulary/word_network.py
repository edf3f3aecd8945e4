"""The network of the embedded model of words: an image trunk that looks at an object twice, and two heads.

An object is seen in a narrow square around it and in a wide one. Means of the trunk's levels, inside its
mask and over the narrow and the wide square, with its shape and colours, are brought to the space of
sentence vectors by the *region* head; the *place* head does the same with the levels of every place of a
picture and the mean of the picture. Classes are told apart by the cosine to their words, as in CLIP
(Radford et al. 2021), but the words are a closed list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.errors import CheckpointError
from domainsam.trunks import STRIDES, Trunk, build_trunk, find_normalisation

TRUNK = "efficientnet_lite0"
LEVELS = STRIDES[1:]
"""Strides of the trunk's levels that are used: 8, 16 and 32."""
CROP = 128
"""Side in pixels of the squares as the trunk sees them."""
NARROW, WIDE = 1.2, 2.5
"""Sides of the squares in longest sides of the object."""
LEAST_NARROW, LEAST_WIDE = 24, 96
"""Sides of the squares in pixels of the picture, at least."""
SHAPE = 8
"""Colour and shape: mean and spread of three channels, logarithm of the aspect, share of the box."""
HIDDEN = 256
VECTOR = 384
QUANTA = 127
"""Largest whole number of a stored weight of 8 bits."""
SCALE = ".scale"


@dataclass(frozen=True)
class Squares:
    """Starts and sides of the two squares around a box, in whole pixels."""

    narrow: tuple[int, int, int]
    wide: tuple[int, int, int]


def plan_squares(box: tuple[float, float, float, float]) -> Squares:
    """Top, left and side of the squares around a box (left, top, right, bottom)."""
    left, top, right, bottom = box
    longest = max(right - left, bottom - top)
    found = []
    for factor, least in ((NARROW, LEAST_NARROW), (WIDE, LEAST_WIDE)):
        side = max(1, round(max(longest * factor, least)))
        found.append((round((top + bottom) / 2 - side / 2), round((left + right) / 2 - side / 2), side))
    return Squares(found[0], found[1])


def fit_square(channels: Tensor) -> Tensor:
    """Channels ``(C, s, s)`` scaled to ``(C, 128, 128)``."""
    return F.interpolate(channels[None], (CROP, CROP), mode="bilinear", antialias=True, align_corners=False)[
        0
    ]


def mean_inside(level: Tensor, masks: Tensor) -> Tensor:
    """Means ``(B, C)`` of a level ``(B, C, h, w)`` weighted by masks ``(B, 1, H, W)`` in 0 to 1."""
    weight = F.adaptive_avg_pool2d(masks, (level.shape[-2], level.shape[-1])) + 1e-6
    return (level * weight).sum(dim=(2, 3)) / weight.sum(dim=(2, 3))


class WordHead(nn.Module):
    """Features to vectors of length one: standardised, one hidden layer."""

    shift: Tensor
    spread: Tensor

    def __init__(self, features: int, hidden: int = HIDDEN, vector: int = VECTOR) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(features))
        self.register_buffer("spread", torch.ones(features))
        self.hidden = nn.Linear(features, hidden)
        self.out = nn.Linear(hidden, vector)

    def forward(self, x: Tensor, drop: float = 0.0) -> Tensor:
        """Vectors ``(..., vector)`` of features ``(..., features)``; ``drop``: of units in training."""
        x = F.dropout((x - self.shift) / self.spread, drop / 2, self.training)
        x = F.dropout(F.gelu(self.hidden(x)), drop, self.training)
        return F.normalize(self.out(x), dim=-1)


class WordNetwork(nn.Module):
    """Trunk and heads; classes are told apart by their words' vectors, which are given."""

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: str = TRUNK) -> None:
        super().__init__()
        self.trunk: Trunk = build_trunk(trunk, strides=LEVELS)
        statistics = find_normalisation(trunk)
        self.register_buffer("mean", torch.tensor(statistics.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(statistics.std).view(3, 1, 1), persistent=False)
        self.region = WordHead(count_region(self.trunk.widths))
        self.place = WordHead(count_place(self.trunk.widths))

    def normalise(self, image: Tensor, valid: Tensor) -> Tensor:
        """Pictures ``(..., 3, H, W)`` in 0 to 1 as the trunk expects them; 0 where not ``valid``."""
        return (image - self.mean) / self.std * valid

    def describe_regions(self, crops: Tensor, shapes: Tensor) -> Tensor:
        """Features ``(B, F)`` of squares ``(B, 2, 4, 128, 128)``, a normalised picture and a mask each.

        ``shapes`` is ``(B, 8)``, see :data:`SHAPE`.
        """
        batch = crops.shape[0]
        flat = crops.flatten(0, 1)
        levels, masks = self.trunk(flat[:, :3]), flat[:, 3:]
        own = [mean_inside(level, masks) for level in levels[1:]]
        seen = torch.cat([*own, levels[-1].mean(dim=(2, 3))], dim=1)
        return torch.cat([seen.view(batch, -1), shapes], dim=1)

    def describe_places(self, pictures: Tensor) -> Tensor:
        """Features ``(B, F, H/8, W/8)`` of every place of normalised pictures ``(B, 3, H, W)``."""
        levels = self.trunk(pictures)
        size = levels[0].shape[-2:]
        wide = [F.interpolate(level, size, mode="bilinear", align_corners=False) for level in levels[1:]]
        overall = levels[-1].mean(dim=(2, 3), keepdim=True).expand(-1, -1, *size)
        return torch.cat([levels[0], *wide, overall], dim=1)


def count_region(widths: tuple[int, ...]) -> int:
    """Features of a region for levels of these widths."""
    return 2 * (widths[1] + 2 * widths[2]) + SHAPE


def count_place(widths: tuple[int, ...]) -> int:
    """Features of a place for levels of these widths."""
    return sum(widths) + widths[-1]


def pack_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as a file holds them: matrices and kernels in 8 bits, a scale a row; the rest float16."""
    packed: dict[str, Tensor] = {}
    for name, value in state.items():
        if not value.is_floating_point():
            continue
        if value.ndim < 2:
            packed[name] = value.half()
            continue
        scale = (value.float().flatten(1).abs().amax(dim=1) / QUANTA).clamp(min=2e-8)
        # A scale of float16 is rounded before it is used, so that reading gives what was meant.
        scale = scale.half().float().clamp(min=6e-8)
        rows = scale.view(-1, *[1] * (value.ndim - 1))
        packed[name] = (value / rows).round().clamp(-QUANTA, QUANTA).to(torch.int8)
        packed[name + SCALE] = scale.half()
    return packed


def unpack_tensors(packed: Mapping[str, Tensor], source: object) -> dict[str, Tensor]:
    """Float32 tensors of :func:`pack_tensors`' ones.

    Raises
    ------
    CheckpointError
        If a scale is missing or does not fit.
    """
    state = {}
    for name, value in packed.items():
        if name.endswith(SCALE):
            continue
        if value.dtype != torch.int8:
            state[name] = value.float()
            continue
        scale = packed.get(name + SCALE)
        if scale is None or scale.shape != value.shape[:1]:
            raise CheckpointError(f"{source}: tensor {name} has no scale that fits: write the file again")
        state[name] = value.float() * scale.float().view(-1, *[1] * (value.ndim - 1))
    return state
