"""A foundation's accuracy from boxes and clicks, on folders of images and masks and on COCO's layout."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from domainsam.assess.accuracy import measure_accuracy, parse_prompts
from domainsam.assess.examples import Example, read_coco, read_folder, separate_objects
from domainsam.errors import ConfigError, InputError, MissingInputError
from domainsam.foundation.fake import FakeFoundation
from domainsam.protocols import Masks

SIZE = (96, 128)


def two_objects() -> np.ndarray[Any, Any]:
    values = np.zeros(SIZE, np.uint8)
    values[10:40, 12:52] = 1
    values[60:90, 70:120] = 2
    return values


def write_pair(folder: Path, values: np.ndarray[Any, Any], name: str = "a") -> Path:
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.repeat((values > 0)[..., None] * np.uint8(200), 3, axis=2)).save(
        folder / f"{name}.png"
    )
    Image.fromarray(values).save(folder / f"{name}_mask.png")
    return folder


class Oracle(FakeFoundation):
    """Answers with the truth, shrunk by its first columns where it was asked by clicks."""

    def __init__(self, truth: np.ndarray[Any, Any], short: int) -> None:
        super().__init__()
        self.image_size = 128
        self.truth, self.short = truth, short
        self.asked: list[torch.Tensor] = []

    def decode(self, features: Any, prompts: Any, multimask: bool = False) -> Masks:
        full = torch.full((len(prompts), 1, 128, 128), -9.0)
        for number, value in enumerate(range(1, len(prompts) + 1)):
            full[number, 0, : SIZE[0], : SIZE[1]][torch.from_numpy(self.truth == value)] = 9.0
            if prompts.points is not None:
                self.asked.append(prompts.points)
                columns = np.flatnonzero((self.truth == value).any(0))
                full[number, 0, :, columns[0] : columns[0] + self.short] = -9.0
        return Masks(full[:, :, ::4, ::4].contiguous(), torch.ones(len(prompts), 1))


def test_iou_is_that_of_the_answer_by_prompt(tmp_path: Path) -> None:
    values = two_objects()
    foundation = Oracle(values, short=20)
    found = measure_accuracy(foundation, read_folder(write_pair(tmp_path / "p", values)), ("box", "1", "3"))
    assert (found.pictures, found.objects) == (1, 2)
    assert list(found.iou) == ["box", "1", "3"]
    assert found.iou["box"].value > 0.9
    # Half of the first object's 40 columns and 20 of the second's 50 are missing.
    assert found.iou["1"].value == pytest.approx((20 / 40 + 30 / 50) / 2, abs=0.05)
    last = foundation.asked[-1]
    assert last.shape == (2, 3, 3)
    assert (last[..., 2] == 1).all(), "something is missing, nothing too much"
    first_click = last[0, 0, :2]
    assert first_click.tolist() == pytest.approx([32, 25], abs=6), "the middle of the first object"
    assert 12 <= float(last[0, 1, 0]) <= 32, "in the missing columns"


@pytest.mark.parametrize("short", [0, 20])
def test_a_foundation_without_clicks_outside_gets_none(short: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from domainsam.foundations import FOUNDATIONS

    values = two_objects()
    foundation = Oracle(np.roll(values, -6, axis=1), short)
    foundation.name = "efficientsam_ti"
    example = Example("a", np.zeros((*SIZE, 3), np.uint8), separate_objects(values))
    found = measure_accuracy(foundation, [example], ("5",))
    assert "points outside" not in FOUNDATIONS["efficientsam_ti"].prompts
    assert (torch.cat([part[..., 2].flatten() for part in foundation.asked]) == 1).all()
    assert found.notes == ("efficientsam_ti knows no clicks outside: all are inside",)


def test_objects_are_values_or_connected_parts() -> None:
    assert len(separate_objects(two_objects())) == 2
    assert len(separate_objects((two_objects() > 0).astype(np.uint8) * 255)) == 2
    speck = np.zeros(SIZE, np.uint8)
    speck[0, :3] = 7
    assert len(separate_objects(speck)) == 0


def test_masks_may_lie_in_a_folder_of_their_own(tmp_path: Path) -> None:
    write_pair(tmp_path / "p", two_objects())
    (tmp_path / "m").mkdir()
    (tmp_path / "p" / "a_mask.png").rename(tmp_path / "m" / "a.png")
    (example,) = read_folder(tmp_path / "p", tmp_path / "m")
    assert example.masks.shape == (2, *SIZE)
    assert example.picture.shape == (*SIZE, 3)


def test_a_picture_that_pillow_holds_for_a_bomb_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_pair(tmp_path / "p", two_objects())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match=r"a_mask\.png: cannot be read as a picture"):
        list(read_folder(folder))


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="does not exist"):
        list(read_folder(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingInputError, match=r"no picture in .* has a mask"):
        list(read_folder(tmp_path / "empty"))
    folder = write_pair(tmp_path / "p", two_objects())
    Image.fromarray(two_objects()[:50]).save(folder / "a_mask.png")
    with pytest.raises(InputError, match="128 x 50 pixels, its picture 128 x 96"):
        list(read_folder(folder))
    (folder / "a_mask.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"a_mask\.png' is no picture"):
        list(read_folder(folder))
    write_pair(tmp_path / "q", np.zeros(SIZE, np.uint8))
    with pytest.raises(InputError, match="no picture holds an object"):
        measure_accuracy(FakeFoundation(), read_folder(tmp_path / "q"))


@pytest.mark.parametrize("text", ["boxes", "0", "1,x", "", "99"])
def test_prompts_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected box and numbers of clicks, as box,1,3,5"):
        parse_prompts(text)


def test_prompts_keep_their_order_and_come_once() -> None:
    assert parse_prompts("3, box,1,3") == ("3", "box", "1")


class TwoBoxes:
    """Stands in for ``pycocotools.coco.COCO``: one picture with two boxes and a speck."""

    def __init__(self, path: str) -> None:
        print("loading annotations into memory...")  # noqa: T201
        self.imgs = {7: {"coco_url": "https://images.example/val2017/a.png"}}

    def getAnnIds(self, imgIds: int, iscrowd: bool) -> list[int]:
        assert (imgIds, iscrowd) == (7, False)
        return [1, 2, 3]

    def loadAnns(self, numbers: list[int]) -> list[int]:
        return numbers

    def annToMask(self, number: int) -> np.ndarray[Any, Any]:
        if number < 3:
            return (two_objects() == number).astype(np.uint8)
        speck = np.zeros(SIZE, np.uint8)
        speck[0, 0] = 1
        return speck


def test_coco_gives_the_objects_of_its_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_pair(tmp_path / "p", two_objects())
    (tmp_path / "instances.json").write_text("{}")
    module = ModuleType("pycocotools.coco")
    module.COCO = TwoBoxes  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pycocotools", ModuleType("pycocotools"))
    monkeypatch.setitem(sys.modules, "pycocotools.coco", module)
    (example,) = read_coco(folder, tmp_path / "instances.json")
    assert example.name == "a"
    assert not capsys.readouterr().out
    assert (example.masks == separate_objects(two_objects())).all()
    with pytest.raises(InputError, match=r"names a\.png, which is not in"):
        list(read_coco(tmp_path, tmp_path / "instances.json"))
    with pytest.raises(MissingInputError, match="do not exist"):
        list(read_coco(folder, tmp_path / "other.json"))
