"""SAM 3 as a foundation: the answers are those of transformers' own forward on the same prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from domainsam.errors import CheckpointError, WeightsError
from domainsam.foundation import load_foundation
from domainsam.foundation.sam3 import Sam3Foundation
from domainsam.prompts import PromptSet
from domainsam.testing.contracts import FoundationContract, make_images
from domainsam.vocabulary import load_vocabulary_model
from domainsam.weights import FOLDER_VARIABLE
from domainsam_cli import main
from tests.core.tiny_sam3 import SIDE, make_tracker, make_whole, save_whole

OURS = SIDE * 16 // 14
LIMIT = 1e-5
POINTS = torch.tensor([[[30.0, 40.0, 1.0], [90.0, 60.0, 0.0]]])
BOX = torch.tensor([[20.0, 24.0, 100.0, 88.0]])


@pytest.fixture(scope="module")
def tiny() -> Sam3Foundation:
    return Sam3Foundation(make_tracker(), "sam3")


class TestContract(FoundationContract):
    @pytest.fixture
    def foundation(self, tiny: Sam3Foundation) -> Sam3Foundation:
        return tiny


def ours(parts: tuple[str, ...], mask: Tensor) -> PromptSet:
    return PromptSet(
        torch.zeros(1, dtype=torch.int64),
        torch.ones(1, dtype=torch.int64),
        torch.ones(1),
        POINTS if "points" in parts else None,
        BOX if "box" in parts else None,
        mask if "mask" in parts else None,
    )


def theirs(parts: tuple[str, ...], mask: Tensor) -> dict[str, Any]:
    """The same in pixels of their picture, which they measure from the middle of the first one."""
    given: dict[str, Any] = {}
    if "points" in parts:
        given["input_points"] = POINTS[None, ..., :2] * 14 / 16 - 0.5
        given["input_labels"] = POINTS[None, ..., 2].int()
    if "box" in parts:
        given["input_boxes"] = BOX[None] * 14 / 16 - 0.5
    if "mask" in parts:
        given["input_masks"] = mask
    return given


@pytest.fixture(scope="module")
def official() -> Any:
    """Transformers' own, of the same weights."""
    return make_tracker()


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("parts", [("points",), ("box",), ("mask",), ("points", "box", "mask")])
def test_answers_are_those_of_transformers(
    tiny: Sam3Foundation, official: Any, parts: tuple[str, ...], multimask: bool
) -> None:
    foundation = tiny
    assert foundation.image_size == OURS == 128
    images = make_images(1, (OURS, OURS))
    mask = torch.randn(1, 1, OURS // 4, OURS // 4, generator=torch.Generator().manual_seed(1)) * 5
    pixels = F.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
    with torch.inference_mode():
        features = foundation.encode(images)
        found = foundation.decode(features, ours(parts, mask), multimask)
        seen = official.get_image_embeddings((pixels - 0.5) / 0.5)
        told = official(image_embeddings=seen, multimask_output=multimask, **theirs(parts, mask))
    assert torch.allclose(features.image, seen[2], atol=LIMIT)
    assert [level.shape for level in features.levels] == [seen[0].shape, seen[1].shape]
    scale = float(told.pred_masks.abs().max())
    assert found.logits.shape == told.pred_masks[:, 0].shape
    assert float((found.logits - told.pred_masks[:, 0]).abs().max()) < LIMIT * max(scale, 1)
    assert torch.allclose(found.iou, told.iou_scores[:, 0], atol=LIMIT)


def test_a_picture_is_encoded_once_and_asked_often(
    tiny: Sam3Foundation, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = tiny.encode(make_images(1, (OURS, OURS)))

    def fail(*_: Any, **__: Any) -> None:
        pytest.fail("the picture is encoded again")

    monkeypatch.setattr(tiny, "_look", fail)
    boxes = BOX + torch.arange(20.0)[:, None]
    many = tiny.decode(features, PromptSet.from_boxes(boxes), True)
    one = tiny.decode(features, PromptSet.from_boxes(boxes[17:18]), True)
    assert many.logits.shape == (20, 3, 32, 32)
    assert torch.allclose(many.logits[17:18], one.logits, atol=1e-4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Detector and tracker, as Meta gives them out."""
    path = tmp_path_factory.mktemp("whole") / "sam3"
    save_whole(path)
    return path


@pytest.mark.slow
def test_metas_folder_is_loaded_by_name_by_path_and_from_where_weights_are(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole, _ = make_whole()
    loaded = load_foundation(f"sam3:{folder}")
    assert isinstance(loaded, Sam3Foundation)
    assert "SAM License of Meta" in caplog.text
    own = dict(whole.tracker_model.named_parameters())
    decoder = [name for name in own if name.startswith("mask_decoder")]
    assert decoder
    parts = dict(loaded.model.named_parameters())
    assert all(torch.equal(own[name], parts[name]) for name in decoder)
    seen = dict(whole.detector_model.vision_encoder.backbone.named_parameters())
    assert all(torch.equal(value, parts[f"vision_encoder.backbone.{name}"]) for name, value in seen.items())
    assert load_foundation(folder).sha256 == loaded.sha256
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder.parent))
    assert load_foundation("sam3").sha256 == loaded.sha256
    whole.save_pretrained(folder.parent / "again")
    assert load_foundation(folder.parent / "again").sha256 == loaded.sha256
    # The same folder finds objects by words, by path alone.
    assert load_vocabulary_model(str(folder), "cpu", "fp32").name == "sam3"


@pytest.mark.slow
def test_a_folder_drives_the_commands_by_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tracker().save_pretrained(tmp_path / "tracker")
    Image.fromarray(np.full((60, 90, 3), 90, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "boxes.json").write_text('[{"box": [10, 10, 50, 40], "label": "roof"}]')
    words = ["photo", "segment", str(tmp_path / "a.png"), "--boxes", str(tmp_path / "boxes.json")]
    made = ["--foundation", f"sam3:{tmp_path / 'tracker'}", "--device", "cpu", "-o", str(tmp_path / "out")]
    assert main([*words, *made]) == 0, capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "a.json").read_text())["objects"][0]["label"] == "roof"
    assert "SAM License" in capsys.readouterr().err


def test_it_is_listed_with_its_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for here in (False, True):
        assert main(["foundations", "list", "--json"]) == 0
        rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["foundations"]}
        assert rows["sam3"]["licence"] == "SAM License (Meta)"
        assert not rows["sam3"]["included"]
        assert (rows["sam3"]["path"] is not None) == here
        (tmp_path / "sam3").mkdir(exist_ok=True)
        (tmp_path / "sam3" / "config.json").write_text("{}")


@pytest.mark.slow
def test_what_is_no_whole_sam3_is_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"sam3:FOLDER.*licence"):
        load_foundation("sam3")
    with pytest.raises(WeightsError, match="no folder"):
        load_foundation(f"sam3:{tmp_path / 'none'}")
    with pytest.raises(WeightsError, match=r"no config\.json"):
        load_foundation(f"sam3:{tmp_path}")
    make_tracker().save_pretrained(tmp_path / "tracker")
    assert load_foundation(tmp_path / "tracker").name == "sam3"
    with pytest.raises(CheckpointError, match=r"without \d+ weights of Sam3Model"):
        load_vocabulary_model(f"sam3:{tmp_path / 'tracker'}", "cpu", "fp32")
    whole, processor = make_whole()
    whole.detector_model.save_pretrained(tmp_path / "detector")
    processor.save_pretrained(tmp_path / "detector")
    with pytest.raises(CheckpointError, match=r"is a sam3 without \d+ weights of Sam3TrackerModel"):
        load_foundation(f"sam3:{tmp_path / 'detector'}")
