"""The decode head: inference in pieces gives what training computes as a whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from domainsam.prompter import segformer_parts as head_module
from domainsam.prompter.segformer import SegFormerPrompter
from domainsam.prompter.segformer_parts import AllMlpHead, make_resize_matrix

WIDTHS = (8, 16, 24, 40)


@pytest.fixture
def head() -> AllMlpHead:
    """A head whose batch norm has seen something, as a trained one has."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = AllMlpHead(WIDTHS, 48, 3, dropout=0.1).eval()
        torch.nn.init.normal_(made.norm.weight)
        torch.nn.init.normal_(made.norm.bias)
        assert made.norm.running_mean is not None
        assert made.norm.running_var is not None
        made.norm.running_mean.normal_()
        made.norm.running_var.uniform_(0.3, 3)
    return made


def levels(height: int, width: int, batch: int = 2) -> tuple[Tensor, ...]:
    """Random levels of an image of so many pixels."""
    generator = torch.Generator().manual_seed(1)
    return tuple(
        torch.randn(batch, channels, height // stride, width // stride, generator=generator)
        for channels, stride in zip(WIDTHS, (4, 8, 16, 32), strict=True)
    )


@pytest.mark.parametrize("size", [(32, 32), (128, 96), (64, 320)])
def test_inference_is_what_training_computes(
    head: AllMlpHead, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small pieces, the last one smaller than the others.
    monkeypatch.setattr(head_module, "CHUNK_ELEMENTS", 20 * (size[0] // 4) * (size[1] // 4))
    given = levels(*size)
    whole = head(given)
    assert whole.logits.requires_grad
    with torch.no_grad():
        pieces, logits = head(given), head.logits(given)
    torch.testing.assert_close(pieces.logits, whole.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pieces.features, whole.features, rtol=1e-4, atol=1e-4)
    assert torch.equal(pieces.logits, logits)


def test_in_training_mode_nothing_is_folded(head: AllMlpHead) -> None:
    given = levels(64, 64)
    head.train()
    head.dropout.p = 0.0
    with torch.no_grad():
        torch.testing.assert_close(head.logits(given), head(given).logits)
    # Statistics of the batch, not the running ones.
    assert not torch.allclose(head(given).logits, head.eval()(given).logits, atol=0.1)


def test_under_autocast_the_head_stays_in_float32(head: AllMlpHead) -> None:
    given = tuple(level.bfloat16() for level in levels(64, 64))
    with torch.no_grad():
        expected = head(tuple(level.float() for level in given)).logits
        with torch.autocast("cpu", torch.bfloat16):
            found = head.logits(given)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_prompter_gives_the_same_logits_with_and_without_the_feature() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        prompter = SegFormerPrompter().eval()
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    expected = prompter.coarse(images).logits
    with torch.inference_mode():
        torch.testing.assert_close(prompter.coarse_logits(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("old", "new"), [(1, 8), (3, 12), (16, 128)])
def test_resizing_matrix_is_linear_interpolation(old: int, new: int) -> None:
    values = torch.rand(1, 5, old, generator=torch.Generator().manual_seed(3))
    expected = torch.nn.functional.interpolate(values, size=new, mode="linear", align_corners=False)
    torch.testing.assert_close(values @ make_resize_matrix(old, new), expected)
    torch.testing.assert_close(make_resize_matrix(old, new).sum(0), torch.ones(new))
