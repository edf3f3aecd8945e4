"""Foundations as three graphs for other runtimes: encoder, prompts, decoder.

What is traced is the foundation's own code wherever its arithmetic can be written without deciding
anything by a size, so that graphs hold for images, batches and numbers of prompts of any size. Where it
decides (windows that need padding or not, tables kept by size), the graph does the general case, which
gives the same numbers.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from domainsam.errors import ConfigError
from domainsam.foundation.decoders.compact import CompactSam, cover_boxes, draw_clicks
from domainsam.foundation.decoders.efficientsam import PointEncoder
from domainsam.foundation.decoders.sam import SamStyleFoundation, decode_all
from domainsam.foundation.efficient import EfficientFoundation, normalise
from domainsam.foundation.efficientsam import PADDING_PLACE
from domainsam.foundation.embedded import EmbeddedFoundation
from domainsam.foundation.embedded_sam2 import TinySam2Foundation, draw_boxes, mark_clicks
from domainsam.foundation.encoders.vit import PATCH
from domainsam.foundation.sam import SamFoundation
from domainsam.prompts import POINT_NEGATIVE, POINT_PADDING, POINT_POSITIVE
from domainsam.protocols import Features, Foundation, Masks

TOP_LEFT, BOTTOM_RIGHT = 2, 3
"""Labels of a box's corners, beside those of points; SAM's own ONNX export has the same."""


class EncoderGraph(nn.Module):
    """RGB images ``(B, 3, H, W)`` in 0 to 1 to features, the coarsest first, as a tuple."""

    def __init__(self, foundation: Any) -> None:
        super().__init__()
        # Registered, so that its weights are the graph's; called through the foundation, which fits images.
        self.network = foundation.model
        self.foundation = [foundation]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """``image (B, 256, H/16, W/16)`` and, where there are finer levels, those of strides 4 and 8."""
        (foundation,) = self.foundation
        if isinstance(foundation, SamFoundation):
            return (_run_vit(foundation.model.image_encoder, (images - foundation._mean) / foundation._std),)
        if isinstance(foundation, EfficientFoundation):
            return (_run_efficient(foundation, images),)
        features: Features = foundation.encode(images)
        return (features.image, *features.levels)


def _run_efficient(foundation: EfficientFoundation, images: Tensor) -> Tensor:
    """:meth:`EfficientFoundation.encode` with padding whether it is needed or not."""
    spec, (height, width) = foundation.spec, images.shape[-2:]
    small = halve_smoothly(images) if spec.shrink == 2 else images
    small = normalise(small, spec)
    step = spec.multiple // spec.shrink
    small = F.pad(small, (0, -small.shape[-1] % step, 0, -small.shape[-2] % step))
    features: Tensor = foundation.model.image_encoder(small)
    return features[..., : height // PATCH, : width // PATCH]


def halve_smoothly(images: Tensor) -> Tensor:
    """Images ``(B, C, H, W)`` of even sides at half the size, as ``F.interpolate`` with antialiasing.

    Bilinear weights of a triangle of half-width 2 about the new pixel's centre are 1, 3, 3, 1 eighths of
    the four old ones; at the edge the weights that are left are scaled to 1.
    """
    line = torch.tensor([1.0, 3.0, 3.0, 1.0], device=images.device)
    kernel = (line[:, None] * line).view(1, 1, 4, 4)
    total = F.conv2d(images.flatten(0, 1)[:, None], kernel, stride=2, padding=1)
    weight = F.conv2d(torch.ones_like(images[:1, :1]), kernel, stride=2, padding=1)
    return total.view(*images.shape[:2], *total.shape[-2:]) / weight


def _run_vit(encoder: Any, x: Tensor) -> Tensor:
    """SAM's image encoder on normalised images ``(B, 3, H, W)``: the official order of steps, head by head.

    A head at a time, because no runtime but torch keeps the logits of all of them (800 MB a layer of
    ViT-B at 1024 pixels) out of memory.
    """
    x = encoder.patch_embed(x)
    size = (x.shape[1], x.shape[2])
    absolute = F.interpolate(encoder.pos_embed.permute(0, 3, 1, 2), size, mode="bicubic", align_corners=False)
    x = x + absolute.permute(0, 2, 3, 1)
    for block in encoder.blocks:
        seen = _attend(block, block.norm1(x), size)
        x = x + seen
        x = x + block.mlp(block.norm2(x))
    features: Tensor = encoder.neck(x.permute(0, 3, 1, 2))
    return features


def _attend(block: Any, x: Tensor, size: tuple[Any, Any]) -> Tensor:
    """One block's attention ``(B, h, w, C)``, in windows that overhang the grid where the block has them."""
    if not block.window_size:
        return _attend_grid(block.attn, x, size)
    side, (height, width) = block.window_size, size
    x = F.pad(x, (0, 0, 0, -width % side, 0, -height % side))
    rows, columns = x.shape[1] // side, x.shape[2] // side
    cut = x.reshape(-1, rows, side, columns, side, x.shape[3]).transpose(2, 3).flatten(0, 2)
    seen = _attend_grid(block.attn, cut, (side, side))
    joined = seen.reshape(-1, rows, columns, side, side, x.shape[3]).transpose(2, 3)
    return joined.reshape(-1, rows * side, columns * side, x.shape[3])[:, :height, :width]


def _attend_grid(attention: Any, x: Tensor, size: tuple[Any, Any]) -> Tensor:
    """Attention with decomposed relative positions over whole grids ``(B, h, w, C)``."""
    height, width = size
    rows, columns = (
        _relative(table, side)
        for table, side in zip((attention.rel_pos_h, attention.rel_pos_w), size, strict=True)
    )
    parts = attention.qkv(x).reshape(-1, height * width, 3, attention.num_heads, rows.shape[-1])
    heads = []
    for head in range(attention.num_heads):
        query, key, value = parts[..., head, :].unbind(2)
        grid = query.reshape(-1, height, width, rows.shape[-1])
        down = torch.einsum("bhwd,hkd->bhwk", grid, rows)
        right = torch.einsum("bhwd,wkd->bhwk", grid, columns)
        bias = (down[..., :, None] + right[..., None, :]).reshape(-1, height * width, height * width)
        logits = (query * attention.scale) @ key.transpose(1, 2) + bias
        heads.append(logits.softmax(dim=-1) @ value)
    projected: Tensor = attention.proj(torch.cat(heads, dim=-1).reshape(-1, height, width, x.shape[-1]))
    return projected


def _relative(table: Tensor, side: Any) -> Tensor:
    """Vectors ``(side, side, D)`` of query minus key, the table resized linearly as in the official code."""
    if not isinstance(side, int) or table.shape[0] != 2 * side - 1:
        table = F.interpolate(table.T[None], size=2 * side - 1, mode="linear")[0].T
    place = torch.arange(side, device=table.device)
    return table[place[:, None] - place + side - 1]


class PromptGraph(nn.Module):
    """Points and box corners to sparse tokens.

    ``points (N, P, 2)`` x and y in pixels from the corner of the first pixel; ``labels (N, P)`` int64:
    -1 padding, 0 outside, 1 inside, 2 and 3 the box's top left and bottom right corner; ``size (2,)``
    float, height and width of the image. Tokens ``(N, P, 256)``.
    """

    def __init__(self, foundation: Any) -> None:
        super().__init__()
        encoder: Any = _prompt_encoder(foundation)
        self.code = encoder.pe_layer
        self.special = isinstance(encoder, PointEncoder)
        if self.special:
            place = torch.full((1, 1, 2), PADDING_PLACE, device=foundation.device)
            padding = encoder.pe_layer.forward_with_coords(place, (1, 1))[0, 0]
            table = encoder.table()
            kinds = torch.stack([table[0] + padding, torch.zeros_like(table[0]), *table[1:]])
        else:
            kinds = torch.cat(
                [encoder.not_a_point_embed.weight, *(part.weight for part in encoder.point_embeddings)]
            )
        self.register_buffer("kinds", kinds.detach().clone())

    def forward(self, points: Tensor, labels: Tensor, size: Tensor) -> Tensor:
        code = self.code._pe_encoding(points / size.flip(0))
        code = torch.where((labels == POINT_PADDING)[..., None], torch.zeros_like(code), code)
        kinds: Any = self.kinds
        tokens: Tensor = code + kinds[labels + 1]
        return tokens


def _prompt_encoder(foundation: Any) -> Any:
    return (
        foundation._prompt_encoder
        if isinstance(foundation, SamStyleFoundation)
        else foundation.model.prompt_encoder
    )


class DecoderGraph(nn.Module):
    """Masks of ``N`` prompts over ``B`` encoded images.

    Inputs are the encoder's outputs, ``index (N,)`` int64 (which image a prompt belongs to), ``tokens (N,
    T, 256)`` and, where the foundation takes them, ``mask (N or 1, 1, H/4, W/4)`` with ``has_mask (1,)``
    float, 1 if there is one; the embedded foundations also draw ``points`` and ``labels`` as of
    :class:`PromptGraph`.
    Outputs ``logits (N, 4, H/4, W/4)`` and ``iou (N, 4)``: the single reading, then the three.
    """

    def __init__(self, foundation: Any) -> None:
        super().__init__()
        self.network = foundation.model
        self.foundation = [foundation]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        (foundation,) = self.foundation
        levels = inputs[1:3] if has_levels(foundation) else ()
        index, tokens, *rest = inputs[1 + len(levels) :]
        image, levels = inputs[0][index], tuple(level[index] for level in levels)
        if isinstance(foundation, EmbeddedFoundation):
            masks = _decode_compact(foundation.model, Features(image, levels, (0, 0)), tokens, *rest)
            return masks.logits, masks.iou
        encoder: Any = foundation._prompt_encoder
        position = encoder.pe_layer((image.shape[-2], image.shape[-1]))[None]
        if draws_on_mask(foundation):
            rest = _draw_on_mask(*rest)
        dense = _embed_mask(encoder, *rest) if rest else image.new_zeros(1, 1, 1, 1)
        masks = decode_all(foundation._mask_decoder, image, levels, position, tokens, dense)
        single = foundation._choose(masks, False)
        return (
            torch.cat([single.logits, masks.logits[:, 1:]], dim=1),
            torch.cat([single.iou, masks.iou[:, 1:]], dim=1),
        )


def _embed_mask(encoder: Any, mask: Tensor, has_mask: Tensor) -> Tensor:
    """What is added to the image: the mask's embedding, or that there is none."""
    given: Tensor = encoder.mask_downscaling(mask)
    none: Tensor = encoder.no_mask_embed.weight[..., None, None]
    return has_mask * given + (1 - has_mask) * none


def _draw_on_mask(mask: Tensor, has_mask: Tensor, points: Tensor, labels: Tensor) -> list[Tensor]:
    """:func:`draw_on_mask` of points and corners by their labels, and which prompts have any drawing."""
    size = (mask.shape[-2], mask.shape[-1])
    has_box = _as_rows((labels == TOP_LEFT).any(dim=1))
    under = has_mask * mask + (1 - has_mask) * has_box * draw_boxes(_find_corners(points, labels), size)
    has_any = _as_rows((labels != POINT_PADDING).any(dim=1))
    return [under + mark_clicks(points, labels, size), torch.maximum(has_any, has_mask)]


def _as_rows(chosen: Tensor) -> Tensor:
    return chosen.float()[:, None, None, None]


def _find_corners(points: Tensor, labels: Tensor) -> Tensor:
    """Boxes ``(N, 4)``; all 0 where there is none."""
    corners = [((labels == kind)[..., None] * points).sum(dim=1) for kind in (TOP_LEFT, BOTTOM_RIGHT)]
    return torch.cat(corners, dim=1)


def _decode_compact(
    model: CompactSam, features: Features, tokens: Tensor, mask: Tensor, has_mask: Tensor, *marks: Tensor
) -> Masks:
    """The embedded foundation's decoder, its prompts drawn from points and corners by their labels."""
    points, labels = marks
    size = (features.levels[0].shape[-2], features.levels[0].shape[-1])
    box = cover_boxes(_find_corners(points, labels), size)
    clicks = [draw_clicks(points, labels == kind, size) for kind in (POINT_POSITIVE, POINT_NEGATIVE)]
    before = (has_mask * (2 * torch.sigmoid(mask) - 1)).expand(box.shape[0], -1, -1, -1)
    maps = torch.cat([before, *(part[:, None] for part in (box, *clicks))], dim=1)
    grid = (features.image.shape[-2], features.image.shape[-1])
    masks: Masks = model.decoder(
        features, model.prompt_encoder.pe_layer(grid)[None], tokens, model.dense_prompts.embed(maps)
    )
    return masks


def has_levels(foundation: Foundation) -> bool:
    """Whether features come with finer levels: those of SAM 2 and of the embedded foundations."""
    return not isinstance(foundation, (SamFoundation, EfficientFoundation))


def draws_on_mask(foundation: Foundation) -> bool:
    """Whether boxes and clicks are drawn on the mask prompt."""
    return isinstance(foundation, TinySam2Foundation)


def takes_masks(foundation: Any) -> bool:
    """Whether a mask can be a prompt."""
    return not isinstance(_prompt_encoder(foundation), PointEncoder)


def list_outputs(foundation: Foundation) -> tuple[str, ...]:
    """Names of the encoder's outputs."""
    return ("image", "level4", "level8") if has_levels(foundation) else ("image",)


def list_inputs(foundation: Foundation) -> tuple[str, ...]:
    """Names of the decoder's inputs, in order."""
    masks = ("mask", "has_mask") if takes_masks(foundation) else ()
    draws = isinstance(foundation, EmbeddedFoundation) or draws_on_mask(foundation)
    marks = ("points", "labels") if draws else ()
    return (*list_outputs(foundation), "index", "tokens", *masks, *marks)


def require_exportable(foundation: Foundation) -> None:
    """Refuse what has no network of a kind that is known here.

    Raises
    ------
    ConfigError
        If the foundation is another package's, or one for tests.
    """
    if not isinstance(foundation, (SamStyleFoundation, EmbeddedFoundation)):
        raise ConfigError(
            f"foundation {foundation.name!r} cannot be exported: only those of this package can, "
            "see 'domainsam foundations list'; run it with --runtime torch"
        )
