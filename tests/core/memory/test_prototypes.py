"""Prototypes: the identity of the published loss, and what the options change."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from domainsam.memory.prototypes import PrototypeOptions, Prototypes

FEATURES = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 2, (2, 16, 16), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("twice", [False, True])
def test_the_loss_is_064_of_the_error_against_the_earlier_means(twice: bool) -> None:
    prototypes = Prototypes(3, 4, PrototypeOptions(twice=twice, absent=True))
    prototypes.running.normal_()
    earlier = prototypes.running.clone()
    current, _ = prototypes.class_means(FEATURES, LABELS)
    scale = 64 if twice else 1
    expected = 0.64 * scale * F.mse_loss(current, earlier)
    assert torch.allclose(prototypes(FEATURES, LABELS), expected, rtol=1e-5)
    assert torch.allclose(prototypes.running, 0.8 * earlier + 0.2 * current, atol=1e-6)


def test_class_means_leave_out_what_is_unknown() -> None:
    labels = torch.full((2, 8, 8), 255)
    labels[0, :4] = 1
    means, present = Prototypes(3, 4).class_means(FEATURES, labels)
    assert present.tolist() == [False, True, False]
    assert torch.allclose(means[1], FEATURES[0, :, :4].mean((1, 2)), atol=1e-6)
    assert not means[[0, 2]].any()


def test_an_absent_class_keeps_its_mean_unless_published() -> None:
    for absent, factor in ((False, 1.0), (True, 0.8)):
        prototypes = Prototypes(3, 4, PrototypeOptions(absent=absent))
        prototypes.running.fill_(1.0)
        prototypes(FEATURES, LABELS)
        assert torch.allclose(prototypes.running[2], torch.full((4,), factor))


def test_the_running_means_take_no_gradient_and_no_place_in_a_file() -> None:
    prototypes = Prototypes(3, 4)
    features = FEATURES.clone().requires_grad_()
    prototypes(features, LABELS).backward()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0
    assert not prototypes.running.requires_grad
    assert not prototypes.state_dict()
