"""UV-SAM's prompts as its released code makes them, against that code's own formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn
from torch.nn import functional as F

from domainsam.foundation.fake import FakeFoundation
from domainsam.prompter.proposals import PUBLISHED
from domainsam.prompter.published import find_contours, find_published_prompts
from domainsam.prompter.released_head import ReleasedHead
from domainsam.prompter.segformer import PrompterConfig, SegFormerPrompter
from domainsam.train.losses import focal_of_mean


def drawn(shape: tuple[int, int], *boxes: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def found(mask: NDArray[np.bool_]) -> list[tuple[int, int, int, int, float]]:
    return [(c.left, c.top, c.right, c.bottom, c.area) for c in find_contours(mask)]


def test_areas_are_of_polygons_through_pixel_centres() -> None:
    """Values that ``cv2.contourArea`` and ``cv2.boundingRect`` give for these shapes."""
    assert found(drawn((9, 9), (2, 1, 6, 8))) == [(1, 2, 8, 6, 18.0)]
    assert found(drawn((9, 9), (2, 1, 3, 8))) == [(1, 2, 8, 3, 0.0)]
    assert found(drawn((9, 9), (4, 4, 5, 5))) == [(4, 4, 5, 5, 0.0)]
    cross = drawn((9, 9), (4, 3, 5, 6), (3, 4, 6, 5))
    assert found(cross) == [(3, 3, 6, 6, 2.0)]


def test_holes_are_contours_too() -> None:
    ring = drawn((12, 12), (1, 1, 11, 11))
    ring[4:8, 5:9] = False
    # A hole's contour takes the pixels around it: without their corners, which are no neighbours of the hole.
    assert found(ring) == [(1, 1, 11, 11, 81.0), (4, 3, 10, 9, 25 - 4 * 0.5)]


@pytest.mark.parametrize("seed", range(4))
def test_contours_agree_with_opencv(seed: int) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((90, 120)), 2.5)
    mask = noise > 0.02
    contours, _ = cv2.findContours(mask.astype(np.uint8) * 255, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    theirs = []
    for contour in contours:
        x, y, w, h = cv2.boundingRect(contour)
        theirs.append((x, y, x + w, y + h, cv2.contourArea(contour)))
    assert sorted(found(mask)) == sorted(theirs)


def test_prompts_are_made_at_the_images_own_size() -> None:
    logits = torch.full((2, 2, 128, 128), -3.0)
    logits[:, 0] = 2.0
    logits[1, 1, 40:75, 30:70] = 5.0
    logits[1, 1, 100:120, 100:120] = 5.0
    logits.requires_grad_(True)
    prompts = find_published_prompts(logits)
    full = F.interpolate(logits, (512, 512), mode="bilinear", align_corners=False)
    rows, cols = np.nonzero(full[1].argmax(0).numpy()[150:320] == 1)
    assert prompts.image_index.tolist() == [1]
    assert prompts.boxes is not None
    box = [cols.min() + 0.5, rows.min() + 150.5, cols.max() + 1.5, rows.max() + 151.5]
    assert prompts.boxes.tolist() == [box]
    assert prompts.mask_logits is not None
    expected = full[1:2, 1:2].reshape(1, 1, 128, 4, 128, 4).mean((3, 5))
    assert torch.allclose(prompts.mask_logits, expected, atol=1e-5)
    prompts.mask_logits.sum().backward()
    assert logits.grad is not None
    assert bool(logits.grad[1, 1].any())
    assert not logits.grad[1, 0].any()


def test_a_corner_within_a_hundred_pixels_is_left_out_as_there() -> None:
    logits = torch.full((1, 2, 128, 128), -3.0)
    logits[:, 0] = 2.0
    logits[0, 1, 0:24, 0:128] = 5.0
    assert len(find_published_prompts(logits)) == 0
    logits[0, 1, 0:27] = 5.0
    assert len(find_published_prompts(logits)) == 1


def test_the_released_head_has_a_relu_for_every_level_and_no_norm() -> None:
    torch.manual_seed(0)
    head = ReleasedHead((4, 8, 6, 10), 12, 2, 0.1).eval()
    levels = tuple(torch.randn(2, width, 32 >> i, 32 >> i) for i, width in enumerate((4, 8, 6, 10)))
    maps = []
    for conv, level in zip(head.levels, levels, strict=True):
        assert isinstance(conv, nn.Conv2d)
        projected = torch.einsum("oi,bihw->bohw", conv.weight[:, :, 0, 0], level) + conv.bias.view(-1, 1, 1)
        maps.append(F.interpolate(projected.clamp(min=0), (32, 32), mode="bilinear", align_corners=False))
    fused = F.conv2d(torch.cat(maps, 1), head.fuse.weight, head.fuse.bias).clamp(min=0)
    answer = head(levels)
    assert torch.allclose(answer.features, fused, atol=1e-5)
    assert torch.allclose(answer.logits, head.classify(fused), atol=1e-5)
    assert not [part for part in head.modules() if isinstance(part, nn.BatchNorm2d)]


def test_a_prompter_as_released_prompts_by_its_own_rule() -> None:
    torch.manual_seed(0)
    config = PrompterConfig(decode_head="released", proposals=PUBLISHED)
    prompter = SegFormerPrompter(config).eval()
    images = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        coarse = prompter.coarse(images)
        assert torch.equal(prompter.coarse_logits(images), coarse.logits)
        coarse.logits[:, 0], coarse.logits[:, 1] = 1.0, -1.0
        coarse.logits[:, 1, 8:50, 8:50] = 2.0
        foundation = FakeFoundation()
        prompts = prompter.prompts(coarse, foundation.encode(images), foundation)
    assert prompts.boxes is not None
    assert prompts.mask_logits is not None
    assert prompts.mask_logits.max() == pytest.approx(2.0)
    assert (prompts.boxes % 1).unique().tolist() == [0.5]


def test_focal_loss_of_the_mean() -> None:
    logits, target = torch.tensor([[[2.0, -1.0], [0.5, 3.0]]]), torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    known = torch.tensor([[[True, True], [True, False]]])
    entropy = -(torch.log(torch.sigmoid(torch.tensor([2.0, 1.0, 0.5])))).mean()
    expected = 0.8 * (1 - torch.exp(-entropy)) ** 2 * entropy
    assert focal_of_mean(logits, target, known).item() == pytest.approx(expected.item(), rel=1e-5)
