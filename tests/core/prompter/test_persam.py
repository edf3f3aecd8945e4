"""Guidance by a target in SAM's decoder, and the published order of operations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_anything.modeling.transformer import Attention

from domainsam.errors import InputError
from domainsam.foundation.attention import fuse_attention
from domainsam.foundation.decoders.guided import Guidance, attend_biased, is_guidable, transform_guided
from domainsam.foundation.embedded_sam2 import build as build_sam2
from domainsam.foundation.sam import SamFoundation, SamSize, build
from domainsam.prompter.persam import PublishedPerSam, PublishedTarget
from tests.core.official import lively, official_sam

TINY = SamSize(width=48, depth=2, heads=3, global_blocks=(1,), image_size=128, window=4)


@pytest.fixture(scope="module")
def foundation() -> SamFoundation:
    return SamFoundation(build(official_sam(TINY).state_dict(), TINY, "tiny"), "sam_tiny", 128)


def parts(tokens: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    image, position = torch.randn(2, 2, 256, 6, 5, generator=generator)
    return image, position, torch.randn(2, tokens, 256, generator=generator)


@pytest.mark.parametrize("kind", ["sam", "sam2"])
def test_without_guidance_the_transformer_is_the_official_one(kind: str) -> None:
    network = official_sam(TINY).mask_decoder if kind == "sam" else lively(build_sam2().sam_mask_decoder)
    transformer = network.transformer
    image, position, tokens = parts()
    with torch.inference_mode():
        wanted = transformer(image, position, tokens)
        ours = transform_guided(transformer, image, position, tokens, Guidance())
    for one, other in zip(ours, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_guidance_is_added_after_the_softmax_of_the_attention_to_the_image() -> None:
    """One block, written out as PerSAM's text says, on plain and on fused attention alike."""
    network = official_sam(TINY)
    attention = network.mask_decoder.transformer.layers[0].cross_attn_token_to_image
    image, position, tokens = parts()
    bias = torch.rand(2, 30, generator=torch.Generator().manual_seed(1))
    pictures = (image.flatten(2).mT, position.flatten(2).mT)
    told = (attention.q_proj(tokens), attention.k_proj(pictures[0]), attention.v_proj(pictures[1]))
    q, k, v = (part.view(2, -1, 8, 16).transpose(1, 2) for part in told)
    shares = (q @ k.mT / 16**0.5).softmax(-1)
    mixed = ((shares + bias[:, None, None]).softmax(-1) @ v).transpose(1, 2).reshape(2, -1, 128)
    given = (tokens, *pictures, bias)
    torch.testing.assert_close(attend_biased(attention, *given), attention.out_proj(mixed))
    fuse_attention(network, Attention)
    fused = network.mask_decoder.transformer.layers[0].cross_attn_token_to_image
    torch.testing.assert_close(attend_biased(fused, *given), attention.out_proj(mixed))


def test_the_published_prompt_reaches_the_position_code_and_ours_does_not() -> None:
    """In the public code the first addition is in place, on the tensor that is also the tokens' code."""
    transformer = official_sam(TINY).mask_decoder.transformer
    image, position, tokens = parts()
    semantic = torch.randn(2, 256, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        clean = transform_guided(transformer, image, position, tokens, Guidance(None, semantic))[0]
        aliased = transform_guided(transformer, image, position, tokens, Guidance(None, semantic, True))[0]
        told = semantic[:, None]
        keys, code = image.flatten(2).mT, tokens + told
        queries, places = code, position.flatten(2).mT
        for number, layer in enumerate(transformer.layers):
            queries, keys = layer(queries + told if number else queries, keys, code, places)
        seen = transformer.final_attn_token_to_image(q=queries + code + told, k=keys + places, v=keys)
        wanted = transformer.norm_final_attn(queries + seen)
    torch.testing.assert_close(aliased, wanted, atol=1e-5, rtol=1e-5)
    assert float((clean - aliased).abs().max()) > 1e-3


def test_the_reference_picture_is_found_in_itself(foundation: SamFoundation) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (100, 140, 3), dtype=np.uint8)
    mask = np.zeros((100, 140), bool)
    mask[30:70, 40:100] = True
    picture[mask] = (200, 30, 40)
    public = PublishedPerSam(foundation)
    target = public.learn(picture, mask)
    answer = public.find(target, picture)
    assert answer is not None
    assert answer.masks.shape == (3, 100, 140)
    assert answer.best == int(answer.scores.argmax())
    tuned = public.learn(picture, mask, finetune=True, steps=30)
    assert tuned.weights is not None
    assert sum(tuned.weights) == pytest.approx(1)
    assert not torch.allclose(tuned.direction, target.direction), "PerSAM-F compares with mean and maximum"


def test_an_empty_mask_is_not_found_where_the_public_code_fails(foundation: SamFoundation) -> None:
    picture = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    public = PublishedPerSam(foundation)
    target = PublishedTarget(torch.ones(256) / 16, torch.ones(256), (0.0, 0.0, 0.0))
    assert public.find(target, picture) is None
    small = np.zeros((64, 64), bool)
    with pytest.raises(InputError, match="smaller than one image feature"):
        public.learn(picture, small)


def test_what_has_not_sams_decoder_cannot_be_guided() -> None:
    assert not is_guidable(torch.nn.Identity())
