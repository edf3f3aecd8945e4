"""Teaching the small SAM 2 to answer prompts: what learns, what stays, and the models that stand on it."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from domainsam.checkpoint import CheckpointHeader, read_header, save
from domainsam.errors import CheckpointError
from domainsam.foundation import embedded_sam2
from domainsam.foundation.base import digest_tensors
from domainsam.foundation.embedded_sam2 import BOX_LOGIT, CLICK_LOGIT, TinySam2Foundation, select_stored
from domainsam.prompts import PromptSet
from domainsam.tensorfile import read_safetensors
from domainsam.train import distil
from recipes.scene import answers
from recipes.scene.distil import Sam2Student
from tests.core.tiny_sam2 import SIDE, images, tiny_model


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_model()


def prompts(**kinds: Tensor) -> PromptSet:
    return PromptSet(
        torch.zeros(2, dtype=torch.long), torch.ones(2, dtype=torch.long), torch.ones(2), **kinds
    )


BOXES = torch.tensor([[8.0, 8, 40, 32], [20, 4, 60, 60]])
POINTS = torch.tensor([[[20.0, 20, 1]], [[30, 30, 0]]])
ROUGH = torch.randn(2, 1, SIDE // 4, SIDE // 4, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    "kinds",
    [
        {"boxes": BOXES},
        {"points": POINTS},
        {"boxes": BOXES, "points": POINTS, "mask_logits": ROUGH},
        {"points": POINTS, "mask_logits": ROUGH},
    ],
)
def test_what_learns_answers_as_the_foundation_does(model: Any, kinds: dict[str, Tensor]) -> None:
    foundation, asked = TinySam2Foundation(model), prompts(**kinds)
    with torch.inference_mode():
        features = foundation.encode(images(1)[0])
        expected = foundation.decode(features, asked, multimask=True)
        found = Sam2Student(model).decode_all(features, asked)
    assert torch.allclose(found.logits[:, 1:], expected.logits, atol=1e-5)
    assert torch.allclose(found.iou[:, 1:], expected.iou, atol=1e-6)


def test_boxes_and_clicks_are_drawn_on_the_mask() -> None:
    side = SIDE // 4
    box = embedded_sam2.draw_on_mask(prompts(boxes=BOXES), (SIDE, SIDE)).mask_logits
    assert box is not None
    assert (box[0, 0, 2:8, 2:10] == BOX_LOGIT).all()
    assert (box[0] == BOX_LOGIT).sum() == 6 * 8
    assert (box[0] == -BOX_LOGIT).sum() == side**2 - 6 * 8
    both = embedded_sam2.draw_on_mask(prompts(boxes=BOXES, points=POINTS), (SIDE, SIDE)).mask_logits
    assert both is not None
    clicks = both - box
    assert clicks[0].argmax() == 4 * side + 4
    assert 0 < clicks[0].max() <= CLICK_LOGIT
    assert clicks[0].min() >= 0 >= clicks[1].max()
    # A mask says more than a box, and stays where there is no click.
    asked = prompts(boxes=BOXES, mask_logits=ROUGH)
    assert embedded_sam2.draw_on_mask(asked, (SIDE, SIDE)).mask_logits is ROUGH
    assert embedded_sam2.draw_on_mask(prompts(), (SIDE, SIDE)).mask_logits is None


def test_a_mask_prompt_of_zeros_is_none(model: Any) -> None:
    some = ROUGH.clone()
    some[1] = 0
    with torch.inference_mode():
        student = Sam2Student(model)
        features = student.encode(images(1)[0])
        without, with_one = (
            student.decode_all(features, one).logits
            for one in (prompts(boxes=BOXES), prompts(boxes=BOXES, mask_logits=some))
        )
    assert torch.allclose(with_one[1], without[1], atol=1e-5)
    assert not torch.allclose(with_one[0], without[0], atol=1e-2)


def test_only_what_answers_learns(tmp_path: Path) -> None:
    network = tiny_model()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    masks = torch.zeros(1, 2, SIDE // 4, SIDE // 4, dtype=torch.bool)
    masks[:, 0, 2:9, 3:9] = masks[:, 1, 9:14, 4:12] = True
    pixels = (images(1)[0] * 255).to(torch.uint8)
    batch: list[distil.Batch] = [(pixels, masks)]
    distil.train(
        answers.Answers(network), lambda step: iter(batch), distil.DistilOptions(1, 1e-2, 1), tmp_path
    )
    after = network.state_dict()
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert {name for name in changed if not name.startswith(answers.LEARNING)} == set()
    # Every part that learns did: with boxes, clicks of either kind and rough masks there is none without use.
    assert {part for part in answers.LEARNING if any(name.startswith(part) for name in changed)} == set(
        answers.LEARNING
    )


@pytest.fixture
def trained(model: Any, tmp_path: Path) -> argparse.Namespace:
    """A work folder whose weights answer otherwise, the file begun with, and a model that stands on it."""
    embedded_sam2.save(model, tmp_path / "before.safetensors", {"name": "embedded_sam2", "version": "1"})
    average = answers.begin(tmp_path / "before.safetensors").state_dict()
    average["sam_mask_decoder.mask_tokens.weight"] += 1
    torch.save({"average": average, "step": 7}, tmp_path / "latest.pt")
    digest = digest_tensors(read_safetensors(tmp_path / "before.safetensors"))
    save(
        tmp_path / "model.safetensors",
        {"a": torch.arange(3.0)},
        CheckpointHeader("scene", "embedded_sam2", digest, ("a", "b"), {"x": {"y": 1}}),
    )
    return argparse.Namespace(
        start_from=tmp_path / "before.safetensors",
        work=tmp_path,
        export=tmp_path / "after.safetensors",
        rebind=[tmp_path / "model.safetensors"],
    )


def test_models_on_the_foundation_are_bound_anew(trained: argparse.Namespace) -> None:
    (path,) = trained.rebind
    tensors, header = read_safetensors(path), read_header(path)
    answers.export(trained)
    foundation = embedded_sam2.load(
        "embedded_sam2", trained.export, torch.device("cpu"), torch.float32, False
    )
    assert foundation.sha256 != header.foundation_sha256
    told = asdict(read_header(path))
    assert told.pop("foundation_sha256") == foundation.sha256
    assert told == {name: value for name, value in asdict(header).items() if name != "foundation_sha256"}
    assert all(torch.equal(value, tensors[name]) for name, value in read_safetensors(path).items())


def test_the_score_says_that_there_is_an_object(trained: argparse.Namespace) -> None:
    answers.export(trained)
    decoder = answers.begin(trained.export).sam_mask_decoder
    tokens = torch.randn(5, 256, generator=torch.Generator().manual_seed(0))
    assert torch.equal(decoder.pred_obj_score_head(tokens), torch.full((5, 1), answers.PRESENT))


def test_a_model_of_another_foundation_is_left_alone(trained: argparse.Namespace) -> None:
    (path,) = trained.rebind
    save(path, {"a": torch.arange(3.0)}, CheckpointHeader("scene", "embedded_sam2", "0" * 64, ("a", "b")))
    content = path.read_bytes()
    with pytest.raises(CheckpointError, match="was not trained on"):
        answers.export(trained)
    assert path.read_bytes() == content
    assert not trained.export.exists()


@pytest.mark.parametrize("name", ["image_encoder.neck.convs.0.conv.bias", "sam_mask_decoder.conv_s0.bias"])
def test_an_encoder_that_moved_is_refused(model: Any, name: str) -> None:
    before = select_stored(model.state_dict())
    with pytest.raises(CheckpointError, match="was to stay frozen"):
        answers.check_frozen(before, {**before, name: before[name] + 1})


def test_the_shipped_one_tells_a_disc_from_its_box_and_finds_it_by_a_click() -> None:
    foundation = embedded_sam2.load("embedded_sam2", None, torch.device("cpu"), torch.float32, False)
    rows, columns = np.mgrid[:256, :256]
    truth = torch.from_numpy((rows - 120) ** 2 + (columns - 140) ** 2 < 60**2)
    picture = torch.full((1, 3, 256, 256), 0.35)
    picture[:, :, truth] = torch.tensor([0.8, 0.3, 0.2])[:, None]
    picture += 0.08 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    features = foundation.encode(picture.clamp(0, 1))

    def judge(asked: PromptSet, multimask: bool) -> list[float]:
        logits = foundation.decode(features, asked, multimask).logits
        found = torch.nn.functional.interpolate(logits, (256, 256), mode="bilinear")[0] > 0
        return ((found & truth).sum((1, 2)) / (found | truth).sum((1, 2))).tolist()

    box = PromptSet.from_boxes(torch.tensor([[80.0, 60, 200, 180]]))
    click = box.replace(boxes=None, points=torch.tensor([[[140.0, 120, 1]]]))
    # The box itself has pi / 4.
    assert judge(box, False)[0] > 0.83
    assert max(judge(click, True)) > 0.83
    # The single reading is the first one, stable or not.
    with torch.inference_mode():
        first = Sam2Student(foundation.model).decode_all(features, box).logits[:, :1]
    assert torch.allclose(foundation.decode(features, box).logits, first, atol=1e-4)
