"""Batch norms merged into convolutions, and left alone where that would change the answer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from domainsam.foundation.norms import find_merged
from domainsam.trunks import build_trunk


def stir(network: nn.Module) -> nn.Module:
    """Give every batch norm statistics and weights of its own, as training would."""
    torch.manual_seed(5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.3, 3)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return network.eval()


def count_norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_a_trunk_answers_the_same_without_its_norms() -> None:
    trunk = stir(build_trunk("efficientnet_lite0"))
    merged = find_merged(trunk)
    assert count_norms(trunk) > 40
    assert count_norms(merged) == 0
    images = torch.rand(2, 3, 96, 64)
    with torch.inference_mode():
        for old, new in zip(trunk(images), merged(images), strict=True):
            torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-5 * float(old.abs().max()))


class Crosswise(nn.Module):
    """A norm registered after a convolution whose answer it does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.conv(self.norm(images).relu())
        return answer


def test_a_norm_elsewhere_is_left_alone() -> None:
    network = stir(Crosswise())
    assert find_merged(network) is network


def test_merged_weights_do_not_depend_on_rounding_of_single_precision() -> None:
    network = stir(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
    merged = find_merged(network)
    conv, norm, new = network[0], network[1], merged[0]
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    torch.testing.assert_close(
        new.weight.double(), conv.weight.double() * scale.view(-1, 1, 1, 1), rtol=1e-7, atol=0
    )
    assert not any(parameter.requires_grad for parameter in merged.parameters())
