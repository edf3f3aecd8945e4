"""Mix Transformer encoders of SegFormer, B0 to B5, through ``transformers``, and its decode head.

Sizes: Xie et al. 2021, "SegFormer", tables 6 and 7 (and the released
configurations, whose decode heads are 256 wide for B0 and B1, 768 above).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.errors import ConfigError, MissingInputError, WeightsError
from domainsam.protocols import Coarse
from domainsam.trunks import STRIDES, Trunk, build_trunk


@dataclass(frozen=True)
class MitSize:
    """Depth and width of each of the four stages, and the decode head's width."""

    depths: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    head_width: int


_WIDE = (64, 128, 320, 512)
MIT_SIZES = {
    "mit_b0": MitSize((2, 2, 2, 2), (32, 64, 160, 256), 256),
    "mit_b1": MitSize((2, 2, 2, 2), _WIDE, 256),
    "mit_b2": MitSize((3, 4, 6, 3), _WIDE, 768),
    "mit_b3": MitSize((3, 4, 18, 3), _WIDE, 768),
    "mit_b4": MitSize((3, 8, 27, 3), _WIDE, 768),
    "mit_b5": MitSize((3, 6, 40, 3), _WIDE, 768),
}


TRUNK_HEAD_WIDTH = 128
"""Width of the decode head on a trunk of ``timm``: light, for these are small and run on CPUs."""


class MitEncoder(nn.Module):
    """A SegFormer encoder that returns its four levels; ``widths`` are their channels."""

    def __init__(self, model: Any, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.model, self.widths = model, widths

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Normalised images ``(B, 3, H, W)`` to levels at strides 4, 8, 16 and 32."""
        levels = []
        level = images
        for stage in self.model.stages:
            level = stage(level)
            levels.append(level)
        return tuple(levels)


def build_encoder(name: str, drop_path: float = 0.1, deepest: int = STRIDES[-1]) -> MitEncoder | Trunk:
    """An encoder with random weights: one of :data:`MIT_SIZES`, or any trunk of ``timm`` with four levels.

    ``deepest`` is the stride of the last level that a trunk is asked for.

    Raises
    ------
    ConfigError
        If there is no such encoder, it has no levels at strides 4, 8, 16 and 32, or ``deepest`` is no such
        stride, or another than 32 of a SegFormer.
    """
    strides = tuple(stride for stride in STRIDES if stride <= deepest)
    if deepest not in STRIDES or (name.startswith("mit_") and strides != STRIDES):
        raise ConfigError(
            f"the deepest level has stride {deepest}, expected one of {', '.join(map(str, STRIDES))}, "
            f"and {STRIDES[-1]} of a SegFormer"
        )
    return build_mit(name, drop_path) if name.startswith("mit_") else build_trunk(name, drop_path, strides)


def find_head_width(name: str) -> int:
    """Width of the decode head that an encoder has by default."""
    return MIT_SIZES[name].head_width if name in MIT_SIZES else TRUNK_HEAD_WIDTH


def build_mit(name: str, drop_path: float = 0.1) -> MitEncoder:
    """A SegFormer encoder with random weights.

    Raises
    ------
    ConfigError
        If the name is not one of :data:`MIT_SIZES`.
    """
    from transformers import SegformerConfig, SegformerModel

    if name not in MIT_SIZES:
        raise ConfigError(
            f"encoder is {name!r}, expected one of {', '.join(MIT_SIZES)}, or a network of timm"
        )
    size = MIT_SIZES[name]
    config = SegformerConfig(
        depths=list(size.depths),
        hidden_sizes=list(size.widths),
        decoder_hidden_size=size.head_width,
        drop_path_rate=drop_path,
    )
    return MitEncoder(SegformerModel(config), size.widths)


def load_pretrained(encoder: MitEncoder | Trunk, source: str, allow_download: bool = False) -> None:
    """Fill an encoder with published weights, in place.

    Parameters
    ----------
    encoder
        A SegFormer encoder from :func:`build_encoder`, of the same size as the weights.
    source
        A local folder in the format of ``transformers`` (``config.json`` and
        ``model.safetensors``), or a name on the Hugging Face hub such as
        ``"nvidia/mit-b0"``.
    allow_download
        Whether a hub name may be fetched; otherwise only what an earlier
        download left on this machine is used.

    Raises
    ------
    MissingInputError
        If the source looks like a path that does not exist.
    WeightsError
        If the weights cannot be had, or have another shape than the encoder.
    ConfigError
        If the encoder is no SegFormer's.
    """
    from transformers import SegformerModel

    if not isinstance(encoder, MitEncoder):
        raise ConfigError(
            f"encoder weights of transformers are SegFormer's, and the encoder is {encoder.name!r}: "
            "give a file of its weights with --trunk-weights"
        )
    if source.startswith((".", "/", "~")) and not Path(source).expanduser().is_dir():
        raise MissingInputError(f"no folder {source}: give a folder with config.json and model.safetensors")
    try:
        loaded = SegformerModel.from_pretrained(
            str(Path(source).expanduser()) if Path(source).expanduser().is_dir() else source,
            local_files_only=not allow_download,
            use_safetensors=True,
        )
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"encoder weights {source!r} cannot be loaded: give a local folder with config.json and "
            f"model.safetensors, or allow the download ({str(error).splitlines()[0]})"
        ) from error
    try:
        encoder.model.load_state_dict(loaded.state_dict())
    except RuntimeError as error:
        raise WeightsError(
            f"encoder weights {source!r} do not fit the configured encoder: stage widths "
            f"{tuple(loaded.config.hidden_sizes)}, expected {tuple(encoder.model.config.hidden_sizes)}"
        ) from error


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
        self.down = torch.cat([make_resize_matrix(rows, height) for rows, _ in sizes[1:]]).T.contiguous()
        self.across = [make_resize_matrix(cols, width) for _, cols in sizes[1:]]
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


def make_resize_matrix(old: int, new: int) -> Tensor:
    """Matrix ``(old, new)`` that resizes a row of ``old`` values linearly, as ``F.interpolate`` does."""
    return F.interpolate(torch.eye(old)[None], size=new, mode="linear", align_corners=False)[0]
