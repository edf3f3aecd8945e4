"""Official models with seeded random weights, and prompts in their convention and in ours."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import nn

from domainsam.foundation.sam import SamSize
from domainsam.foundation.sam2 import build
from domainsam.prompts import PromptSet

POINTS = np.array([[30.0, 40.0], [90.0, 60.0]])
LABELS = np.array([1, 0])
BOX = np.array([20.0, 24.0, 100.0, 88.0])

CASES: dict[str, tuple[str, ...]] = {
    "points": ("points",),
    "box": ("box",),
    "mask": ("mask",),
    "all": ("points", "box", "mask"),
}


def lively(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random positions where the official code starts from zeros, and logits that spread around 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            nn.init.normal_(parameter, std=0.1, generator=generator)
        if "output_hypernetworks_mlps" in name and name.endswith("layers.2.weight"):
            with torch.no_grad():
                parameter.mul_(30)
    return model.eval().requires_grad_(False)


def official_sam(size: SamSize, seed: int = 0) -> Sam:
    """Official SAM of any size, built as ``segment_anything.build_sam`` does."""
    torch.manual_seed(seed)
    grid = size.image_size // 16
    encoder = ImageEncoderViT(
        depth=size.depth,
        embed_dim=size.width,
        img_size=size.image_size,
        mlp_ratio=4,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        num_heads=size.heads,
        patch_size=16,
        qkv_bias=True,
        use_rel_pos=True,
        global_attn_indexes=size.global_blocks,
        window_size=size.window,
        out_chans=256,
    )
    decoder = MaskDecoder(
        num_multimask_outputs=3,
        transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
        transformer_dim=256,
    )
    sam = Sam(
        image_encoder=encoder,
        prompt_encoder=PromptEncoder(256, (grid, grid), (size.image_size, size.image_size), 16),
        mask_decoder=decoder,
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    )
    return lively(sam, seed)


def official_sam2(name: str = "sam2.1_hiera_tiny", seed: int = 0) -> Any:
    """Official SAM 2 as ``build_sam2`` makes it, with lively random weights."""
    torch.manual_seed(seed)
    return lively(build(name), seed)


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Smooth coloured blobs with noise, ``(height, width, 3)`` uint8."""
    random = np.random.default_rng(seed)
    ys, xs = np.mgrid[:height, :width]
    image = np.zeros((height, width, 3))
    for _ in range(12):
        row, column, radius = random.uniform(0, height), random.uniform(0, width), random.uniform(10, 60)
        spot = np.exp(-((ys - row) ** 2 + (xs - column) ** 2) / (2 * radius**2))
        image += spot[..., None] * random.uniform(-120, 120, 3)
    return np.clip(image + 120 + random.normal(0, 8, image.shape), 0, 255).astype(np.uint8)


def low_mask(side: int, seed: int = 0) -> NDArray[np.float32]:
    """Mask prompt ``(1, side, side)`` as the official predictors take it."""
    return np.random.default_rng(seed).normal(0, 4, (1, side, side)).astype(np.float32)


def official_prompts(parts: tuple[str, ...], mask_side: int) -> dict[str, Any]:
    """Arguments of the official ``predict``; coordinates count pixel centres as whole numbers."""
    given: dict[str, Any] = {}
    if "points" in parts:
        given |= {"point_coords": POINTS, "point_labels": LABELS}
    if "box" in parts:
        given["box"] = BOX
    if "mask" in parts:
        given["mask_input"] = low_mask(mask_side)
    return given


def our_prompts(parts: tuple[str, ...], mask_side: int, scale: tuple[float, float]) -> PromptSet:
    """The same prompts in the pixel corner frame of the original picture.

    The official code adds half a pixel *after* resizing by ``scale`` (x, y),
    so half a pixel of the network's input is taken back to the picture.
    """
    half = np.array([0.5 / scale[0], 0.5 / scale[1]])
    points = np.concatenate([POINTS + half, LABELS[:, None]], axis=1)
    box = (BOX.reshape(2, 2) + half).reshape(1, 4)
    return PromptSet(
        image_index=torch.zeros(1, dtype=torch.int64),
        labels=torch.ones(1, dtype=torch.int64),
        scores=torch.ones(1),
        points=torch.tensor(points[None], dtype=torch.float32) if "points" in parts else None,
        boxes=torch.tensor(box, dtype=torch.float32) if "box" in parts else None,
        mask_logits=torch.from_numpy(low_mask(mask_side))[None] if "mask" in parts else None,
    )
