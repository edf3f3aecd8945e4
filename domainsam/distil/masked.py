"""SAMI: the teacher's features reconstructed from a quarter of a picture (Xiong et al. 2023, section 3.2).

The encoder sees the patches that are left; a decoder whose queries are the
hidden patches, and whose keys and values are visible features and hidden ones,
fills the gaps; both together, in their places, are compared with the teacher's
features. The paper's linear head is the student's own neck here, because what is
to be met is the teacher's neck: with nothing hidden the recipe is the error of
features itself. The decoder is He et al.'s (2022): eight blocks of width 512.

Encoders that cannot do without patches (convolutions, dilated attention) see a
picture whose hidden patches are grey (Xie et al. 2022, SimMIM).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.distil.lessons import Lesson, Terms, feature_terms
from domainsam.distil.pairs import Pair
from domainsam.distil.pictures import STRIDE, ViewBatch
from domainsam.distil.students import SamStudent
from domainsam.foundation.efficient import fit_images
from domainsam.foundation.encoders.efficientsam import EfficientSamEncoder
from domainsam.foundation.layers import EMBED_DIM
from domainsam.protocols import Features

RATIO, DEPTH, WIDTH, HEAD_WIDTH = 0.75, 8, 512, 32
GREY = 0.5


class CrossBlock(nn.Module):
    """Queries look at keys and values; then a perceptron; both with a residual path and norms before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.norm_seen, self.norm_mlp = (nn.LayerNorm(width) for _ in range(3))
        self.attention = nn.MultiheadAttention(width, max(1, width // HEAD_WIDTH), batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, hidden: Tensor, visible: Tensor) -> Tensor:
        """Hidden ``(B, M, C)`` after a look at the visible ``(B, N, C)`` and at themselves."""
        queries = self.norm(hidden)
        seen = torch.cat([self.norm_seen(visible), queries], 1)
        hidden = hidden + self.attention(queries, seen, seen, need_weights=False)[0]
        mixed: Tensor = hidden + self.mlp(self.norm_mlp(hidden))
        return mixed


class Filler(nn.Module):
    """Features of hidden patches from those of visible ones.

    Parameters
    ----------
    channels
        Of the features.
    width, depth
        Of the blocks.
    """

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(channels, width), nn.Linear(width, channels)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        nn.init.normal_(self.token, std=0.02)
        self.blocks = nn.ModuleList(CrossBlock(width) for _ in range(depth))

    def forward(self, visible: Tensor, keep: Tensor, hide: Tensor, grid: tuple[int, int]) -> Tensor:
        """All patches ``(B, hw, C)`` from visible ones ``(B, N, C)``.

        ``keep`` ``(B, N)`` and ``hide`` ``(B, M)`` are their numbers in the grid (h, w).
        """
        batch, channels = len(visible), visible.shape[2]
        whole = visible.new_zeros(batch, grid[0] * grid[1], channels)
        whole = whole.scatter(1, keep[..., None].expand(-1, -1, channels), visible)
        if not hide.shape[1]:
            return whole
        codes = encode_places(grid, self.token.shape[2], visible.device)
        seen = self.enter(visible) + codes[keep]
        hidden = self.token.expand(batch, hide.shape[1], -1) + codes[hide]
        for block in self.blocks:
            hidden = block(hidden, seen)
        filled = self.leave(hidden).to(whole.dtype)
        return whole.scatter(1, hide[..., None].expand(-1, -1, channels), filled)


def encode_places(grid: tuple[int, int], width: int, device: torch.device) -> Tensor:
    """Sines and cosines of rows and columns ``(h * w, width)``, as in He et al. 2022; a quarter each."""
    quarter = width // 4
    rates = 10000 ** (-torch.arange(quarter, device=device) / max(1, quarter))
    rows, cols = (torch.arange(side, device=device)[:, None] * rates for side in grid)
    down = torch.cat([rows.sin(), rows.cos()], 1)[:, None].expand(-1, grid[1], -1)
    across = torch.cat([cols.sin(), cols.cos()], 1)[None].expand(grid[0], -1, -1)
    codes = torch.cat([down, across], 2).flatten(0, 1)
    return F.pad(codes, (0, width - codes.shape[1]))


def choose_hidden(batch: int, count: int, ratio: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Numbers of the patches that stay ``(B, N)`` and of those that are hidden ``(B, M)``, by chance."""
    order = torch.rand(batch, count).argsort(1).to(device)
    kept = count - min(count - 1, int(ratio * count))
    return order[:, :kept].sort(1).values, order[:, kept:].sort(1).values


class MaskedLesson(Lesson):
    """The encoder and a decoder that goes away afterwards reconstruct the teacher's features.

    Parameters
    ----------
    pair
        Teacher and student.
    ratio
        Share of the patches that are hidden; 0.75 as published.
    depth, width
        Blocks of the decoder that fills the gaps, and their width.
    """

    def __init__(
        self, pair: Pair, ratio: float = RATIO, depth: int = DEPTH, width: int = WIDTH, seed: int = 0
    ) -> None:
        super().__init__(pair)
        self.ratio = ratio
        encoder = self.student.encoder
        self.plain = isinstance(encoder, EfficientSamEncoder)
        channels = encoder.pos_embed.shape[2] if isinstance(encoder, EfficientSamEncoder) else EMBED_DIM
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.filler = Filler(channels, width, depth)

    def terms(self, batch: ViewBatch) -> Terms:
        with torch.no_grad():
            wanted = self.pair.teach(batch.images)
        grid = (batch.images.shape[-2] // STRIDE, batch.images.shape[-1] // STRIDE)
        keep, hide = choose_hidden(len(batch.images), grid[0] * grid[1], self.ratio, batch.images.device)
        shown = torch.ones(len(hide), grid[0] * grid[1], dtype=torch.bool, device=hide.device)
        shown = shown.scatter(1, hide, False).view(-1, 1, *grid)
        return feature_terms(self.reconstruct(batch.images, keep, hide), wanted, batch, shown)

    def reconstruct(self, images: Tensor, keep: Tensor, hide: Tensor) -> Features:
        """The student's features, those of hidden patches filled in."""
        grid = (images.shape[-2] // STRIDE, images.shape[-1] // STRIDE)
        if self.plain:
            return self._drop_patches(images, keep, hide, grid)
        if not hide.shape[1]:
            return self.student.encode(images)
        features = self.student.encode(grey_out(images, hide, grid))
        patches = features.image.flatten(2).transpose(1, 2)
        visible = patches.gather(1, keep[..., None].expand(-1, -1, patches.shape[2]))
        whole = self.filler(visible, keep, hide, grid)
        return Features(whole.transpose(1, 2).reshape(len(whole), -1, *grid), features.levels, features.size)

    def _drop_patches(self, images: Tensor, keep: Tensor, hide: Tensor, grid: tuple[int, int]) -> Features:
        """As a plain transformer can: what is hidden is not computed at all."""
        encoder = self.student.encoder
        assert isinstance(encoder, EfficientSamEncoder)
        assert isinstance(self.student, SamStudent)
        tokens, size = encoder.tokens(fit_images(images, self.student.spec))
        visible = tokens.gather(1, keep[..., None].expand(-1, -1, tokens.shape[2]))
        for block in encoder.blocks:
            visible = block(visible)
        image = encoder.finish(self.filler(visible, keep, hide, grid), size)
        return Features(image.float(), (), (images.shape[-2], images.shape[-1]))


def grey_out(images: Tensor, hide: Tensor, grid: tuple[int, int]) -> Tensor:
    """Images ``(B, 3, H, W)`` with their hidden patches grey; ``hide`` ``(B, M)`` are numbers in the grid."""
    shown = torch.ones(len(images), grid[0] * grid[1], device=images.device).scatter(1, hide, 0.0)
    mask = shown.view(-1, 1, *grid).repeat_interleave(STRIDE, 2).repeat_interleave(STRIDE, 3)
    return images * mask + GREY * (1 - mask)
