"""SAM-CLIP's training on tiny networks: what learns, what stays, that losses fall, that it goes on."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from domainsam.distil.pictures import ViewBatch
from domainsam.errors import ConfigError
from domainsam.foundation.base import digest_tensors
from domainsam.teach import samclip
from domainsam.teach.methods import teach_words
from domainsam.teach.options import TeachOptions
from domainsam.teach.samclip import read_size, teach
from domainsam.teach.samclip_lesson import (
    STAGES,
    Mixed,
    Published,
    Recipe,
    SamClipLesson,
    soft_dice,
    soft_focal,
)
from domainsam.train.start import Trained
from domainsam.vocabulary.loading import read_header
from domainsam.vocabulary.sam_clip import read_sam_clip
from tests.core.vocabulary.tiny_sam_clip import SIZE, make_foundation, make_merged, make_sam, make_teacher

RECIPE = Recipe(low=32, high=64, side=64, prompts=2)
HEADS, JOINT = STAGES[0], STAGES[1]


def make_lesson(stage: Published = JOINT, **changed: float) -> SamClipLesson:
    recipe = Recipe(**{**vars(RECIPE), **changed})
    lesson = SamClipLesson(make_merged(), make_foundation(), make_teacher(), stage, recipe)
    lesson.prepare()
    return lesson


def make_batch(sam: bool = True) -> Mixed:
    torch.manual_seed(3)
    views = ViewBatch(torch.rand(2, 3, 64, 64), torch.tensor([[64.0, 64.0], [48.0, 64.0]]))
    return Mixed(views, views if sam else None, 0)


def gradients(lesson: SamClipLesson, batch: Mixed) -> dict[str, float]:
    """The largest gradient of each part of the network."""
    torch.manual_seed(7)
    lesson.zero_grad()
    lesson(batch)["loss"].backward()
    found: dict[str, float] = {}
    for name, part in lesson.network.named_parameters():
        own = 0.0 if part.grad is None else float(part.grad.abs().max())
        found[name.split(".")[0]] = max(found.get(name.split(".")[0], 0.0), own)
    return found


def test_the_first_stage_teaches_head_clip_alone() -> None:
    found = gradients(make_lesson(HEADS), make_batch(sam=False))
    assert found.pop("clip_head") > 0
    assert set(found.values()) == {0.0}


def test_words_alone_leave_head_sam_as_it_is() -> None:
    found = gradients(make_lesson(weight=0.0), make_batch())
    assert found["mask_decoder"] == 0
    assert found["image_encoder"] > 0
    assert found["clip_head"] > 0
    assert found["prompt_encoder"] == 0


def test_rehearsal_leaves_head_clip_as_it_is() -> None:
    lesson = make_lesson()
    with torch.no_grad():
        for part in lesson.network.mask_decoder.parameters():
            part.add_(0.01 * torch.randn_like(part))
    torch.manual_seed(7)
    focal, dice = lesson.rehearse(make_batch().words)
    (focal + dice).backward()
    assert all(part.grad is None for part in lesson.network.clip_head.parameters())
    assert any(
        part.grad is not None and part.grad.abs().max() > 0
        for part in lesson.network.mask_decoder.parameters()
    )
    assert all(not part.requires_grad for part in lesson.network.prompt_encoder.parameters())


def test_a_copy_of_sam_costs_nothing() -> None:
    torch.manual_seed(7)
    focal, dice = make_lesson().rehearse(make_batch().words)
    assert float(focal.detach()) == pytest.approx(0, abs=1e-6)
    assert float(dice.detach()) == pytest.approx(0, abs=1e-3)


def test_losses_of_soft_labels() -> None:
    wanted = torch.tensor([[[[0.9, 0.2], [0.5, 0.0]]]])
    logits = torch.tensor([[[[2.0, 0.0], [0.0, -3.0]]]])
    p = 1 / (1 + np.exp(-logits.numpy().astype(float)))
    t = wanted.numpy().astype(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -(t * np.log(p) + (1 - t) * np.log(1 - p))
        own = np.nan_to_num(-(t * np.log(t))) + np.nan_to_num(-((1 - t) * np.log(1 - t)))
    assert float(soft_focal(logits, wanted)) == pytest.approx(
        float(((p - t) ** 2 * (entropy - own)).mean()), abs=1e-5
    )
    expected = 1 - (2 * (p * t).sum() + 1) / ((p**2).sum() + (t**2).sum() + 1)
    assert float(soft_dice(logits, wanted)) == pytest.approx(expected, abs=1e-5)


def test_a_networks_sizes_are_read_off() -> None:
    assert read_size(make_sam()) == SIZE


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Six pictures with a patch each."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        picture = rng.integers(0, 255, 3, np.uint8) * np.ones((48, 64, 3), np.uint8)
        picture[8:30, 10 + 4 * number : 40] = rng.integers(0, 255, 3)
        Image.fromarray(picture).save(folder / f"{number}.png")
    return folder


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samclip, "load_foundation", lambda *_: make_foundation())
    monkeypatch.setattr(samclip, "load_teacher", lambda *_: make_teacher())


def run(pictures: Path, out: Path, last: str = "2", resume: bool = False, steps: int = 8) -> Trained:
    options = TeachOptions(
        out,
        "cpu",
        quiet=True,
        batch_size=2,
        steps=(steps, 4),
        rates=(3e-3, 1e-3),
        every=4,
        held_back=0.2,
        resume=resume,
    )
    return teach(pictures, options, clip="tiny", stage=last, recipe=RECIPE)


def test_the_trunk_stays_in_stage_one_and_words_are_learnt(pictures: Path, tmp_path: Path) -> None:
    made = run(pictures, tmp_path / "one.safetensors", "1")
    told = read_header(made.out)
    assert told["trunk_as_it_was"]
    assert told["stages"] == {"words": 8}
    loaded = read_sam_clip(made.out).network
    assert digest_tensors(make_merged().half().sam_state()) == digest_tensors(loaded.sam_state())
    losses = _losses(made.folder)
    assert losses[-1] < 0.8 * losses[0]


def _losses(folder: Path) -> list[float]:
    with (folder / "log.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(pictures, tmp_path / "whole.safetensors")
    seen: list[int] = []
    plain = SamClipLesson.forward

    def stop(self: SamClipLesson, batch: Mixed) -> dict[str, torch.Tensor]:
        seen.append(1)
        if len(seen) == 10:
            raise KeyboardInterrupt
        return plain(self, batch)

    monkeypatch.setattr(SamClipLesson, "forward", stop)
    with pytest.raises(KeyboardInterrupt):
        run(pictures, tmp_path / "part.safetensors")
    monkeypatch.setattr(SamClipLesson, "forward", plain)
    part = run(pictures, tmp_path / "part.safetensors", resume=True)
    own, other = (read_sam_clip(one.out).network.state_dict() for one in (whole, part))
    assert all(torch.equal(value, other[name]) for name, value in own.items())
    assert not read_header(whole.out)["trunk_as_it_was"], "the joint stage teaches the trunk"
    assert whole.metrics["iou"] > 0.5, "SAM is not forgotten in four steps"


def test_what_cannot_be_is_refused(pictures: Path, tmp_path: Path) -> None:
    options = TeachOptions(tmp_path / "x.safetensors", "cpu", quiet=True)
    with pytest.raises(ConfigError, match="--clip"):
        teach_words("samclip", pictures, options)
    with pytest.raises(ConfigError, match="clip-head-init"):
        teach(pictures, options, clip="tiny", clip_head_init="zero")
    with pytest.raises(ConfigError, match="--base"):
        teach_words("samclip", pictures, options, clip="tiny", base=pictures)
