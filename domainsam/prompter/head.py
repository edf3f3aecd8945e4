"""SegFormer's decode head, with an order of work for training and one for inference.

Xie et al. 2021, "SegFormer", section 3.2. Bilinear resizing commutes with
1 x 1 convolutions, and on the CPU it is itself a product with a narrow matrix;
both together make inference several times faster than the published order.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.protocols import Coarse

CHUNK_ELEMENTS = 1 << 20
"""Elements of the fused feature worked on at a time: 4 MB, which stays in a processor's cache."""


class LevelShare(nn.Module):
    """One level's projection and its share of the fusing convolution, as one matrix."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels, width)
        self.fuse = nn.Linear(width, width, bias=False)

    def matrix(self) -> tuple[Tensor, Tensor]:
        """Weight ``(width, channels)`` and bias ``(width,)`` of both steps together."""
        return self.fuse.weight @ self.project.weight, self.fuse.weight @ self.project.bias

    def forward(self, level: Tensor) -> Tensor:
        """``(B, channels, h, w)`` to ``(B, width, h, w)``."""
        weight, bias = self.matrix()
        return F.conv2d(level, weight[:, :, None, None], bias)


class AllMlpHead(nn.Module):
    """SegFormer's decode head, with its fused feature as an output.

    Same parameters and function as the published head (a linear projection a
    level, concatenation, a 1 x 1 fusing convolution, batch norm, ReLU), but
    each level's projection and its share of the fusion act as one matrix
    *before* the resizing. On the CPU, in evaluation mode and without
    gradients, it works on a few channels of one image at a time, in float32.
    """

    def __init__(self, widths: tuple[int, ...], width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.shares = nn.ModuleList(LevelShare(channels, width) for channels in widths)
        self.norm = nn.BatchNorm2d(width)
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, levels: tuple[Tensor, ...]) -> Coarse:
        """Levels at strides 4, 8, 16 and 32 to logits and fused feature at stride 4."""
        if self._in_chunks(levels):
            batch, (height, width) = levels[0].shape[0], levels[0].shape[2:]
            features = levels[0].new_empty(
                (batch, self.norm.num_features, height, width), dtype=torch.float32
            )
            return Coarse(self._chunked(levels, features), features)
        total: Tensor = self.shares[0](levels[0])
        for level, share in zip(levels[1:], self.shares[1:], strict=True):
            size = (total.shape[2], total.shape[3])
            total = total + F.interpolate(share(level), size=size, mode="bilinear", align_corners=False)
        features = F.relu(self.norm(total))
        return Coarse(self.classify(self.dropout(features)), features)

    def logits(self, levels: tuple[Tensor, ...]) -> Tensor:
        """The logits of :meth:`forward` alone, which spares the memory of the feature."""
        if self._in_chunks(levels):
            return self._chunked(levels)
        coarse: Coarse = self(levels)
        return coarse.logits

    def _in_chunks(self, levels: tuple[Tensor, ...]) -> bool:
        # A GPU has no use for small pieces, and batch statistics and gradients need the whole.
        return not self.training and not torch.is_grad_enabled() and levels[0].device.type == "cpu"

    def _chunked(self, levels: tuple[Tensor, ...], features: Tensor | None = None) -> Tensor:
        """Logits ``(B, classes, h, w)``; fills ``features`` ``(B, width, h, w)`` if given."""
        size = (levels[0].shape[2], levels[0].shape[3])
        with torch.autocast("cpu", enabled=False):
            folded = _Folded(self, [(level.shape[2], level.shape[3]) for level in levels])
            logits = levels[0].new_empty(
                (levels[0].shape[0], len(folded.classes), *size), dtype=torch.float32
            )
            for index, image in enumerate(logits):
                inside = [level[index].float() for level in levels]
                folded.run(inside, image, None if features is None else features[index])
        return logits


class _Folded:
    """The head's matrices with the batch norm in them, and the resizing as matrices."""

    def __init__(self, head: AllMlpHead, sizes: list[tuple[int, int]]) -> None:
        norm = head.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        self.bias = norm.bias - norm.running_mean * scale
        self.weights: list[Tensor] = []
        for share in head.shares:
            assert isinstance(share, LevelShare)
            weight, bias = share.matrix()
            self.weights.append(weight * scale[:, None])
            self.bias = self.bias + bias * scale
        self.classes = head.classify.weight[:, :, 0, 0]
        self.offset = head.classify.bias
        height, width = self.size = sizes[0]
        self.down = torch.cat([resizing(rows, height) for rows, _ in sizes[1:]]).T.contiguous()
        self.across = [resizing(cols, width) for _, cols in sizes[1:]]
        self.chunk = max(8, CHUNK_ELEMENTS // (height * width))

    def run(self, levels: list[Tensor], logits: Tensor, features: Tensor | None) -> None:
        """Fill logits ``(classes, h, w)``, and features ``(width, h, w)`` if given, of one image."""
        height, width = self.size
        finest = levels[0].flatten(1)
        # Widened only: all levels' rows lie one below the other, to be resized and added in one product.
        rows = torch.cat(
            [
                (weight @ level.flatten(1))
                .view(-1, level.shape[2])
                .matmul(across)
                .view(-1, level.shape[1], width)
                for weight, level, across in zip(self.weights[1:], levels[1:], self.across, strict=True)
            ],
            dim=1,
        )
        flat = logits.view(len(self.classes), -1)
        flat[:] = 0 if self.offset is None else self.offset[:, None]
        for first in range(0, len(rows), self.chunk):
            part = slice(first, first + self.chunk)
            fused = torch.addmm(self.bias[part, None], self.weights[0][part], finest).view(-1, height, width)
            fused.baddbmm_(self.down.expand(len(fused), -1, -1), rows[part]).relu_()
            flat.addmm_(self.classes[:, part], fused.view(len(fused), -1))
            if features is not None:
                features[part] = fused


def resizing(old: int, new: int) -> Tensor:
    """Matrix ``(old, new)`` that resizes a row of ``old`` values linearly, as ``F.interpolate`` does."""
    return F.interpolate(torch.eye(old)[None], size=new, mode="linear", align_corners=False)[0]
