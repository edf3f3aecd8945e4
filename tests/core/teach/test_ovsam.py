"""Both stages of Open-Vocabulary SAM on tiny networks: what is frozen stays, losses fall, runs resume."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from domainsam.distil.pictures import ViewBatch
from domainsam.errors import ConfigError, InputError, MissingInputError
from domainsam.foundation.base import digest_tensors
from domainsam.foundation.sam import SamFoundation, SamNetwork, SamSize
from domainsam.protocols import Word
from domainsam.teach.options import TeachOptions
from domainsam.teach.ovsam import SECOND, Lessons, adopt, choose_options, run, teach
from domainsam.teach.ovsam_data import NamedStream, read_named, split_named
from domainsam.teach.ovsam_lessons import (
    FeatureLesson,
    Learner,
    NameLesson,
    ask,
    measure_dice,
    read_places,
    sample_uncertain,
)
from domainsam.train.loop import learning_rate
from domainsam.train.start import Trained, start_run
from domainsam.vocabulary.loading import identify, read_header
from domainsam.vocabulary.open_vocabulary import read_taught
from domainsam.vocabulary.ovsam_network import OpenVocabularyNetwork
from tests.core.vocabulary.tiny import tiny_network, tiny_tower

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools itself
COLOURS = {"red": (220, 40, 40), "blue": (40, 40, 220)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """COCO's layout: eight pictures with a red and a blue square each, as polygons."""
    folder = tmp_path_factory.mktemp("coco")
    (folder / "images").mkdir()
    (folder / "annotations").mkdir()
    rng = np.random.default_rng(0)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(8):
        picture = rng.integers(90, 150, (48, 64, 3)).astype(np.uint8)
        for category, (left, colour) in enumerate(((4, COLOURS["red"]), (36, COLOURS["blue"])), 1):
            top, side = int(rng.integers(2, 20)), 20
            picture[top : top + side, left : left + side] = colour
            outline = [left, top, left + side, top, left + side, top + side, left, top + side]
            annotations.append(
                {
                    **{"id": len(annotations) + 1, "image_id": number, "category_id": category},
                    **{"segmentation": [outline], "area": side**2, "iscrowd": 0},
                    "bbox": [left, top, side, side],
                }
            )
        Image.fromarray(picture).save(folder / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 48})
    table = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}],
    }
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(table))
    return folder


def tiny_teacher() -> SamFoundation:
    torch.manual_seed(1)
    network = SamNetwork(SamSize(32, 2, 2, (1,), image_size=64, window=3))
    return SamFoundation(network.eval(), "sam_vit_tiny", 64)


def tiny_lessons(stages: tuple[str, ...] = ("1", "2"), seed: int = 0) -> Lessons:
    network, teacher = tiny_network(seed), tiny_teacher()
    adopt(network, teacher)
    return Lessons(network, teacher, tiny_tower(network), stages, None, 4, 64)


def learn(data: Path, out: Path, lessons: Lessons, **more: Any) -> Trained:
    settings: dict[str, Any] = {"steps": (4, 4), "batch_size": 1, "every": 2, "device": "cpu", "quiet": True}
    options = TeachOptions(out, **{**settings, "precision": "fp32", "workers": 1, **more})
    with start_run(options) as training:
        return run(data, options, training, lessons)


def digests(network: OpenVocabularyNetwork) -> dict[str, str]:
    return {name: digest_tensors(child.state_dict()) for name, child in network.named_children()}


def take_step(lesson: FeatureLesson | NameLesson, batch: Any) -> None:
    lesson.train()
    lesson.prepare()
    optimizer = torch.optim.AdamW([part for part in lesson.parameters() if part.requires_grad], lr=1e-3)
    lesson(batch)["loss"].backward()
    optimizer.step()


def test_each_stage_changes_its_own_parts_alone(data: Path) -> None:
    lessons = tiny_lessons()
    learner = Learner(lessons.network)
    words, pictures = read_named(data, None)
    seen = [digests(lessons.network)]
    extents = torch.tensor([[48.0, 64.0]])
    take_step(FeatureLesson(learner, lessons.teacher), ViewBatch(torch.rand(1, 3, 64, 64), extents))
    seen.append(digests(lessons.network))
    batch = NamedStream(pictures, 64, 1, 4).batch(0)
    take_step(NameLesson(learner, lessons.tower.embed(words), 64), batch)
    seen.append(digests(lessons.network))
    changed = [{name for name in before if before[name] != after[name]} for before, after in pairwise(seen)]
    assert changed == [{"neck"}, {"fpn_neck", "mask_decoder"}]


@pytest.mark.slow
def test_losses_fall_and_the_file_names_what_it_learnt(data: Path, tmp_path: Path) -> None:
    lessons = tiny_lessons()
    out = tmp_path / "ov.safetensors"
    result = learn(data, out, lessons, steps=(30, 40), rates=(3e-3, 3e-3), every=10, batch_size=2)
    with (tmp_path / "ov.training" / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    first = [float(row["feature_error"]) for row in rows if row["stage"] == "1-sam2clip"]
    second = [float(row["loss"]) for row in rows if row["stage"] == "2-clip2sam"]
    assert len(first) == 3
    assert first == sorted(first, reverse=True)
    assert second[-1] < second[0]
    assert result.metrics["feature_error"] == pytest.approx(first[-1], rel=0.05)
    assert 0 <= result.metrics["label_accuracy"] <= 1
    assert identify(out) == "ovsam_coco"
    told = read_header(out)
    assert told["base"] == ["red", "blue"]
    assert told["steps"] == {"1-sam2clip": 30, "2-clip2sam": 40}
    again = tiny_network(5)
    assert read_taught(again, out) == (Word("red"), Word("blue"))
    for name, value in lessons.network.neck.state_dict().items():
        assert torch.equal(again.neck.state_dict()[name], value)


@pytest.mark.slow
def test_one_batch_is_learnt_by_heart(data: Path) -> None:
    """Labels and masks of four objects: every part of the loss falls."""
    lessons = tiny_lessons()
    words, pictures = read_named(data, None)
    batch = NamedStream(pictures, 64, 2, 4, still=True).batch(0)
    lesson = NameLesson(Learner(lessons.network), lessons.tower.embed(words), points=256)
    lesson.prepare()
    parameters = [part for part in lesson.parameters() if part.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3)
    losses = []
    for step in range(25):
        torch.manual_seed(step)
        parts = lesson(batch)
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        losses.append({name: float(value.detach()) for name, value in parts.items()})
    assert losses[-1]["labels"] < 0.5 * losses[0]["labels"]
    assert losses[-1]["loss"] < 0.6 * losses[0]["loss"]


def test_gradients_reach_what_learns_and_nothing_else(data: Path) -> None:
    lessons = tiny_lessons()
    words, pictures = read_named(data, None)
    lesson = NameLesson(Learner(lessons.network), lessons.tower.embed(words), points=64)
    lesson.prepare()
    lesson(NamedStream(pictures, 64, 1, 4).batch(3))["loss"].backward()
    for name, part in lessons.network.named_parameters():
        top = name.partition(".")[0]
        if top in ("fpn_neck", "mask_decoder"):
            assert part.grad is not None, name
        else:
            assert part.grad is None, name
    idle = lessons.network.mask_decoder.label_mlp.layers[0].weight.grad
    assert idle is not None
    assert not idle.any()
    named = dict(lessons.network.mask_decoder.named_parameters())
    for live in (named["roi_conv.0.conv.weight"], named["label_token.weight"]):
        assert live.grad is not None
        assert live.grad.any()


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny_lessons()
    learn(data, tmp_path / "whole.safetensors", whole)
    cut = tiny_lessons()
    forward, calls = NameLesson.forward, []

    def dying(self: NameLesson, batch: Any) -> dict[str, Tensor]:
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return forward(self, batch)

    monkeypatch.setattr(NameLesson, "forward", dying)
    with pytest.raises(KeyboardInterrupt):
        learn(data, tmp_path / "cut.safetensors", cut)
    monkeypatch.undo()
    resumed = tiny_lessons()
    learn(data, tmp_path / "cut.safetensors", resumed, resume=True)
    assert digests(resumed.network) == digests(whole.network)


def test_batches_show_what_they_ask_for(data: Path) -> None:
    words, pictures = read_named(data, (Word("blue", ("azure",)),))
    assert [word.name for word in words] == ["blue"]
    assert len(pictures) == 8
    batch = NamedStream(pictures, 64, 3, 5, seed=4).batch(2)
    assert batch.images.shape == (3, 3, 64, 64)
    assert batch.index.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert batch.by_box.view(3, 5).sum(dim=1).tolist() == [3, 3, 3]
    for number in range(15):
        rows, cols = np.nonzero(batch.masks[number].numpy())
        edges = [cols.min(), rows.min(), cols.max() + 1, rows.max() + 1]
        assert batch.boxes[number].tolist() == edges
        x, y = batch.points[number].tolist()
        assert batch.masks[number, int(y), int(x)]
        picture = batch.images[batch.index[number]]
        colour = picture[:, batch.masks[number]].mean(dim=1) * 255
        assert colour.tolist() == pytest.approx(COLOURS["blue"], abs=25)
    assert not batch.images[~batch.seen[:, None].expand(-1, 3, -1, -1)].any()
    same = NamedStream(pictures, 64, 3, 5, seed=4).batch(2)
    assert torch.equal(same.images, batch.images)
    teaching, held = split_named(pictures, 0.25)
    assert len(held) == 2
    assert len(teaching) == 6


def test_asked_by_box_and_by_point(data: Path) -> None:
    network = tiny_network()
    _, pictures = read_named(data, None)
    batch = NamedStream(pictures, 64, 1, 4).batch(0)
    tokens = ask(network, batch)
    moved = ask(network, replace(batch, boxes=batch.boxes + 1))
    assert tokens.shape == (4, 2, 256)
    assert (tokens != moved).flatten(1).any(dim=1).tolist() == batch.by_box.tolist()


def test_points_lie_where_logits_are_least_certain() -> None:
    logits = torch.full((1, 8, 8), 9.0)
    logits[0, :, 4:] = -9.0
    masks = torch.zeros(1, 32, 32)
    masks[0, :, :16] = 1
    torch.manual_seed(0)
    own, wanted = sample_uncertain(logits, masks, 400)
    assert own.shape == wanted.shape == (1, 400)
    assert float((own.abs() < 9).float().mean()) > 0.3
    places = torch.tensor([[[0.0625, 0.0625], [0.9375, 0.0625]]])
    assert read_places(logits, places).tolist() == [[9.0, -9.0]]
    sure = torch.tensor([[20.0, 20.0, -20.0, -20.0]])
    assert float(measure_dice(sure, torch.tensor([[1.0, 1.0, 0.0, 0.0]]))) == pytest.approx(0, abs=1e-6)
    assert float(measure_dice(sure, torch.tensor([[0.0, 0.0, 1.0, 1.0]]))) == pytest.approx(1 - 1 / 5)


def test_rates_fall_at_milestones_and_follow_the_batch(tmp_path: Path) -> None:
    options = TeachOptions(tmp_path / "a.safetensors", batch_size=8)
    chosen = choose_options(options, 1, "2", 96)
    assert chosen.steps == 12 * 12
    assert chosen.lr == pytest.approx(0.5e-4)
    at = [learning_rate(step, chosen) / chosen.lr for step in (95, 96, 131, 132)]
    assert at == pytest.approx([1, 0.1, 0.1, 0.01])
    assert choose_options(options, 0, "1", 96).steps == 24 * 12
    assert SECOND.clip == 0.01


def test_what_cannot_be_taught_is_one_line(data: Path, tmp_path: Path) -> None:
    options = TeachOptions(tmp_path / "a.safetensors", device="cpu", quiet=True)
    with pytest.raises(ConfigError, match="stage 2 begins with what stage 1 has learnt: give --start"):
        teach(data, options, stage="2")
    with pytest.raises(ConfigError, match="--teacher embedded is no SAM"):
        teach(data, options, teacher="embedded")
    with pytest.raises(MissingInputError, match=r"holds no annotations/\*\.json"):
        read_named(tmp_path, None)
    with pytest.raises(InputError, match="has no category 'green'; it has 2"):
        read_named(data, (Word("green"),))
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "a.json").write_text("{}")
    with pytest.raises(InputError, match="is no file of COCO's"):
        read_named(tmp_path, None)
