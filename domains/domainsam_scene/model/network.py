"""The network of the scene pack: several sensors in, one class map out.

========== =====================================================================
method     how sensors are joined
========== =====================================================================
memorysam  one set of low-rank updates; sensors as frames of a memory; the mean
mlesam     a low-rank expert a sensor; routed fusion of features; a second head
both       an expert a sensor, memory between them, routed mean, a second head
early      all channels mixed to three before the encoder, as a plain baseline
single     one sensor alone, as a plain baseline
specialist no foundation: :mod:`domainsam_scene.model.specialist`
========== =====================================================================

Frozen parts are shared with the foundation and are in no state dict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from domainsam.errors import ConfigError
from domainsam.memory.bank import MemoryParts
from domainsam.memory.memorysam import ClassDecoder, Frames, SequenceOptions, run_frames
from domainsam.protocols import Foundation
from domainsam.side.experts import ExpertEncoder, PyramidHead, Router, fuse
from domainsam.side.lora import Width
from domainsam.weights import IMAGENET
from domainsam_scene.model.output import SceneOutput, enlarge_logits, find_known
from domainsam_scene.read.registration import CAMERAS

Method = Literal["memorysam", "mlesam", "both", "early", "single", "specialist"]


@dataclass(frozen=True)
class NetworkOptions:
    """What is built, whatever the classes and sensors.

    Parameters
    ----------
    method
        How sensors are joined; see the module's text.
    image_size
        Longest side in pixels of the images that the network sees.
    rank
        Of the low-rank updates: 4 in MemorySAM, 32 in MLE-SAM.
    lora_width
        See :class:`domainsam.side.lora.LowRank`.
    memory_trained
        Train memory attention and encoder, as MemorySAM's paper has it; its
        published script leaves them frozen.
    sequence
        Choices within memory.
    router_keep
        Sensors that the router keeps; None for all.
    head_width
        Of the second head; of the specialist the channels of all that follows its trunk.
    checkpointing
        Compute the encoder's activations anew in the backward pass.
    normalise
        Sensors that the encoder's statistics are taken out of: ``"all"``, or
        ``"camera"`` alone (``rgb``, ``image``, ``optical``), the others
        staying in 0 to 1, as in MemorySAM's code, which reads as DELIVER's does.
    trunk
        Of the specialist: a network of timm by name.
    """

    method: Method = "both"
    image_size: int = 256
    rank: int = 8
    lora_width: Width = "full"
    memory_trained: bool = True
    sequence: SequenceOptions = field(default_factory=SequenceOptions)
    router_keep: int | None = None
    head_width: int = 64
    checkpointing: bool = False
    normalise: Literal["all", "camera"] = "all"
    trunk: str = "efficientnet_lite0"

    def __post_init__(self) -> None:
        if self.rank < 1 or self.image_size < 32:
            raise ConfigError(f"rank {self.rank}, image_size {self.image_size}: expected 1 and 32 at least")


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(NetworkOptions):
    """What is built for some classes and sensors.

    Parameters
    ----------
    labels
        Class names; their order is the order of the logits.
    modalities
        Sensors that it is trained on, in the order in which memory sees them.
    """

    labels: tuple[str, ...]
    modalities: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.labels) < 2 or not self.modalities or len(set(self.modalities)) < len(self.modalities):
            raise ConfigError(
                f"labels {self.labels} and modalities {self.modalities}: "
                "expected two labels or more, and one modality or more, each once"
            )
        if self.method == "single" and len(self.modalities) != 1:
            raise ConfigError(f"method single takes one modality, not {', '.join(self.modalities)}")

    @property
    def remembers(self) -> bool:
        """Whether sensors pass through memory."""
        return self.method in ("memorysam", "both")

    @property
    def routed(self) -> bool:
        """Whether there are a router and a second head."""
        return self.method != "memorysam"

    @property
    def experts(self) -> int:
        """Sets of low-rank updates."""
        return len(self.modalities) if self.method in ("mlesam", "both") else 1


class SceneNetwork(nn.Module):
    """See the module's text; ``foundation`` is one of SAM 2's kind.

    Raises
    ------
    ConfigError
        If the foundation has no memory parts.
    """

    def __init__(self, config: NetworkConfig, foundation: Foundation) -> None:
        super().__init__()
        model: Any = getattr(foundation, "model", None)
        if not hasattr(model, "memory_attention"):
            raise ConfigError(
                f"foundation {foundation.name!r} is not of SAM 2's kind, which scenes need: "
                "use embedded_sam2 or a SAM 2 checkpoint"
            )
        self.config = config
        classes = len(config.labels)
        mean, std = (
            torch.tensor(values, device=foundation.device).view(3, 1, 1)
            for values in (IMAGENET.mean, IMAGENET.std)
        )
        self._encoder = ExpertEncoder(
            model.image_encoder,
            mean,
            std,
            config.rank,
            config.experts,
            config.lora_width,
            config.checkpointing,
        )
        self.updates = self._encoder.updates
        self.decoder = ClassDecoder(model, classes)
        self.memory = MemoryParts(model) if config.remembers else None
        if self.memory is not None:
            self.memory.requires_grad_(config.memory_trained)
            # Published: the pointers' projection stays frozen in either case.
            self.memory.pointer.requires_grad_(False)
        self.router = Router(keep=config.router_keep) if config.routed else None
        self.head = PyramidHead(classes, width=config.head_width) if config.routed else None
        self.stem = _mixing(len(config.modalities)) if config.method == "early" else None
        self.no_memory: nn.Parameter | None = None
        if self.memory is None:
            self.no_memory = nn.Parameter(model.no_mem_embed.detach().clone().view(1, -1, 1, 1))
        self.to(foundation.device)

    def forward(self, modalities: Mapping[str, Tensor]) -> SceneOutput:
        """Class logits of registered images ``(B, 3, H, W)`` in 0 to 1, by sensor.

        Any non-empty subset of the sensors, in any order; sides are multiples of 32.

        Raises
        ------
        ConfigError
            If none of them is known.
        """
        names = find_known(modalities, self.config.modalities)
        if self.stem is not None:
            return self._early(names, modalities)
        numbers = tuple(self.config.modalities.index(name) for name in names)
        images = torch.stack([modalities[name] for name in names])
        normalised = tuple(self.config.normalise == "all" or name in CAMERAS for name in names)
        levels = self._encoder.encode(images, numbers, normalised)
        weights = None if self.router is None else self.router(levels)
        if self.memory is None:
            return self._fused(levels, weights, names, images.shape[-2:])
        frames = run_frames(levels, numbers, self.decoder, self.memory, self.config.sequence)
        return self._remembered(frames, levels, weights, names, images.shape[-2:])

    def answer(self, groups: Sequence[Mapping[str, Tensor]]) -> list[SceneOutput]:
        """Answers to several groups of scenes, each with sensors of its own."""
        return [self(group) for group in groups]

    def merge_norms(self) -> SceneNetwork:
        """The network itself: what is trained of it has no batch norms, and the foundation merges its own."""
        return self

    def _fused(
        self, levels: list[Tensor], weights: Tensor | None, names: tuple[str, ...], size: torch.Size
    ) -> SceneOutput:
        """One decoding of features that are fused over sensors."""
        assert weights is not None
        assert self.no_memory is not None
        joined = [fuse(level, share) for level, share in zip(levels, weights, strict=True)]
        finer = self.decoder.refine(joined)
        logits = self.decoder(joined[2] + self.no_memory, finer).logits
        own, auxiliary = self._second(levels, joined)
        total = enlarge_logits(logits, size) + enlarge_logits(auxiliary, size)
        return SceneOutput(total, enlarge_logits(auxiliary, size), own, weights.mean(0), names, finer[0])

    def _remembered(
        self,
        frames: Frames,
        levels: list[Tensor],
        weights: Tensor | None,
        names: tuple[str, ...],
        size: torch.Size,
    ) -> SceneOutput:
        """The mean of what the frames say; with a router weighed, and with the second head."""
        finest = frames.finest.mean(0)
        if weights is None:
            last = self.config.sequence.residual == "last"
            logits = frames.logits[-1] if last else frames.logits.mean(0)
            share = logits.new_full((len(names), logits.shape[0]), 1 / len(names))
            return SceneOutput(enlarge_logits(logits, size), None, frames.logits, share, names, finest)
        deep = [*levels[:2], frames.images]
        joined = [fuse(level, part) for level, part in zip(deep, weights, strict=True)]
        own, auxiliary = self._second(deep, joined)
        total = enlarge_logits(fuse(frames.logits, weights[2]) + auxiliary, size)
        share = (weights[2] + 1 / len(names)) / 2
        return SceneOutput(total, enlarge_logits(auxiliary, size), frames.logits + own, share, names, finest)

    def _second(self, levels: list[Tensor], joined: list[Tensor]) -> tuple[Tensor, Tensor]:
        """What the second head says of each sensor alone ``(M, B, K, h, w)``, and of all ``(B, K, h, w)``."""
        assert self.head is not None
        if levels[0].shape[0] == 1:
            logits = self.head(joined)
            return logits[None], logits
        if self.training:
            # Only the answer needs it, not the loss.
            return joined[0].new_zeros(len(levels[0]), *self.head(joined).shape), self.head(joined)
        count = levels[0].shape[:2]
        own: Tensor = self.head([level.flatten(0, 1) for level in levels])
        return own.unflatten(0, count), self.head(joined)

    def _early(self, names: tuple[str, ...], modalities: Mapping[str, Tensor]) -> SceneOutput:
        """All sensors as channels of one image, 0 where one is absent."""
        assert self.stem is not None
        blank = torch.zeros_like(modalities[names[0]])
        stacked = torch.cat([modalities.get(name, blank) for name in self.config.modalities], dim=1)
        levels = self._encoder.encode(self.stem(stacked)[None], (0,))
        weights = levels[0].new_ones(3, 1, len(blank))
        answer = self._fused(levels, weights, ("all",), blank.shape[-2:])
        count = len(names)
        return SceneOutput(
            answer.logits,
            answer.auxiliary,
            answer.per_modality.expand(count, -1, -1, -1, -1),
            answer.weights.expand(count, -1) / count,
            names,
            answer.finest,
        )


def _mixing(count: int) -> nn.Conv2d:
    """A linear map of all channels to three that begins as the sensors' mean."""
    mix = nn.Conv2d(3 * count, 3, 1)
    with torch.no_grad():
        mix.weight.copy_(torch.eye(3).repeat(1, count)[..., None, None] / count)
        if mix.bias is not None:
            nn.init.zeros_(mix.bias)
    return mix
