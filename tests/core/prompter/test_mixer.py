"""Mixers: arithmetic as published."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from domainsam.prompter.segformer import AddMixer, MlpMixer, pool_features


def test_pooled_features_have_unit_length() -> None:
    features = torch.randn(3, 256, 5, 7, generator=torch.Generator().manual_seed(0))
    vectors = pool_features(features)
    assert vectors.shape == (3, 256)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(vectors[1], F.normalize(features[1].mean((1, 2)), dim=0))


def test_add_mixer_adds_and_has_nothing_to_train() -> None:
    tokens, one, two = torch.randn(4, 2, 256), torch.randn(4, 256), torch.randn(4, 256)
    mixer = AddMixer()
    assert not list(mixer.parameters())
    torch.testing.assert_close(mixer(tokens, one, two)[:, 1], tokens[:, 1] + one + two)


def test_mlp_mixer_has_the_published_size() -> None:
    mixer = MlpMixer()
    assert sum(parameter.numel() for parameter in mixer.parameters()) == 524_288
    assert all("bias" not in name for name, _ in mixer.named_parameters())


def test_mlp_mixer_sees_the_direction_of_a_token_only() -> None:
    mixer = MlpMixer()
    tokens, one, two = torch.randn(4, 2, 256), torch.randn(4, 256), torch.randn(4, 256)
    mixed = mixer(tokens, one, two)
    assert mixed.shape == tokens.shape
    torch.testing.assert_close(mixer(7 * tokens, one, two), mixed)
    assert not torch.allclose(mixer(tokens, two, one), mixed)


def test_mixers_treat_prompts_one_by_one() -> None:
    tokens, one, two = torch.randn(4, 2, 256), torch.randn(4, 256), torch.randn(4, 256)
    for mixer in (MlpMixer(), AddMixer()):
        together = mixer(tokens, one, two)
        apart = torch.cat([mixer(tokens[[i]], one[[i]], two[[i]]) for i in range(4)])
        torch.testing.assert_close(together, apart)


def test_mixers_take_no_prompts() -> None:
    for mixer in (MlpMixer(), AddMixer()):
        assert mixer(torch.zeros(0, 2, 256), torch.zeros(0, 256), torch.zeros(0, 256)).shape == (0, 2, 256)
