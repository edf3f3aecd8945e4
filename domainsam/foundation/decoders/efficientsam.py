"""EfficientSAM's prompt encoder and mask decoder, under their official names.

They differ from SAM's (Xiong et al. 2023; ``efficient_sam_decoder.py`` of the official code): every
attention of the tokens keeps its residual path; from the second block on the prompt's code is added to
the tokens for good; activations are GELU; one group norm stands in the upscaling; points, box corners
and padding share six slots, and there is neither a mask prompt nor an embedding for points outside.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from segment_anything.modeling.prompt_encoder import PositionEmbeddingRandom
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn

from domainsam.foundation.layers import EMBED_DIM

SLOTS = 6
"""``decoder_max_num_input_points``."""
HEADS, BLOCKS, MLP_DIM, MASKS = 8, 2, 2048, 4


class PointEncoder(nn.Module):
    """Embeddings of points, corners and padding; codes of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.pe_layer = PositionEmbeddingRandom(EMBED_DIM // 2)
        self.invalid_points = nn.Embedding(1, EMBED_DIM)
        self.point_embeddings = nn.Embedding(1, EMBED_DIM)
        self.bbox_top_left_embeddings = nn.Embedding(1, EMBED_DIM)
        self.bbox_bottom_right_embeddings = nn.Embedding(1, EMBED_DIM)

    def table(self) -> Tensor:
        """Embeddings ``(4, 256)`` of padding, a point inside, and a box's two corners."""
        parts = (self.invalid_points, self.point_embeddings)
        corners = (self.bbox_top_left_embeddings, self.bbox_bottom_right_embeddings)
        return torch.cat([part.weight for part in (*parts, *corners)])


class Perceptron(nn.Module):
    """``hidden`` layers with GELU and a last one without."""

    def __init__(self, width: int, hidden_width: int, out: int, hidden: int) -> None:
        super().__init__()
        widths = [width] + [hidden_width] * hidden
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(one, other), nn.GELU()) for one, other in pairwise(widths)
        )
        self.fc = nn.Linear(hidden_width, out)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.fc(x)
        return out


class TwoWayBlock(nn.Module):
    """Tokens among themselves, tokens to image, perceptron, image to tokens; each with residual and norm."""

    def __init__(self, adds_code: bool) -> None:
        super().__init__()
        self.adds_code = adds_code
        self.self_attn = Attention(EMBED_DIM, HEADS)
        self.cross_attn_token_to_image = Attention(EMBED_DIM, HEADS, downsample_rate=2)
        self.cross_attn_image_to_token = Attention(EMBED_DIM, HEADS, downsample_rate=2)
        self.mlp = Perceptron(EMBED_DIM, MLP_DIM, EMBED_DIM, 1)
        self.norm1, self.norm2 = nn.LayerNorm(EMBED_DIM), nn.LayerNorm(EMBED_DIM)
        self.norm3, self.norm4 = nn.LayerNorm(EMBED_DIM), nn.LayerNorm(EMBED_DIM)

    def forward(self, tokens: Tensor, image: Tensor, code: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        if self.adds_code:
            tokens = tokens + code
        tokens = self.norm1(tokens + self.self_attn(q=tokens, k=tokens, v=tokens))
        seen = self.cross_attn_token_to_image(q=tokens + code, k=image + position, v=image)
        tokens = self.norm2(tokens + seen)
        tokens = self.norm3(tokens + self.mlp(tokens))
        told = self.cross_attn_image_to_token(q=image + position, k=tokens + code, v=tokens)
        return tokens, self.norm4(image + told)


class TwoWay(nn.Module):
    """The blocks, and a last attention of the tokens to the image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(adds_code=index > 0) for index in range(BLOCKS))
        self.final_attn_token_to_image = Attention(EMBED_DIM, HEADS, downsample_rate=2)
        self.norm_final_attn = nn.LayerNorm(EMBED_DIM)

    def forward(self, image: Tensor, position: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens ``(N, T, 256)`` and image ``(N, hw, 256)`` from ``(N, 256, h, w)`` and the tokens' code."""
        keys, position = image.flatten(2).transpose(1, 2), position.flatten(2).transpose(1, 2)
        tokens = code
        for layer in self.layers:
            tokens, keys = layer(tokens, keys, code, position)
        seen = self.final_attn_token_to_image(q=tokens + code, k=keys + position, v=keys)
        return self.norm_final_attn(tokens + seen), keys


class PointDecoder(nn.Module):
    """Mask decoder; offers what :func:`domainsam.foundation.decoders.sam.decode_all` asks for."""

    num_mask_tokens = MASKS

    def __init__(self) -> None:
        super().__init__()
        self.transformer = TwoWay()
        self.iou_token = nn.Embedding(1, EMBED_DIM)
        self.mask_tokens = nn.Embedding(MASKS, EMBED_DIM)
        wide, narrow = EMBED_DIM // 4, EMBED_DIM // 8
        self.final_output_upscaling_layers = nn.ModuleList(
            [
                nn.Sequential(nn.ConvTranspose2d(EMBED_DIM, wide, 2, 2), nn.GroupNorm(1, wide), nn.GELU()),
                nn.Sequential(nn.ConvTranspose2d(wide, narrow, 2, 2), nn.Identity(), nn.GELU()),
            ]
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            Perceptron(EMBED_DIM, EMBED_DIM, narrow, 2) for _ in range(MASKS)
        )
        self.iou_prediction_head = Perceptron(EMBED_DIM, EMBED_DIM, MASKS, 2)

    def output_upscaling(self, grid: Tensor) -> Tensor:
        """The grid ``(N, 256, h, w)`` four times finer, ``(N, 32, 4h, 4w)``."""
        for layer in self.final_output_upscaling_layers:
            grid = layer(grid)
        return grid
