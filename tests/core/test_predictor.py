"""The predictor answers as the official one does, and as its foundation does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor

from domainsam.errors import InputError, WeightsError
from domainsam.foundation import load_foundation
from domainsam.foundation.loading import read_tensors
from domainsam.foundation.picture import fit_longest, fit_squash
from domainsam.foundation.sam import SamFoundation, SamSize, build
from domainsam.predictor import Predictor
from domainsam.prompts import PromptSet
from tests.core.official import CASES, official_prompts, official_sam, picture

NARROW = SamSize(width=48, depth=3, heads=3, global_blocks=(1,), image_size=224, window=5)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(device="cpu")


def disc(radius: int = 20) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A bright disc around x = 140, y = 120 on a dark ground, ``(240, 256, 3)``, and where it is."""
    ys, xs = np.mgrid[:240, :256]
    inside = (ys - 120) ** 2 + (xs - 140) ** 2 < radius**2
    image = np.where(inside[..., None], (235, 235, 230), (60, 90, 50)).astype(np.uint8)
    return image, inside


def overlap(mask: NDArray[np.bool_], inside: NDArray[np.bool_]) -> float:
    return float((mask & inside).sum() / (mask | inside).sum())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("multimask", [True, False])
def test_answers_are_those_of_the_official_predictor(tmp_path: Path, case: str, multimask: bool) -> None:
    official = official_sam(NARROW)
    torch.save(official.state_dict(), tmp_path / "narrow.pth")
    network = build(read_tensors(tmp_path / "narrow.pth"), NARROW, "narrow.pth")
    theirs, ours = SamPredictor(official), Predictor(SamFoundation(network, "sam_narrow", NARROW.image_size))
    given = official_prompts(CASES[case], NARROW.image_size // 4)
    for one in (theirs, ours):
        one.set_image(picture(150, 310))
    expected = theirs.predict(**given, multimask_output=multimask, return_logits=True)
    found = ours.predict(**given, multimask_output=multimask, return_logits=True)
    for want, have in zip(expected, found, strict=True):
        assert have.shape == want.shape
        assert have.dtype == want.dtype
        assert np.allclose(have, want, atol=1e-4)
    masks = ours.predict(**given, multimask_output=multimask)[0]
    assert masks.dtype == bool
    assert np.array_equal(masks, found[0] > 0)


def test_answers_are_those_of_the_foundation(predictor: Predictor) -> None:
    image, _ = disc()
    predictor.set_image(image)
    masks, scores, low = predictor.predict(box=(115, 95, 165, 145), multimask_output=False)
    foundation = load_foundation()
    images, fit = fit_longest(image, foundation.image_size)
    # Twice as large; SAM's users count pixel centres, prompts count corners.
    box = torch.tensor([[115.0, 95.0, 165.0, 145.0]]) * 2 + 0.5
    answer = foundation.decode(foundation.encode(images), PromptSet.from_boxes(box))
    assert np.allclose(low, answer.logits[0].numpy(), atol=1e-4)
    assert np.allclose(scores, answer.iou[0].numpy(), atol=1e-4)
    assert np.array_equal(masks, fit.masks(answer.logits)[0].numpy() > 0)


def test_a_click_gives_the_disc(predictor: Predictor) -> None:
    image, inside = disc()
    for given in (image, image.astype(np.float32) / 255):
        predictor.set_image(given)
        masks, scores, low = predictor.predict([[140, 120]], [1])
        assert masks.shape == (3, *inside.shape)
        assert (scores.shape, low.shape) == ((3,), (3, 128, 128))
        assert {array.dtype for array in (scores, low)} == {np.dtype(np.float32)}
        assert overlap(masks[scores.argmax()], inside) > 0.85


def test_sam2_is_given_the_squashed_picture() -> None:
    predictor = Predictor("embedded_sam2", device="cpu")
    image, _ = disc()
    predictor.set_image(image)
    masks, _, low = predictor.predict(box=(118, 98, 162, 142), multimask_output=False)
    images, fit = fit_squash(image, 256)
    scale = torch.tensor([1.0, 256 / 240, 1.0, 256 / 240])
    box = torch.tensor([[118.0, 98.0, 162.0, 142.0]]) * scale + 0.5
    foundation = predictor.foundation
    answer = foundation.decode(foundation.encode(images), PromptSet.from_boxes(box))
    assert np.allclose(low, answer.logits[0].numpy(), atol=1e-4)
    assert masks.shape == (1, 240, 256)
    assert fit.size == (256, 256)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "nothing is marked"),
        ({"point_coords": [[1, 2]]}, "go together"),
        ({"point_labels": [1]}, "go together"),
        ({"point_coords": [[1, 2, 3]], "point_labels": [1]}, r"point_coords has shape \(1, 3\).*\(1, 2\)"),
        ({"point_coords": [[1, 2]], "point_labels": [1, 0]}, r"point_labels has shape \(2,\)"),
        ({"point_coords": [[1, 2]], "point_labels": [3]}, r"expected 1 \(on the object\) or 0"),
        ({"point_coords": [[1, np.nan]], "point_labels": [1]}, "expected finite numbers"),
        ({"box": [1, 2, 3]}, r"box has shape \(3,\)"),
        (
            {"mask_input": np.zeros((128, 128), np.float32)},
            r"expected finite numbers of shape \(1, 128, 128\)",
        ),
    ],
)
def test_misfits_are_named_in_one_line(predictor: Predictor, given: dict[str, object], words: str) -> None:
    predictor.set_image(disc()[0])
    with pytest.raises(InputError, match=words) as caught:
        predictor.predict(**given)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_no_picture_is_said(predictor: Predictor) -> None:
    with pytest.raises(InputError, match=r"expected \(H, W, 3\) uint8 RGB"):
        predictor.set_image(np.zeros((4, 5), np.uint8))
    with pytest.raises(InputError, match="no picture is set"):
        predictor.predict(box=[0, 0, 1, 1])
    with pytest.raises(InputError, match="finite values from 0 to 1"):
        predictor.set_image(np.full((4, 5, 3), 255.0))
    with pytest.raises(WeightsError, match="known names: embedded"):
        Predictor("sam_vit_x")
