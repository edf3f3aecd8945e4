"""What a run computes with: the networks, their device and precision, and moving blocks to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from domainsam.foundation.base import digest_tensors
from domainsam.machine import Precision, require_finite
from domainsam.prompts import PromptSet
from domainsam.protocols import Block, Coarse, Features, Foundation


class ScenePrompter(Protocol):
    """A prompter that also takes objects found by somebody else, here in the whole scene."""

    @property
    def adds_feature(self) -> bool:
        """Whether its own feature of a crop is part of the prompts; where not, crops get no second look."""
        ...

    def coarse(self, images: Tensor) -> Coarse:
        """First look at images ``(B, 3, H, W)``, float in 0 to 1."""
        ...

    def prompts(
        self, coarse: Coarse, features: Features, foundation: Foundation, proposals: PromptSet | None = None
    ) -> PromptSet:
        """The proposals as prompts, one for one and in their order."""
        ...

    def fuse(self, coarse_logits: Tensor, mask_logits: Tensor) -> Tensor:
        """The answer ``(N, 1, h, w)`` from the first look's log-odds and the foundation's logits."""
        ...


@runtime_checkable
class QuickPrompter(Protocol):
    """A prompter that has a faster way to its first look where no prompts will be made of it."""

    def coarse_logits(self, images: Tensor) -> Tensor:
        """The logits ``(B, K, H/4, W/4)`` of ``coarse`` alone."""
        ...


@dataclass(frozen=True)
class Networks:
    """The generalist (None where a specialist works alone), and where and how networks compute."""

    foundation: Foundation | None
    device: torch.device
    dtype: Precision

    @contextmanager
    def running(self) -> Iterator[None]:
        """No gradients, and the asked-for precision."""
        precision = getattr(torch, self.dtype)
        enabled = self.dtype != "float32"
        with (
            torch.inference_mode(),
            torch.autocast(self.device.type, dtype=precision if enabled else None, enabled=enabled),
        ):
            yield

    def images(self, blocks: Sequence[Block]) -> Tensor:
        """A batch ``(B, 3, H, W)`` on the device."""
        return torch.from_numpy(np.stack([block.image for block in blocks])).to(self.device)


def coarse_logits(prompter: ScenePrompter, images: Tensor) -> Tensor:
    """The specialist's logits ``(B, K, H/4, W/4)``, the fastest way it has."""
    if isinstance(prompter, QuickPrompter):
        return prompter.coarse_logits(images)
    return prompter.coarse(images).logits


def compute_foreground(logits: Tensor) -> Tensor:
    """Probability ``(B, 1, h, w)`` of anything but background, from class logits ``(B, K, h, w)``.

    Raises
    ------
    CheckpointError
        If a logit is not finite.
    """
    return 1 - torch.softmax(require_finite(logits.float(), "the specialist"), dim=1)[:, :1]


def upsample(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation of ``(N, C, h, w)`` to ``size``."""
    return F.interpolate(values, size=size, mode="bilinear", align_corners=False)


def identify(foundation: Foundation | None) -> str:
    """What of a foundation decides its answer: its digest, and who computes it where that is not torch."""
    if foundation is None:
        return "none"
    runtime = getattr(foundation, "runtime", "torch")
    return foundation.sha256 if runtime == "torch" else f"{foundation.sha256} by {runtime}"


def fingerprint(prompter: Any, foundation: Foundation | None) -> dict[str, str]:
    """Digest the networks for a journal: the foundation's SHA-256 and the prompter's tensors."""
    state = prompter.state_dict() if hasattr(prompter, "state_dict") else {}
    return {
        "foundation": identify(foundation),
        "prompter": digest_tensors(state),
    }
