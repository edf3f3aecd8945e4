"""PIPS's network (Harley et al. 2022, "Particle Video Revisited"), with the names of its public file.

Points of the first of eight pictures are moved in all eight at once: correlations around where each point
is believed to be, its appearance and its motion go through an MLP-Mixer that says how to change both.
Files of the public code (``reference_model/model-*.pth``) load as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FRAMES = 8
"""Pictures that are looked at together."""
STRIDE = 8
"""Pixels of a picture per cell of its features."""
WIDTH = 128
LEVELS, RADIUS = 4, 3
ITERATIONS = 6
"""Of the public demonstrations."""
EMBEDDED = 64
MIXER, DEPTH, EXPANSION = 512, 12, 4


class Residual(nn.Module):
    """Two convolutions of 3 x 3 beside the identity, each picture normalised by itself."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1)
        self.downsample = nn.Sequential(nn.Conv2d(before, width, 1, stride)) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """From ``(N, before, H, W)`` to ``(N, width, H / stride, W / stride)``."""
        y = F.relu(F.instance_norm(self.conv1(x)))
        y = F.relu(F.instance_norm(self.conv2(y)))
        beside = x if self.downsample is None else F.instance_norm(self.downsample(x))
        return F.relu(beside + y)


class Encoder(nn.Module):
    """Features of pictures at an eighth of their sides, from four scales."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3)
        widths, before = (64, 96, 128, 128), 64
        for number, width in enumerate(widths, 1):
            stride = 1 if number == 1 else 2
            blocks = nn.Sequential(Residual(before, width, stride), Residual(width, width, 1))
            setattr(self, f"layer{number}", blocks)
            before = width
        self.conv2 = nn.Conv2d(sum(widths), 2 * WIDTH, 3, 1, 1)
        self.conv3 = nn.Conv2d(2 * WIDTH, WIDTH, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """From ``(N, 3, H, W)`` in -1 to 1 to ``(N, 128, H // 8, W // 8)``."""
        size = pictures.shape[-2] // STRIDE, pictures.shape[-1] // STRIDE
        x = F.relu(F.instance_norm(self.conv1(pictures)))
        scales = []
        for number in range(1, 5):
            x = getattr(self, f"layer{number}")(x)
            scales.append(F.interpolate(x, size, mode="bilinear", align_corners=True))
        x = F.relu(F.instance_norm(self.conv2(torch.cat(scales, dim=1))))
        return torch.as_tensor(self.conv3(x))


class Mixed(nn.Module):
    """Two layers beside the identity, across pictures (``fn`` of convolutions) or across channels."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        # Places 2 and 4 are dropouts of the public code, which have no tensors.
        self.fn = nn.Sequential(first, nn.GELU(), nn.Identity(), second, nn.Identity())
        self.norm = nn.LayerNorm(MIXER)

    def forward(self, x: Tensor) -> Tensor:
        """``(P, 8, 512)`` both ways."""
        return torch.as_tensor(self.fn(self.norm(x)) + x)


def _mix() -> nn.Sequential:
    across = Mixed(nn.Conv1d(FRAMES, FRAMES * EXPANSION, 1), nn.Conv1d(FRAMES * EXPANSION, FRAMES, 1))
    within = Mixed(nn.Linear(MIXER, MIXER * EXPANSION), nn.Linear(MIXER * EXPANSION, MIXER))
    return nn.Sequential(across, within)


class MeanOfFrames(nn.Module):
    """Mean over pictures."""

    def forward(self, x: Tensor) -> Tensor:
        """From ``(P, 8, C)`` to ``(P, C)``."""
        return x.mean(dim=1)


class Mixer(nn.Module):
    """From what is known of points in eight pictures to how place and appearance change."""

    def __init__(self) -> None:
        super().__init__()
        told = LEVELS * (2 * RADIUS + 1) ** 2 + WIDTH + 3 * EMBEDDED + 3
        self.to_delta = nn.Sequential(
            nn.Linear(told, MIXER),
            *(_mix() for _ in range(DEPTH)),
            nn.LayerNorm(MIXER),
            MeanOfFrames(),
            nn.Linear(MIXER, FRAMES * (WIDTH + 2)),
        )

    def forward(self, told: Tensor) -> Tensor:
        """From ``(P, 8, 519)`` to ``(P, 8, 130)``: x, y and appearance."""
        return torch.as_tensor(self.to_delta(told)).view(len(told), FRAMES, WIDTH + 2)


class PipsNetwork(nn.Module):
    """The whole network; see the module."""

    def __init__(self) -> None:
        super().__init__()
        self.fnet = Encoder()
        self.delta_block = Mixer()
        self.norm = nn.GroupNorm(1, WIDTH)
        self.ffeat_updater = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU())
        self.vis_predictor = nn.Sequential(nn.Linear(WIDTH, 1))

    def encode(self, picture: Tensor) -> Tensor:
        """Features ``(1, 128, H // 8, W // 8)`` of a picture ``(1, 3, H, W)`` in 0 to 1."""
        return torch.as_tensor(self.fnet(2 * picture - 1))

    def forward(
        self, maps: Tensor, points: Tensor, looks: Tensor | None = None, iterations: int = ITERATIONS
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Follow points through eight pictures.

        Parameters
        ----------
        maps
            Features ``(8, 128, h, w)`` of the pictures.
        points
            ``(P, 2)`` x, y in pixels of the first; the middle of the upper left pixel is 0, 0.
        looks
            Appearance ``(P, 128)`` of the points; by default the features at their places.

        Returns
        -------
        Places ``(8, P, 2)`` in pixels, log-odds ``(8, P)`` that they are seen, and their appearance.
        """
        start = points / STRIDE
        first = sample_clamped(maps[0], start) if looks is None else looks
        places = start[None].repeat(FRAMES, 1, 1)
        seen_as = first[None].repeat(FRAMES, 1, 1)
        pyramid = [maps]
        for _ in range(LEVELS - 1):
            pyramid.append(F.avg_pool2d(pyramid[-1], 2, 2))
        # The public code counts eight times from 0 to 8, both included.
        times = torch.linspace(0, FRAMES, FRAMES, device=maps.device, dtype=maps.dtype)
        for _ in range(iterations):
            alike = correlate(pyramid, seen_as, places)
            moved = (places - places[:1]).transpose(0, 1)
            motion = torch.cat([moved, times[None, :, None].expand(len(points), -1, 1)], dim=2)
            told = torch.cat([seen_as.transpose(0, 1), alike, embed(motion)], dim=2)
            change = self.delta_block(told)
            look = self.norm(change[..., 2:].reshape(-1, WIDTH))
            look = self.ffeat_updater(look).view(len(points), FRAMES, WIDTH)
            seen_as = seen_as + look.transpose(0, 1)
            places = places + change[..., :2].transpose(0, 1)
            places = torch.cat([start[None], places[1:]])
        return places * STRIDE, self.vis_predictor(seen_as)[..., 0], first


def correlate(pyramid: list[Tensor], seen_as: Tensor, places: Tensor) -> Tensor:
    """Correlations ``(P, 8, 4 * 49)`` of points' appearance with what lies around their places.

    ``seen_as`` is ``(8, P, 128)``, ``places`` ``(8, P, 2)`` in cells of the first level. Neighbours come
    column by column, as the public code has them.
    """
    side = torch.arange(-RADIUS, RADIUS + 1, device=places.device, dtype=places.dtype)
    around = torch.stack(torch.meshgrid(side, side, indexing="ij"), dim=-1)
    found = []
    for level, maps in enumerate(pyramid):
        height, width = maps.shape[-2:]
        alike = torch.einsum("spc,schw->sphw", seen_as, maps) / WIDTH**0.5
        at = places[:, :, None, None] / 2**level + around
        size = torch.tensor([width - 1, height - 1], device=at.device, dtype=at.dtype).clamp(min=1)
        grid = (2 * at / size - 1).flatten(0, 1)
        taken = F.grid_sample(alike.flatten(0, 1)[:, None], grid, align_corners=True)
        found.append(taken.view(FRAMES, places.shape[1], -1))
    return torch.cat(found, dim=-1).transpose(0, 1)


def sample_clamped(features: Tensor, places: Tensor) -> Tensor:
    """Features ``(P, C)`` of a map ``(C, h, w)`` at places x, y in cells, linear between clamped cells."""
    height, width = features.shape[-2:]
    low = places.floor()
    most = torch.tensor([width - 1, height - 1], device=places.device, dtype=places.dtype)
    (x0, y0), (x1, y1) = ((at.clamp(min=0).minimum(most)).T.long() for at in (low, low + 1))
    left, top = (places - low).T
    right, bottom = 1 - left, 1 - top
    found: Tensor = (
        features[:, y0, x0] * right * bottom
        + features[:, y0, x1] * left * bottom
        + features[:, y1, x0] * right * top
        + features[:, y1, x1] * left * top
    )
    return found.T


def embed(motion: Tensor) -> Tensor:
    """Sines and cosines of x, y and time ``(P, 8, 3)``, and these themselves: ``(P, 8, 195)``."""
    rates = torch.arange(0, EMBEDDED, 2, device=motion.device, dtype=torch.float32) * (1000.0 / EMBEDDED)
    waves = motion[..., None] * rates
    both = torch.stack([waves.sin(), waves.cos()], dim=-1).flatten(2)
    return torch.cat([both, motion], dim=-1)
