"""A tiny foundation without learned weights, to test what is built on foundations.

Its answers follow its prompts: the mask is the prompt's own shape, its edge
moved a little by what the image shows there. It is deterministic, sees only
nearby pixels, and passes the same contract as the real ones, so that tests of
engines and prompters show real invariants.
"""

from __future__ import annotations

from pathlib import Path

import torch
from segment_anything.modeling import PromptEncoder
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.foundation.base import FrozenFoundation, digest_tensors
from domainsam.foundation.decoders.sam import sparse_tokens
from domainsam.prompts import POINT_NEGATIVE, POINT_POSITIVE, PromptSet
from domainsam.protocols import Features, Masks

IMAGE_SIZE = 64
EMBED_DIM = 256
SEED = 0
POINT_RADIUS = 8.0
"""Pixels around a click that count as inside or outside."""
IMAGE_WEIGHT = 0.5
TOKEN_WEIGHT = 0.5
READING_OFFSETS = (-1.0, 0.0, 1.0)
"""Logit offsets of the three readings: a smaller, the same, and a larger shape."""


class FakeNetwork(nn.Module):
    """Fixed random convolutions at strides 4, 8 and 16, and SAM's sparse prompt encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.at4 = nn.Conv2d(3, EMBED_DIM // 8, 4, stride=4)
        self.to8 = nn.Conv2d(EMBED_DIM // 8, EMBED_DIM // 4, 2, stride=2)
        self.to16 = nn.Conv2d(EMBED_DIM // 4, EMBED_DIM, 2, stride=2)
        self.contrast = nn.Conv2d(EMBED_DIM // 8, 1, 1)
        self.token_head = nn.Linear(EMBED_DIM, 1)
        self.prompt_encoder = PromptEncoder(EMBED_DIM, (1, 1), (16, 16), mask_in_chans=4)


def draw_logits(prompts: PromptSet, size: tuple[int, int]) -> Tensor:
    """Logits ``(N, 1, h, w)``, above 0 inside the shapes that the prompts draw.

    The sum of the mask logits, the box's signed distance and the clicks'
    signed distances, each in map pixels (a quarter of the image's) and kept
    within 8 of 0.
    """
    height, width = size
    device = prompts.image_index.device
    logits = torch.zeros(len(prompts), 1, height, width, device=device)
    ys = (torch.arange(height, device=device) + 0.5) * 4
    xs = (torch.arange(width, device=device) + 0.5) * 4
    if prompts.mask_logits is not None:
        logits = logits + prompts.mask_logits.float()
    if prompts.boxes is not None:
        x1, y1, x2, y2 = prompts.boxes.float()[:, :, None].unbind(1)
        inside_x = torch.minimum(xs - x1, x2 - xs)[:, None, :]
        inside_y = torch.minimum(ys - y1, y2 - ys)[:, :, None]
        logits = logits + (torch.minimum(inside_x, inside_y)[:, None] / 4).clamp(-8, 8)
    if prompts.points is not None and prompts.points.shape[1]:
        x, y, label = (part[..., None, None] for part in prompts.points.float().unbind(2))
        # The small constant keeps the gradient finite on a click that hits a pixel's centre.
        distance = ((xs - x).square() + (ys[:, None] - y).square() + 1e-6).sqrt()
        inside = ((POINT_RADIUS - distance) / 4).clamp(-8, 8)
        positive = inside.masked_fill(label != POINT_POSITIVE, -8).amax(1, keepdim=True)
        negative = inside.masked_fill(label != POINT_NEGATIVE, -8).amax(1, keepdim=True)
        logits = logits + positive - negative.clamp(min=0)
    return logits


class FakeFoundation(FrozenFoundation):
    """See the module's text; images of any size that is a multiple of 32."""

    model: FakeNetwork

    def __init__(self, device: torch.device | str = "cpu") -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            network = FakeNetwork()
        digest = digest_tensors(network.state_dict())
        super().__init__(network.to(device), "fake", IMAGE_SIZE, digest)

    def encode(self, images: Tensor) -> Features:
        """Features of images ``(B, 3, H, W)``; levels ``(B, 32, H/4, W/4)`` and ``(B, 64, H/8, W/8)``."""
        images = self._checked_images(images)
        height, width = images.shape[-2:]
        # A run in bfloat16 answers as one in float32, so that tests see the same everywhere.
        with torch.autocast(self.device.type, enabled=False):
            at4 = torch.tanh(self.model.at4(images.float() - 0.5))
            at8 = torch.tanh(self.model.to8(at4))
            return Features(torch.tanh(self.model.to16(at8)), (at4, at8), (height, width))

    def embed(self, prompts: PromptSet, size: tuple[int, int]) -> Tensor:
        """Tokens ``(N, T, 256)`` of points and boxes in an image of ``size`` (H, W)."""
        return sparse_tokens(self.model.prompt_encoder, prompts.to(self.device), size)

    def decode(self, features: Features, prompts: PromptSet, multimask: bool = False) -> Masks:
        """The prompts' shapes, moved by the image's contrast and by the tokens."""
        prompts = self._checked_prompts(features, prompts)
        tokens = prompts.tokens if prompts.tokens is not None else self.embed(prompts, features.size)
        level = features.levels[0]
        logits = draw_logits(prompts, (level.shape[-2], level.shape[-1]))
        context = F.interpolate(features.image.mean(1, keepdim=True), size=level.shape[-2:], mode="nearest")
        with torch.autocast(self.device.type, enabled=False):
            contrast = torch.tanh(self.model.contrast(level) + context)
        logits = logits + IMAGE_WEIGHT * contrast[prompts.image_index]
        if tokens.shape[1]:
            push = torch.tanh(self.model.token_head(tokens.float()).mean(1))
            logits = logits + TOKEN_WEIGHT * push[:, :, None, None]
        if multimask:
            offsets = logits.new_tensor(READING_OFFSETS).view(1, -1, 1, 1)
            logits = logits + offsets
        return Masks(logits, torch.tanh(logits.abs().mean(dim=(2, 3)) / 4))


def load(
    name: str, path: Path | None, device: torch.device, dtype: torch.dtype, compile: bool
) -> FakeFoundation:
    """Loader for :data:`domainsam.foundations.FOUNDATIONS`; float32 whatever was asked for."""
    return FakeFoundation(device)
