"""The merged network: HeadSAM is SAM, HeadCLIP begins as it is told, files come back, maps and names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from domainsam.errors import CheckpointError, ConfigError, DomainSamError
from domainsam.foundation.encoders.vit import SamImageEncoder
from domainsam.prompts import PromptSet
from domainsam.protocols import Namer, Window, Word, WordMapper
from domainsam.testing.contracts import ArrayView, NamerContract, WordMapperContract
from domainsam.vocabulary import load_vocabulary_model
from domainsam.vocabulary.sam_clip import Loaded, Teacher, read_sam_clip, save_sam_clip
from domainsam.vocabulary.sam_clip_words import SamClipWords, find_templates
from tests.core.vocabulary.tiny_sam_clip import VECTOR, make_foundation, make_merged, make_sam, make_teacher


def make_words() -> SamClipWords:
    return SamClipWords(Loaded(make_merged(), Teacher("tiny", VECTOR), {}), make_teacher().encode_texts)


class TestNaming(NamerContract):
    @pytest.fixture
    def namer(self) -> Namer:
        return make_words()


class TestMaps(WordMapperContract):
    @pytest.fixture
    def mapper(self) -> WordMapper:
        return make_words()


def test_before_training_head_sam_is_sam() -> None:
    sam, merged = make_foundation(), make_words().foundation
    images = torch.rand(2, 3, 64, 96)
    prompts = PromptSet.from_boxes(torch.tensor([[4.0, 8.0, 40.0, 44.0]]))
    theirs = sam.decode(sam.encode(images), prompts, True)
    own = merged.decode(merged.encode(images), prompts, True)
    assert torch.equal(own.logits, theirs.logits)
    assert torch.equal(own.iou, theirs.iou)


def test_head_clip_begins_with_sams_last_block_or_with_nothing() -> None:
    last = make_sam().image_encoder.blocks[-1].state_dict()
    for block in make_merged("sam").clip_head.blocks:
        assert all(torch.equal(value, last[name]) for name, value in block.state_dict().items())
    random = make_merged("random").clip_head.blocks[0].state_dict()
    assert not torch.equal(random["attn.qkv.weight"], last["attn.qkv.weight"])


def test_a_picture_is_the_largest_of_its_places_before_the_perceptron() -> None:
    head = make_merged().clip_head
    tokens = torch.randn(2, 3, 5, 32)
    pooled = head.mix(tokens).flatten(1, 2).amax(dim=1)
    expected = torch.nn.functional.normalize(head.mlp(head.norm(pooled)), dim=1)
    assert torch.allclose(head(tokens), expected)
    assert head.places(tokens).shape == (2, 3, 5, VECTOR)
    alone = tokens[:, :1, :1]
    assert torch.allclose(head(alone), head.places(alone)[:, 0, 0], atol=1e-6)


@pytest.mark.parametrize("side", [32, 64, 128])
def test_positions_are_resized_plain_bicubic(side: int) -> None:
    merged = make_merged()
    encoder: SamImageEncoder = merged.image_encoder
    cells = side // 16
    code = encoder.pos_embed.permute(0, 3, 1, 2)
    expected = (
        code
        if cells == 4
        else torch.nn.functional.interpolate(code, (cells, cells), mode="bicubic", align_corners=False)
    )
    seen: dict[str, torch.Tensor] = {}
    encoder.blocks[0].norm1.register_forward_pre_hook(lambda _, given: seen.update(x=given[0]))
    images = torch.rand(1, 3, side, side)
    with torch.no_grad():
        merged.tokens(images)
        patches = encoder.patch_embed((images - merged.mean) / merged.std)
    assert torch.allclose(seen["x"], patches + expected.permute(0, 2, 3, 1), atol=1e-6)


def test_tables_of_weights_that_learn_are_made_anew() -> None:
    merged = make_merged()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = merged.tokens(images)
    loss = merged.tokens(images).sum()
    loss.backward()
    assert merged.image_encoder.pos_embed.grad is not None
    with torch.no_grad():
        merged.image_encoder.pos_embed.add_(1.0)
    merged.tokens(images)
    with torch.no_grad():
        assert not torch.allclose(merged.tokens(images), before)


def test_a_file_comes_back_with_its_words(tmp_path: Path) -> None:
    merged, vector = make_merged(), torch.nn.functional.normalize(torch.arange(1.0, VECTOR + 1), dim=0)
    path = save_sam_clip(tmp_path / "m.safetensors", merged, Teacher("gone", VECTOR), {"Roof": vector}, {})
    loaded = read_sam_clip(path)
    assert loaded.teacher == Teacher("gone", VECTOR)
    own, theirs = merged.state_dict(), loaded.network.state_dict()
    assert own.keys() == theirs.keys()
    assert all(torch.equal(theirs[name], value.half().float()) for name, value in own.items())
    model = load_vocabulary_model(path, "cpu")
    assert isinstance(model, SamClipWords)
    assert model.understand([Word("roof")])[0].known is None
    with pytest.raises(DomainSamError, match="cannot be loaded"):
        model.understand([Word("tree")])


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_sam_clip(path, make_merged(), Teacher("gone", VECTOR), {}, {})
    from safetensors.torch import load_file, save_file

    save_file(load_file(path), path, {"domainsam": '{"vocabulary": "samclip", "words": []}'})
    with pytest.raises(CheckpointError, match="no file of SAM-CLIP"):
        read_sam_clip(path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(DomainSamError, match=r"samclip\.safetensors"):
        load_vocabulary_model(f"samclip:{tmp_path / 'folder'}", "cpu")


def test_words_are_means_over_phrases_and_templates() -> None:
    teacher = make_teacher()
    loaded = Loaded(make_merged(), Teacher("tiny", VECTOR), {})
    model = SamClipWords(loaded, teacher.encode_texts, ("a {}", "the {}"))
    mean = torch.nn.functional.normalize(teacher.encode_texts(["a roof", "the roof"]).mean(dim=0), dim=0)
    assert torch.allclose(model._vectors([Word("roof")])[0], mean, atol=1e-6)
    both = model._vectors([Word("roof", ("tile",))])[0]
    other = torch.nn.functional.normalize(teacher.encode_texts(["a tile", "the tile"]).mean(dim=0), dim=0)
    assert torch.allclose(both, torch.nn.functional.normalize(mean + other, dim=0), atol=1e-6)


def test_templates_are_sentences_around_a_word() -> None:
    assert all(template.count("{}") == 1 for template in find_templates())


def test_a_map_names_places_as_the_head_does() -> None:
    model, view = make_words(), ArrayView((64, 64))
    words = [Word("roof"), Word("tree")]
    model.side = 64
    scores = model.map_words(view, Window(0, 0, 64, 64), words)
    with torch.no_grad():
        image = torch.from_numpy(view.image(Window(0, 0, 64, 64)))[None]
        places = model.network.clip_head.places(model.network.tokens(image))[0]
    logits = 100 * places @ model._vectors(words).T
    expected = torch.nn.functional.interpolate(
        logits.permute(2, 0, 1)[None], (16, 16), mode="bilinear", align_corners=False
    ).softmax(dim=1)[0]
    assert np.allclose(scores, expected.numpy(), atol=1e-5)


def test_a_teacher_that_is_none_is_refused(tmp_path: Path) -> None:
    from domainsam.vocabulary.teachers import load_teacher

    with pytest.raises(ConfigError, match="is no model of pictures and words"):
        load_teacher(str(tmp_path))
    with pytest.raises(ConfigError, match="no architecture"):
        load_teacher("ViT-Nothing:weights.bin")
    with pytest.raises(DomainSamError, match="no weight file"):
        load_teacher("RN50:nowhere.bin")
