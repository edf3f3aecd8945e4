"""The specialist alone: one trunk for all sensors and a light head, without a foundation.

It is the plain baseline that a frozen foundation has to beat. What differs
from sensor to sensor is linear: three channels to three before the trunk, and
each level of the trunk to the head's width. Levels are joined by the routed
mean of :mod:`domainsam.side.experts`, so that any of the sensors may be absent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from domainsam.foundation.norms import find_merged, merge_norms
from domainsam.side.experts import PyramidHead, Router, fuse
from domainsam.side.pyramid import Pyramid
from domainsam.trunks import STRIDES, build_trunk, find_normalisation
from domainsam_scene.model.network import NetworkConfig
from domainsam_scene.model.output import SceneOutput, enlarge_logits, find_known
from domainsam_scene.read.registration import CAMERAS

LEVELS = len(STRIDES)


class SensorMaps(nn.Module):
    """A linear map of channels for each sensor.

    One tensor holds those of all sensors, so that one that a batch lacks gets
    a gradient of zero and not none.

    Parameters
    ----------
    sensors
        How many there are.
    wide, narrow
        Channels before and after.
    """

    def __init__(self, sensors: int, wide: int, narrow: int) -> None:
        super().__init__()
        # As torch begins a convolution of one pixel, alike for all sensors.
        bound = 1 / math.sqrt(wide)
        one = torch.empty(narrow, wide).uniform_(-bound, bound)
        self.weight = nn.Parameter(one.repeat(sensors, 1, 1))
        self.bias = nn.Parameter(torch.zeros(sensors, narrow))

    def forward(self, values: Tensor, numbers: Sequence[int]) -> Tensor:
        """``(M, B, wide, h, w)`` of the sensors of these numbers to ``(M, B, narrow, h, w)``."""
        chosen = list(numbers)
        mapped = self.weight[chosen, None] @ values.flatten(3) + self.bias[chosen, None, :, None]
        return mapped.unflatten(3, values.shape[3:])


class SpecialistNetwork(nn.Module):
    """Registered images by sensor to class logits, by one trunk and one head.

    Parameters
    ----------
    config
        What is built; its ``method`` is ``"specialist"``.

    Raises
    ------
    ConfigError
        If ``timm`` has no such trunk, or it has no levels at strides 4 to 32.
    """

    foundation = None
    mean: Tensor
    std: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        count, width = len(config.modalities), config.head_width
        self.trunk = build_trunk(config.trunk)
        self.stem = SensorMaps(count, 3, 3)
        with torch.no_grad():
            # Pretrained weights know pictures as they are.
            self.stem.weight.copy_(torch.eye(3).expand(count, -1, -1))
        self.project = nn.ModuleList(SensorMaps(count, wide, width) for wide in self.trunk.widths)
        self.router = Router(width, LEVELS, config.router_keep)
        self.pyramid = Pyramid(width, LEVELS)
        self.head = PyramidHead(len(config.labels), width, width, LEVELS)
        norm = find_normalisation(config.trunk)
        self.register_buffer("mean", torch.tensor(norm.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(norm.std).view(3, 1, 1), persistent=False)

    def merge_norms(self) -> SpecialistNetwork:
        """The network itself, with its batch norms in its convolutions: only to answer, which is quicker."""
        self.trunk = find_merged(self.trunk, self.mean.device)
        merge_norms(self.pyramid)
        return self

    def forward(self, modalities: Mapping[str, Tensor]) -> SceneOutput:
        """Class logits of registered images ``(B, 3, H, W)`` in 0 to 1, by sensor.

        Any non-empty subset of the sensors, in any order; sides are multiples of 32.

        Raises
        ------
        ConfigError
            If none of them is known.
        """
        return self.answer([modalities])[0]

    def answer(self, groups: Sequence[Mapping[str, Tensor]]) -> list[SceneOutput]:
        """Answers to several groups of scenes, each with sensors of its own, all of one size.

        Groups go through the network together, or batch norms would learn from one scene at a time.
        """
        known = [find_known(group, self.config.modalities) for group in groups]
        images = [self._prepare(group, names) for group, names in zip(groups, known, strict=True)]
        levels = self._describe(images, known)
        weights = [self.router(own) for own in levels]
        joined = [
            [fuse(level, share) for level, share in zip(own, weight, strict=True)]
            for own, weight in zip(levels, weights, strict=True)
        ]
        together = [torch.cat(parts) for parts in zip(*joined, strict=True)]
        logits = self._decode(together).split([image.shape[1] for image in images])
        outputs = []
        for names, own, weight, found, image in zip(known, levels, weights, logits, images, strict=True):
            share = (weight.mean(0) + 1 / len(names)) / 2
            total = enlarge_logits(found, image.shape[-2:])
            outputs.append(SceneOutput(total, None, self._each(own, found), share, names, own[0].mean(0)))
        return outputs

    def _prepare(self, group: Mapping[str, Tensor], names: tuple[str, ...]) -> Tensor:
        """Images of a group as the trunk takes them, ``(M, B, 3, H, W)``."""
        every = self.config.normalise == "all"
        images = [
            (group[name] - self.mean) / self.std if every or name in CAMERAS else group[name]
            for name in names
        ]
        prepared: Tensor = self.stem(torch.stack(images), self._number(names))
        return prepared

    def _describe(self, images: Sequence[Tensor], known: Sequence[tuple[str, ...]]) -> list[list[Tensor]]:
        """For each group its levels ``(M, B, C, h, w)`` in the head's width, finest first."""
        counts = [image.shape[0] * image.shape[1] for image in images]
        whole = self.trunk(torch.cat([image.flatten(0, 1) for image in images]))
        parts = [level.split(counts) for level in whole]
        return [
            [
                project(part[place].unflatten(0, images[place].shape[:2]), self._number(names))
                for project, part in zip(self.project, parts, strict=True)
            ]
            for place, names in enumerate(known)
        ]

    def _number(self, names: tuple[str, ...]) -> tuple[int, ...]:
        return tuple(self.config.modalities.index(name) for name in names)

    def _decode(self, levels: Sequence[Tensor]) -> Tensor:
        """Class logits ``(B, K, H/4, W/4)`` of levels ``(B, C, h, w)``."""
        logits: Tensor = self.head(self.pyramid(levels))
        return logits

    def _each(self, levels: Sequence[Tensor], joined: Tensor) -> Tensor:
        """What each sensor alone says, ``(M, B, K, h, w)``; ``joined`` is what all say together."""
        if levels[0].shape[0] == 1:
            return joined[None]
        if self.training:
            # Only the answer needs it, not the loss.
            return joined.new_zeros(len(levels[0]), *joined.shape)
        own = self._decode([level.flatten(0, 1) for level in levels])
        return own.unflatten(0, levels[0].shape[:2])
