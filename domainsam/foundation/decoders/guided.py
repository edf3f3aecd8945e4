"""SAM's two-way transformer with a target's guidance: where to look, and what for.

After PerSAM (Zhang et al. 2023, Personalize Segment Anything Model with One Shot).

*Target-guided attention* adds a similarity map to the attention of the tokens to the image, after its
softmax, and takes the softmax again (section 3.2 of the paper as its code computes it). The
*target-semantic prompt* adds the target's mean feature to every token before each block, and to the
queries of the last attention.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Guidance:
    """What a decoder is told of the target beside the prompts.

    Parameters
    ----------
    attention
        ``(N, hw)`` float: how much each image feature looks like the target, 0 to 1; None for no guidance.
    semantic
        ``(N, 256)`` float: the target's mean feature; None for no semantic prompt.
    aliased
        Add the semantic prompt as the published code does: in place, so that the tokens' own position
        code carries it as well. Only for comparison with that code.
    """

    attention: Tensor | None = None
    semantic: Tensor | None = None
    aliased: bool = False


def is_guidable(transformer: Any) -> bool:
    """Whether a mask decoder's transformer has the parts that guidance goes into: SAM's and SAM 2's have."""
    return all(hasattr(layer, "skip_first_layer_pe") for layer in getattr(transformer, "layers", [None]))


def transform_guided(
    transformer: Any, image: Tensor, position: Tensor, code: Tensor, guidance: Guidance
) -> tuple[Tensor, Tensor]:
    """Tokens and image features after the two-way transformer, guided.

    Parameters
    ----------
    transformer
        The official ``TwoWayTransformer`` of SAM or SAM 2.
    image, position
        ``(N, 256, h, w)``, its position codes alike.
    code
        ``(N, T, 256)`` tokens as they come from the prompt encoder.
    guidance
        Of the ``N`` prompts.

    Returns
    -------
    tokens, keys
        ``(N, T, 256)`` and ``(N, hw, 256)``, as the official forward gives them.
    """
    keys, position = image.flatten(2).transpose(1, 2), position.flatten(2).transpose(1, 2)
    semantic = None if guidance.semantic is None else guidance.semantic[:, None].to(code.dtype)
    tokens = code
    for number, layer in enumerate(transformer.layers):
        if semantic is not None:
            tokens = tokens + semantic
            if guidance.aliased and number == 0:
                code = tokens
        tokens, keys = _pass_block(layer, tokens, keys, code, position, guidance.attention)
    queries = tokens + code
    if semantic is not None:
        queries = queries + semantic
    seen = transformer.final_attn_token_to_image(q=queries, k=keys + position, v=keys)
    return transformer.norm_final_attn(tokens + seen), keys


def _pass_block(
    layer: Any, tokens: Tensor, keys: Tensor, code: Tensor, position: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """One block: tokens among themselves, tokens to image with the bias, perceptron, image to tokens."""
    if layer.skip_first_layer_pe:
        tokens = layer.self_attn(q=tokens, k=tokens, v=tokens)
    else:
        coded = tokens + code
        tokens = tokens + layer.self_attn(q=coded, k=coded, v=tokens)
    tokens = layer.norm1(tokens)
    seen = attend_biased(layer.cross_attn_token_to_image, tokens + code, keys + position, keys, bias)
    tokens = layer.norm2(tokens + seen)
    tokens = layer.norm3(tokens + layer.mlp(tokens))
    keys = keys + layer.cross_attn_image_to_token(q=keys + position, k=tokens + code, v=tokens)
    return tokens, layer.norm4(keys)


def attend_biased(attention: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """SAM's attention; with a bias ``(N, keys)`` it is ``softmax(softmax(q k / sqrt d) + bias)``."""
    if bias is None:
        plain: Tensor = attention(q=q, k=k, v=v)
        return plain
    parts = (attention.q_proj(q), attention.k_proj(k), attention.v_proj(v))
    q, k, v = (part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in parts)
    shares = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]), dim=-1)
    shares = torch.softmax(shares + bias[:, None, None].to(shares.dtype), dim=-1)
    out: Tensor = attention.out_proj((shares @ v).transpose(1, 2).flatten(-2))
    return out
