"""SAM 3 of transformers with random weights: its layout loads, words go in, objects come out in the scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Sam3Config, Sam3ImageProcessor, Sam3Model, Sam3Processor

from domainsam.errors import CheckpointError, WeightsError
from domainsam.protocols import SceneObject, Window, Word, WordFinder
from domainsam.testing.contracts import ArrayView
from domainsam.testing.oracle import make_tokenizer
from domainsam.vocabulary import load_vocabulary_model
from domainsam.vocabulary import sam3 as module
from domainsam.vocabulary.sam3 import Sam3Finder, lay, load

SMALL = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 2, "num_layers": 1}
SIDE = 112


def make() -> Sam3Finder:
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
        "projection_dim": 32,
        "eos_token_id": tokenizer.eos_token_id,
    }
    backbone = {
        "model_type": "sam3_vit_model",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "pretrain_image_size": SIDE,
        "window_size": 4,
        "global_attn_indexes": [1],
    }
    sizes = [[32, 32], [16, 16], [8, 8], [4, 4]]
    config = Sam3Config(
        vision_config={
            "backbone_config": backbone,
            "fpn_hidden_size": 32,
            "backbone_feature_sizes": sizes,
            "scale_factors": [4.0, 2.0, 1.0, 0.5],
        },
        text_config=text,
        geometry_encoder_config=SMALL,
        detr_encoder_config=SMALL,
        detr_decoder_config={**SMALL, "num_queries": 6},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2},
    )
    size = {"height": SIDE, "width": SIDE}
    processor = Sam3Processor(Sam3ImageProcessor(size=size, mask_size={"height": 32, "width": 32}), tokenizer)
    return Sam3Finder(Sam3Model(config), processor, side=64)


@pytest.fixture(scope="module")
def finder() -> Sam3Finder:
    return make()


def test_random_weights_find_objects_inside_the_scene(
    finder: Sam3Finder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LEAST", 0.0)
    view = ArrayView((64, 96))
    assert isinstance(finder, WordFinder)
    found = list(finder.find_words(view, [Word("roof"), Word("pool")]))
    assert found
    for one in found:
        assert one.label in ("roof", "pool")
        bounds = one.bounds
        assert 0 <= bounds.row < bounds.row + bounds.height <= 64
        assert 0 <= bounds.col < bounds.col + bounds.width <= 96
        assert one.mask is not None
        assert one.mask.any()
    again = list(finder.find_words(view, [Word("pool")]))
    assert [one.score for one in again] == [one.score for one in found if one.label == "pool"]


def test_what_it_finds_is_what_transformers_makes_of_its_output(
    finder: Sam3Finder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores and masks agree with the library's own post-processing."""
    monkeypatch.setattr(module, "LEAST", 0.0)
    view = ArrayView((64, 64))
    image = view.image(Window(0, 0, 64, 64))
    scores, masks = finder._ask(finder._see(image), "roof", (64, 64))
    pixels = np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8)
    inputs = finder.processor(images=pixels, text="roof", return_tensors="pt")
    with torch.inference_mode():
        out = finder.model(**{name: inputs[name] for name in ("pixel_values", "input_ids", "attention_mask")})
    (theirs,) = finder.processor.post_process_instance_segmentation(out, 0.0, target_sizes=[(64, 64)])
    assert scores == pytest.approx(theirs["scores"].numpy(), abs=1e-5)
    assert (masks == theirs["masks"].numpy().astype(bool)).mean() > 0.999


def test_objects_of_others_are_named(finder: Sam3Finder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST", 0.0)
    view = ArrayView((64, 96))
    objects = [SceneObject.marked(box=(5, 5, 30, 40)), SceneObject.marked(box=(60, 10, 90, 60))]
    words = [Word("roof"), Word("pool"), Word("road")]
    scores = finder.name_objects(view, objects, words)
    assert scores.shape == (2, 3)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (scores.sum(axis=1) <= 1 + 1e-6).all()
    assert finder.name_objects(view, objects[:1], words) == pytest.approx(scores[:1], abs=1e-6)
    assert [one.word for one in finder.understand(words)] == ["roof", "pool", "road"]


def test_windows_cover_a_frame_and_share_a_quarter() -> None:
    windows = list(lay((64, 150), 64))
    assert [(window.row, window.col) for window in windows] == [(0, 0), (0, 48), (0, 86)]
    assert list(lay((40, 60), 64)) == [Window(0, 0, 64, 64)]


def test_a_saved_folder_is_loaded_by_name_and_path(
    finder: Sam3Finder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    finder.model.save_pretrained(tmp_path / "sam3")
    finder.processor.save_pretrained(tmp_path / "sam3")
    loaded: Any = load_vocabulary_model(f"sam3:{tmp_path / 'sam3'}", "cpu", "fp32")
    assert isinstance(loaded, Sam3Finder)
    own, other = finder.model.state_dict(), loaded.model.state_dict()
    assert own.keys() == other.keys()
    assert all(torch.equal(own[name], other[name]) for name in own)


def test_missing_and_wrong_folders_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"sam3:FOLDER.*licence"):
        load("sam3", None, torch.device("cpu"), torch.float32)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="no SAM 3"):
        load("sam3", tmp_path, torch.device("cpu"), torch.float32)
