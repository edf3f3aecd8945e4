"""Sparse prompt tokens for any input size, from SAM's own prompt encoder modules."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from domainsam.prompts import POINT_NEGATIVE, POINT_PADDING, POINT_POSITIVE, PromptSet


def sparse_tokens(prompt_encoder: Any, prompts: PromptSet, size: tuple[int, int]) -> Tensor:
    """Tokens ``(N, T, C)`` that SAM's prompt encoder makes of points and boxes.

    Same arithmetic as ``PromptEncoder._embed_points`` and ``_embed_boxes`` of
    the official packages, with two differences: coordinates are normalised by
    the ``size`` (H, W) of the image at hand, not by a size fixed at
    construction, and nothing is shifted by half a pixel because a
    :class:`PromptSet` already measures from the pixel's corner. As there,
    points without a box get one padding point.

    ``prompt_encoder`` offers ``pe_layer.forward_with_coords``,
    ``point_embeddings`` (negative, positive, box corner 1, box corner 2) and
    ``not_a_point_embed``.
    """
    embeddings = prompt_encoder.point_embeddings
    parts = []
    if prompts.points is not None:
        points = prompts.points.float()
        if prompts.boxes is None:
            padding = points.new_tensor([0.0, 0.0, POINT_PADDING]).expand(len(prompts), 1, 3)
            points = torch.cat([points, padding], dim=1)
        code = prompt_encoder.pe_layer.forward_with_coords(points[..., :2].clone(), size)
        label = points[..., 2:]
        code = torch.where(label == POINT_PADDING, prompt_encoder.not_a_point_embed.weight, code)
        code = code + (label == POINT_NEGATIVE) * embeddings[0].weight
        code = code + (label == POINT_POSITIVE) * embeddings[1].weight
        parts.append(code)
    if prompts.boxes is not None:
        corners = prompt_encoder.pe_layer.forward_with_coords(prompts.boxes.float().reshape(-1, 2, 2), size)
        parts.append(corners + torch.cat([embeddings[2].weight, embeddings[3].weight]))
    if not parts:
        width = embeddings[0].weight.shape[1]
        return torch.zeros(len(prompts), 0, width, device=prompts.image_index.device)
    return torch.cat(parts, dim=1)
