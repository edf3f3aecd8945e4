"""The network of Open-Vocabulary SAM (Yuan et al., ECCV 2024), under the names of its official files.

A frozen CLIP with a residual network sees the picture. SAM2CLIP turns its four levels into what SAM's encoder
would give; CLIP2SAM is SAM's decoder with one mask token and a label token, and a pyramid of CLIP's levels in
which the box of each mask says what the mask holds. Files: ``sam2clip_vith_rn50x16.pth`` (prefix
``neck_student.``) and ``clip2sam_{coco,lvis}_rn50x16.pth`` (``fpn_neck.``, ``mask_decoder.``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer
from segment_anything.modeling.common import LayerNorm2d
from segment_anything.modeling.image_encoder import Block
from segment_anything.modeling.mask_decoder import MLP
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import roi_align

from domainsam.foundation.attention import fuse_attention, make_relative_table
from domainsam.foundation.decoders.sam import sparse_tokens
from domainsam.foundation.encoders.vit import SamImageEncoder
from domainsam.prompts import PromptSet
from domainsam.vocabulary.clip import build_clip, describe_rn50x16

EMBED = 256
STRIDES = (4, 8, 16, 32)
GRID = 16
"""Stride of what SAM's decoder takes."""
FINEST = 56
"""Side of a box from twice which on it is read from the second level (mmdet's ``SingleRoIExtractor``)."""
LOGIT_SCALE = 100.0
"""exp(4.6052), CLIP's own, by which cosines become logits."""


@dataclass(frozen=True)
class OpenVocabularySize:
    """Sizes of one network; the defaults are the published ones.

    Parameters
    ----------
    clip
        As open_clip describes a CLIP with a residual network; by default RN50x16.
    width, depth, heads, window
        Of SAM2CLIP's blocks, of which the last attends everywhere.
    image_size
        Side of the pictures, a multiple of 32.
    roi
        Side of the grid that is read inside a box.
    """

    clip: Mapping[str, Any] = field(default_factory=describe_rn50x16)
    width: int = 1280
    depth: int = 5
    heads: int = 16
    window: int = 14
    image_size: int = 1024
    roi: int = 12

    @property
    def channels(self) -> tuple[int, ...]:
        """Of CLIP's four levels: 384, 768, 1536, 3072 for RN50x16."""
        width = int(self.clip["vision_cfg"]["width"])
        return tuple(4 * width * 2**level for level in range(4))

    @property
    def pool(self) -> int:
        """Side of the grid that CLIP's attention pool was made for: 12 for RN50x16."""
        return int(self.clip["vision_cfg"]["image_size"]) // STRIDES[-1]


class Projection(nn.Module):
    """A convolution under the name that mmdet's ``PatchEmbed`` gives it."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        up, down = max(1, stride // GRID), max(1, GRID // stride)
        make = nn.ConvTranspose2d if up > 1 else nn.Conv2d
        step = max(up, down)
        self.projection = make(channels, width, kernel_size=step, stride=step)

    def forward(self, level: Tensor) -> Tensor:
        out: Tensor = self.projection(level)
        return out


class Sam2Clip(nn.Module):
    """CLIP's levels as SAM's features: projections, five of SAM's blocks, SAM's neck."""

    pos_embed: Tensor

    def __init__(self, size: OpenVocabularySize) -> None:
        super().__init__()
        grid = size.image_size // GRID
        self.patch_embeds = nn.ModuleList(
            Projection(channels, size.width, stride)
            for channels, stride in zip(size.channels, STRIDES, strict=True)
        )
        self.level_encoding = nn.Embedding(len(STRIDES), size.width)
        self.register_buffer("pos_embed", torch.zeros(1, grid, grid, size.width))
        self.blocks = nn.ModuleList(
            Block(
                size.width,
                size.heads,
                norm_layer=partial(nn.LayerNorm, eps=1e-6),
                use_rel_pos=True,
                window_size=size.window if number < size.depth - 1 else 0,
                input_size=(grid, grid),
            )
            for number in range(size.depth)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(size.width, EMBED, 1, bias=False),
            LayerNorm2d(EMBED),
            nn.Conv2d(EMBED, EMBED, 3, padding=1, bias=False),
            LayerNorm2d(EMBED),
        )

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        """Features ``(B, 256, H/16, W/16)`` of CLIP's levels at strides 4 to 32."""
        parts = zip(self.patch_embeds, levels, self.level_encoding.weight, strict=True)
        joined = torch.stack([project(level) + code[:, None, None] for project, level, code in parts]).sum(0)
        tokens = joined.permute(0, 2, 3, 1) + self._positions(joined.shape[-2:])
        for block in self.blocks:
            tokens = block(tokens) if self.training else _run_block(block, tokens)
        features: Tensor = self.neck(tokens.permute(0, 3, 1, 2))
        return features

    def _positions(self, size: Sequence[int]) -> Tensor:
        """SAM's position code ``(1, h, w, C)``, resized as SAM's is where the picture has another size."""
        if tuple(self.pos_embed.shape[1:3]) == tuple(size):
            return self.pos_embed
        code = self.pos_embed.permute(0, 3, 1, 2)
        return F.interpolate(code, size=tuple(size), mode="bicubic", align_corners=False).permute(0, 2, 3, 1)


def _run_block(block: Any, tokens: Tensor) -> Tensor:
    """One of SAM's blocks without its matrix of logits; see :mod:`domainsam.foundation.encoders.vit`."""
    size = (block.window_size,) * 2 if block.window_size else (tokens.shape[1], tokens.shape[2])
    table = make_relative_table(block.attn.rel_pos_h, block.attn.rel_pos_w, size)
    tokens = tokens + SamImageEncoder.attend_block(block, block.norm1(tokens), table)
    out: Tensor = tokens + block.mlp(block.norm2(tokens))
    return out


class Convolution(nn.Module):
    """A convolution under the name that mmcv's ``ConvModule`` gives it."""

    def __init__(self, channels: int, out: int, kernel: int, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, padding=kernel // 2, bias=bias)

    def forward(self, level: Tensor) -> Tensor:
        out: Tensor = self.conv(level)
        return out


class Pyramid(nn.Module):
    """A feature pyramid (Lin et al. 2017) as mmdet builds it: nearest neighbours on the way down."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(Convolution(count, EMBED, 1) for count in channels)
        self.fpn_convs = nn.ModuleList(Convolution(EMBED, EMBED, 3) for _ in channels)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Levels of 256 channels with the sizes of the given ones."""
        sides = [lateral(level) for lateral, level in zip(self.lateral_convs, levels, strict=True)]
        for place in range(len(sides) - 1, 0, -1):
            finer = sides[place - 1]
            sides[place - 1] = finer + F.interpolate(sides[place], size=finer.shape[-2:], mode="nearest")
        return [smooth(side) for smooth, side in zip(self.fpn_convs, sides, strict=True)]


class LabelDecoder(nn.Module):
    """SAM's decoder with one mask token, a label token before it, and what is read inside boxes.

    The published head multiplies what it makes of the label token by zero: labels come from the boxes
    alone. The token still takes part in the decoder's attention, and its weights are in the file.
    """

    def __init__(self, size: OpenVocabularySize) -> None:
        super().__init__()
        transformer = TwoWayTransformer(depth=2, embedding_dim=EMBED, mlp_dim=2048, num_heads=8)
        self.mask_decoder = MaskDecoder(
            transformer_dim=EMBED, transformer=transformer, num_multimask_outputs=0
        )
        del self.mask_decoder.iou_token, self.mask_decoder.iou_prediction_head
        fuse_attention(self.mask_decoder, Attention)
        words = int(size.clip["embed_dim"])
        self.label_token = nn.Embedding(1, EMBED)
        self.label_mlp = MLP(EMBED, EMBED, words, 3)
        self.roi_conv = nn.Sequential(Convolution(EMBED, words, 1, bias=False))
        self.roi = size.roi

    def decode(self, image: Tensor, position: Tensor, tokens: Tensor, dense: Tensor) -> Tensor:
        """Mask logits ``(N, 4h, 4w)``.

        Parameters
        ----------
        image
            ``(N, 256, h, w)``, a row a prompt.
        position
            ``(1, 256, h, w)``.
        tokens
            ``(N, T, 256)`` of points and boxes.
        dense
            ``(N, 256, h, w)`` or ``(1, 256, 1, 1)``.
        """
        count, decoder = tokens.shape[0], self.mask_decoder
        own = torch.cat([self.label_token.weight, decoder.mask_tokens.weight]).expand(count, -1, -1)
        queries = torch.cat([own, tokens], dim=1)
        hidden, keys = decoder.transformer(image + dense, position.expand(count, -1, -1, -1), queries)
        finer = decoder.output_upscaling(keys.transpose(1, 2).reshape(image.shape))
        weights = decoder.output_hypernetworks_mlps[0](hidden[:, 1])
        return torch.einsum("nc,nchw->nhw", weights, finer)

    def describe(self, pyramid: Sequence[Tensor], boxes: Tensor, index: Tensor) -> Tensor:
        """What boxes hold, ``(N, D)`` of length 1, comparable with CLIP's words.

        Parameters
        ----------
        pyramid
            Levels ``(B, 256, h, w)`` at strides 4 to 32.
        boxes
            ``(N, 4)`` left, top, right, bottom in pixels of the picture.
        index
            ``(N,)`` int64, the picture of each.
        """
        read = read_boxes(pyramid, boxes, index, self.roi)
        words: Tensor = F.relu(self.roi_conv(read)).mean(dim=(2, 3))
        return F.normalize(words, dim=-1)


def read_boxes(pyramid: Sequence[Tensor], boxes: Tensor, index: Tensor, side: int) -> Tensor:
    """What boxes hold, ``(N, C, side, side)``, each from the level that suits its size."""
    level = choose_levels(boxes, len(pyramid))
    out = pyramid[0].new_zeros(len(boxes), pyramid[0].shape[1], side, side)
    for number, (features, stride) in enumerate(zip(pyramid, STRIDES, strict=True)):
        chosen = torch.nonzero(level == number).flatten()
        if len(chosen):
            rows = torch.cat([index[chosen, None].to(boxes.dtype), boxes[chosen]], dim=1)
            read = roi_align(features, rows, (side, side), 1 / stride, sampling_ratio=-1, aligned=True)
            out = out.index_copy(0, chosen, read)
    return out


def choose_levels(boxes: Tensor, count: int) -> Tensor:
    """Level of a pyramid ``(N,)`` int64 that each box is read from: one higher for twice the side."""
    sides = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=0).sqrt()
    return torch.floor(torch.log2(sides / FINEST + 1e-6)).clamp(0, count - 1).long()


class OpenVocabularyNetwork(nn.Module):
    """All of it; ``clip`` and ``prompt_encoder`` come from CLIP's and SAM's own files."""

    def __init__(self, size: OpenVocabularySize, clip: nn.Module | None = None) -> None:
        super().__init__()
        self.size = size
        grid = size.image_size // GRID
        self.clip: Any = build_clip(size.clip) if clip is None else clip
        self.neck = Sam2Clip(size)
        self.fpn_neck = Pyramid(size.channels)
        self.prompt_encoder = PromptEncoder(EMBED, (grid, grid), (size.image_size,) * 2, mask_in_chans=16)
        self.mask_decoder = LabelDecoder(size)

    def see(self, images: Tensor) -> list[Tensor]:
        """CLIP's levels at strides 4 to 32 of normalised images ``(B, 3, H, W)``."""
        levels = []
        features = self.clip.visual.stem(images)
        for name in ("layer1", "layer2", "layer3", "layer4"):
            features = getattr(self.clip.visual, name)(features)
            levels.append(features)
        return levels

    def decode(self, features: Tensor, prompts: PromptSet) -> Tensor:
        """Mask logits ``(N, H/4, W/4)`` of prompts in pictures whose features are ``(B, 256, h, w)``."""
        grid = (features.shape[-2], features.shape[-1])
        size = (grid[0] * GRID, grid[1] * GRID)
        tokens = sparse_tokens(self.prompt_encoder, prompts, size)
        position = self.prompt_encoder.pe_layer(grid)[None]
        dense = self.prompt_encoder.no_mask_embed.weight[..., None, None]
        return self.mask_decoder.decode(features[prompts.image_index], position, tokens, dense)

    def pool(self, coarse: Tensor, boxes: Tensor, index: Tensor) -> Tensor:
        """What CLIP itself makes of boxes in its coarsest level ``(B, C, h, w)``: ``(N, D)`` of length 1."""
        rows = torch.cat([index[:, None].to(boxes.dtype), boxes], dim=1)
        side = self.size.pool
        read = roi_align(coarse, rows, (side, side), 1 / STRIDES[-1], sampling_ratio=-1, aligned=True)
        return F.normalize(self.clip.visual.attnpool(read), dim=-1)


def find_boxes(masks: Tensor) -> Tensor:
    """Boxes ``(N, 4)`` float32 around masks ``(N, h, w)`` bool, right and bottom exclusive; 0 if empty."""
    boxes = torch.zeros(len(masks), 4, device=masks.device)
    for number, mask in enumerate(masks):
        rows, cols = torch.nonzero(mask.any(dim=1)).flatten(), torch.nonzero(mask.any(dim=0)).flatten()
        if len(rows):
            edges = (cols[0], rows[0], cols[-1] + 1, rows[-1] + 1)
            boxes[number] = torch.stack(edges).to(boxes.dtype)
    return boxes


def compare_words(described: Tensor, words: Tensor) -> Tensor:
    """Logits ``(N, K + 1)`` of words ``(K, P, D)``, each by its best phrase; the last is none of them.

    "None" is a vector of zeros, as published: its logit is 0.
    """
    parts = [torch.einsum("nd,kpd->nkp", described, part).amax(dim=2) for part in torch.split(words, 256)]
    cosines = torch.cat([*parts, described.new_zeros(len(described), 1)], dim=1)
    return LOGIT_SCALE * cosines


ALPHA, BETA = 0.1, 0.9
"""CLIP's share for words that the head was trained on, and for others (published)."""


def mix_logits(head: Tensor, clip: Tensor, trained: Tensor, vanished: Tensor) -> Tensor:
    """The head's and CLIP's logits ``(N, K + 1)`` as one probability: a geometric mean, word by word.

    Parameters
    ----------
    trained
        ``(K,)`` bool, the words that the head was trained on.
    vanished
        ``(N,)`` bool, objects too small to be seen in CLIP's coarsest level: there CLIP has no say.
    """
    share = torch.where(trained, ALPHA, BETA).to(head)
    share = torch.cat([share, share.new_tensor([ALPHA])])[None] * (~vanished).to(head)[:, None]
    mixed = (1 - share) * head.log_softmax(dim=1) + share * clip.log_softmax(dim=1)
    return mixed.softmax(dim=1)
