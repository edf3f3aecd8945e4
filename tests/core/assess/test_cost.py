"""What another arithmetic costs is the difference of IoU with the same objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from domainsam.assess.cost import choose_examples, measure_cost
from domainsam.assess.examples import read_pictures
from domainsam.errors import MissingInputError
from domainsam.foundation import load_foundation
from domainsam.foundation.fake import FakeFoundation
from domainsam.prompts import PromptSet
from domainsam.protocols import Features, Masks


class Worse(FakeFoundation):
    """Its masks are a little smaller."""

    def decode(self, features: Features, prompts: PromptSet, multimask: bool = False) -> Masks:
        masks = super().decode(features, prompts, multimask)
        return Masks(masks.logits - 2, masks.iou)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    values = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for name in ("a", "b", "c"):
        Image.fromarray(values).save(tmp_path / f"{name}.png")
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 255
    Image.fromarray(mask).save(tmp_path / "b_mask.png")
    return tmp_path


def test_the_cost_is_what_is_lost(photos: Path) -> None:
    whole = load_foundation("fake")
    examples, known = choose_examples(whole, photos, 4)
    assert known
    assert [one.name for one in examples] == ["b"], "only it has a mask"
    first, second = measure_cost({"fp32": whole, "int8": Worse()}, examples, "fp32")
    assert (first["cost_box"], first["cost_1"]) == (0, 0)
    assert first["iou_box"] > 0.8
    assert second["cost_box"] == pytest.approx(first["iou_box"] - second["iou_box"])
    assert second["cost_box"] > 0.1


def test_without_masks_the_objects_are_those_that_it_finds(photos: Path) -> None:
    (photos / "b_mask.png").unlink()
    examples, known = choose_examples(load_foundation("fake"), photos, 2)
    assert not known
    assert len(examples) == 2
    sizes = examples[0].masks.sum(axis=(1, 2))
    assert len(sizes) >= 1
    assert ((sizes >= 16) & (sizes <= 0.9 * 64 * 64)).all()


def test_pictures_are_taken_by_name_and_masks_left_out(photos: Path, tmp_path: Path) -> None:
    assert len(read_pictures(photos, 16)) == 3
    assert len(read_pictures(photos, 2)) == 2
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(MissingInputError, match="holds no picture"):
        read_pictures(empty, 2)
