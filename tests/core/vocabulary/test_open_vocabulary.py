"""Open-Vocabulary SAM: its files load by name, its head does what is published."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from domainsam.errors import CheckpointError, InputError, WeightsError
from domainsam.foundation import load_foundation
from domainsam.licences import forget_told
from domainsam.protocols import Namer, SceneObject, View, Window, Word
from domainsam.testing.contracts import ArrayView, NamerContract
from domainsam.vocabulary import load_vocabulary_model
from domainsam.vocabulary.clip import TEMPLATES, WordTower
from domainsam.vocabulary.open_vocabulary import (
    COCO_BASE,
    OpenVocabularySam,
    collect_taught,
    load,
    read_network,
)
from domainsam.vocabulary.ovsam_network import (
    OpenVocabularyNetwork,
    OpenVocabularySize,
    choose_levels,
    compare_words,
    find_boxes,
    mix_logits,
)
from tests.core.vocabulary.tiny import CLIP, tiny_clip, tiny_network, tiny_size, tiny_tower

KEYS = Path(__file__).parent / "keys"
WORDS = (Word("roof", ("rooftop",)), Word("tree"), Word("road"))


@pytest.fixture(scope="module")
def network() -> OpenVocabularyNetwork:
    return tiny_network()


@pytest.fixture(scope="module")
def model(network: OpenVocabularyNetwork) -> OpenVocabularySam:
    return OpenVocabularySam(network, "ovsam_coco", tiny_tower(network), [Word("tree")])


class TestOpenVocabularySam(NamerContract):
    words = WORDS

    @pytest.fixture
    def namer(self, model: OpenVocabularySam) -> Namer:
        return model


def official_names(file: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an official file's tensors."""
    rows = (line.split() for line in (KEYS / file).read_text().splitlines())
    return {name: tuple(map(int, shape.split("x"))) for name, shape in rows}


@pytest.mark.parametrize(
    ("file", "parts"),
    [
        ("sam2clip.txt", {"neck_student.": "neck"}),
        ("clip2sam.txt", {"fpn_neck.": "fpn_neck", "mask_decoder.": "mask_decoder"}),
    ],
)
def test_every_tensor_of_the_official_files_has_its_place(file: str, parts: dict[str, str]) -> None:
    with torch.device("meta"):
        whole = OpenVocabularyNetwork(OpenVocabularySize(), torch.nn.Identity())
    ours = {
        f"{prefix}{name}": tuple(value.shape)
        for prefix, part in parts.items()
        for name, value in getattr(whole, part).state_dict().items()
    }
    assert ours == official_names(file)
    parameters = sum(value.numel() for value in whole.neck.parameters())
    assert parameters == pytest.approx(129e6, rel=0.01)  # As the paper counts SAM2CLIP.


def write_official(folder: Path, network: OpenVocabularyNetwork, letters: str = "coco") -> None:
    """Write a network as the four files it is published in."""
    folder.mkdir(exist_ok=True)
    neck = {f"neck_student.{name}": value for name, value in network.neck.state_dict().items()}
    torch.save(
        {"state_dict": {"backbone_student.x": torch.zeros(1), **neck}}, folder / "sam2clip_vith_rn50x16.pth"
    )
    head = {f"fpn_neck.{name}": value for name, value in network.fpn_neck.state_dict().items()}
    head |= {f"mask_decoder.{name}": value for name, value in network.mask_decoder.state_dict().items()}
    torch.save(head, folder / f"clip2sam_{letters}_rn50x16.pth")
    torch.save(network.clip.state_dict(), folder / "RN50x16.pt")
    prompts = {f"prompt_encoder.{name}": value for name, value in network.prompt_encoder.state_dict().items()}
    torch.save(
        {**prompts, "mask_decoder.iou_token.weight": torch.zeros(1, 256)}, folder / "sam_vit_h_4b8939.pth"
    )


def test_official_files_load_by_their_names(tmp_path: Path, network: OpenVocabularyNetwork) -> None:
    write_official(tmp_path / "files", network)
    loaded, base = read_network("ovsam_coco", tmp_path / "files", size=tiny_size())
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    assert len(base) == 48
    assert base == tuple(map(Word, COCO_BASE.split()))
    write_official(tmp_path / "lvis", network, "lvis")
    assert read_network("ovsam_lvis", tmp_path / "lvis", size=tiny_size())[1] == ()
    (tmp_path / "lvis" / "base.txt").write_text("aerosol can, spray can\n")
    told = read_network("ovsam_lvis", tmp_path / "lvis", size=tiny_size())[1]
    assert told == (Word("aerosol can", ("spray can",)),)


def test_files_that_do_not_fit_are_named(tmp_path: Path, network: OpenVocabularyNetwork) -> None:
    write_official(tmp_path, network)
    head = tmp_path / "clip2sam_coco_rn50x16.pth"
    tensors = torch.load(head, weights_only=True)
    torch.save({**tensors, "stranger.weight": torch.zeros(1)}, head)
    with pytest.raises(CheckpointError, match=r"stranger\.weight, which is no part of CLIP2SAM"):
        read_network("ovsam_coco", tmp_path, size=tiny_size())
    tensors.pop("mask_decoder.label_token.weight")
    torch.save(tensors, head)
    with pytest.raises(CheckpointError, match=r"missing: label_token\.weight"):
        read_network("ovsam_coco", tmp_path, size=tiny_size())
    torch.save({"neck.x": torch.zeros(1)}, tmp_path / "sam2clip_vith_rn50x16.pth")
    with pytest.raises(CheckpointError, match=r"holds nothing under neck_student\."):
        read_network("ovsam_coco", tmp_path, size=tiny_size())


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("sam_vit_h_4b8939.pth", "dl.fbaipublicfiles.com"),
        ("RN50x16.pt", "openaipublic.azureedge.net"),
        ("sam2clip_vith_rn50x16.pth", "huggingface.co/HarborYuan/ovsam_models"),
        ("clip2sam_coco_rn50x16.pth", "huggingface.co/HarborYuan/ovsam_models"),
    ],
)
def test_an_absent_file_is_one_line_with_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: OpenVocabularyNetwork, file: str, source: str
) -> None:
    monkeypatch.setenv("DOMAINSAM_WEIGHTS", str(tmp_path / "nowhere"))
    write_official(tmp_path / "files", network)
    (tmp_path / "files" / file).unlink()
    with pytest.raises(WeightsError, match=f"ovsam_coco needs {file}.*download https://{source}") as caught:
        load_vocabulary_model(f"ovsam_coco:{tmp_path / 'files'}", "cpu")
    assert "\n" not in str(caught.value)


def test_a_taught_file_takes_the_place_of_three(tmp_path: Path, network: OpenVocabularyNetwork) -> None:
    torch.save(network.clip.state_dict(), tmp_path / "RN50x16.pt")
    own = tmp_path / "taught.safetensors"
    tensors = {name: value.clone() for name, value in collect_taught(network).items()}
    save_file(tensors, own, {"domainsam": '{"vocabulary": "ovsam_coco", "base": ["roof", "tree"]}'})
    loaded, base = read_network("ovsam_coco", tmp_path, own, tiny_size())
    assert base == (Word("roof"), Word("tree"))
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    tensors.pop("neck.level_encoding.weight")
    save_file(tensors, own)
    with pytest.raises(CheckpointError, match=r"missing: level_encoding\.weight"):
        read_network("ovsam_coco", tmp_path, own, tiny_size())


def test_the_way_through_the_blocks_is_that_of_sams_own_code(network: OpenVocabularyNetwork) -> None:
    levels = network.see(torch.randn(2, 3, 64, 96))
    assert [level.shape[1] for level in levels] == list(tiny_size().channels)
    assert [tuple(level.shape[2:]) for level in levels] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    fast = network.neck(levels)
    network.neck.train()
    slow = network.neck(levels)
    network.neck.eval()
    assert fast.shape == (2, 256, 4, 6)
    assert torch.allclose(fast, slow, atol=1e-5)


def test_the_label_token_takes_part_and_its_branch_does_not(network: OpenVocabularyNetwork) -> None:
    """Published: what is made of the token is multiplied by zero."""
    levels = network.see(torch.randn(1, 3, 64, 64))
    boxes, index = torch.tensor([[8.0, 8.0, 40.0, 56.0]]), torch.zeros(1, dtype=torch.int64)
    before = network.mask_decoder.describe(network.fpn_neck(levels), boxes, index)
    first = network.mask_decoder.label_mlp.layers[0].weight
    kept = first.detach().clone()
    with torch.no_grad():
        first.add_(1)
    after = network.mask_decoder.describe(network.fpn_neck(levels), boxes, index)
    with torch.no_grad():
        first.copy_(kept)
    assert torch.equal(before, after)
    assert float(before.norm()) == pytest.approx(1, abs=1e-5)


def test_levels_rise_with_the_side_of_a_box() -> None:
    sides = (10, 111, 113, 223, 225, 447, 449, 1024)
    boxes = torch.tensor([[0, 0, side, side] for side in sides]).float()
    assert choose_levels(boxes, 4).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert choose_levels(torch.tensor([[0.0, 0.0, 448.0, 28.0]]), 4).tolist() == [1]
    assert choose_levels(torch.zeros(1, 4), 4).tolist() == [0]


def test_boxes_are_those_of_masks() -> None:
    masks = torch.zeros(2, 16, 16, dtype=torch.bool)
    masks[0, 3:5, 7] = masks[0, 9, 2] = True
    assert find_boxes(masks).tolist() == [[2, 3, 8, 10], [0, 0, 0, 0]]


def test_words_are_compared_by_their_best_phrase() -> None:
    words = torch.nn.functional.normalize(torch.randn(300, 3, 8), dim=-1)
    described = torch.nn.functional.normalize(torch.randn(4, 8), dim=-1)
    logits = compare_words(described, words)
    assert logits.shape == (4, 301)
    assert float(logits[2, 270]) == pytest.approx(
        100 * max(float(described[2] @ row) for row in words[270]), abs=1e-3
    )
    assert logits[:, -1].eq(0).all()


def naive_mixture(head: Tensor, clip: Tensor, shares: Sequence[float]) -> list[float]:
    parts = [
        float(one) ** (1 - share) * float(other) ** share
        for one, other, share in zip(head.softmax(0), clip.softmax(0), shares, strict=True)
    ]
    return [part / sum(parts) for part in parts]


def test_the_mixture_is_as_published() -> None:
    head, clip = torch.randn(1, 4), torch.randn(1, 4)
    trained = torch.tensor([True, False, False])
    seen = mix_logits(head, clip, trained, torch.tensor([False]))[0]
    assert seen.tolist() == pytest.approx(naive_mixture(head[0], clip[0], (0.1, 0.9, 0.9, 0.1)), abs=1e-6)
    gone = mix_logits(head, clip, trained, torch.tensor([True]))[0]
    assert gone.tolist() == pytest.approx(head[0].softmax(0).tolist(), abs=1e-6)
    same = mix_logits(head, head, trained, torch.tensor([False]))[0]
    assert same.tolist() == pytest.approx(head[0].softmax(0).tolist(), abs=1e-6)


def test_words_are_embedded_once_and_kept(tmp_path: Path, network: OpenVocabularyNetwork) -> None:
    tower = tiny_tower(network, tmp_path)
    vectors = tower.embed(WORDS)
    assert vectors.shape == (3, 4, 16)
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(3, 4), atol=1e-5)
    assert torch.equal(vectors[1, :2], vectors[1, 2:])
    assert len(list(tmp_path.glob("*.safetensors"))) == 1
    again = tiny_tower(network, tmp_path)
    again._embed_texts = None  # type: ignore[assignment,method-assign]
    assert torch.equal(again.embed(WORDS), vectors)
    with pytest.raises(TypeError):
        again.embed(WORDS[:1])
    other = WordTower(tiny_clip(1), tower.templates, tmp_path).embed(WORDS)
    assert not torch.allclose(other, vectors)
    assert len(TEMPLATES) == 14
    assert all(text.count("{}") == 1 for text in TEMPLATES)


def test_a_thousand_words_and_other_scripts(
    model: OpenVocabularySam, caplog: pytest.LogCaptureFixture
) -> None:
    forget_told()
    assert [one.word for one in model.understand([Word("屋根"), Word("roof")])] == ["屋根", "roof"]
    assert "trained on English texts and hardly knows 屋根: give English words" in caplog.text
    many = [Word(f"thing {number}") for number in range(1000)]
    view = ArrayView((64, 64))
    scores = model.name_objects(view, [SceneObject.marked(box=(4, 4, 40, 40))], many)
    assert scores.shape == (1, 1000)
    assert float(scores.sum()) <= 1.001
    with pytest.raises(InputError, match="no words to name objects by"):
        model.name_objects(view, [], [])


class Half(ArrayView):
    """Nothing lies on the right."""

    def block(self, window: Window):  # type: ignore[no-untyped-def]
        block = super().block(window)
        block.valid[:, 32:] = False
        block.image[:, :, 32:] = 0
        return block


def test_an_object_where_nothing_is_seen_gets_no_answer(model: OpenVocabularySam) -> None:
    objects = [SceneObject.marked(box=(40, 4, 60, 40)), SceneObject.marked(box=(4, 4, 20, 40))]
    scores = model.name_objects(Half((64, 64)), objects, WORDS)
    assert np.isnan(scores[0]).all()
    assert np.isfinite(scores[1]).all()


def test_a_mask_is_named_by_its_box_and_a_box_by_the_mask_it_asks_for(model: OpenVocabularySam) -> None:
    """The same box, with and without a mask: only where no mask is given does the decoder have a say."""
    view = ArrayView((64, 64))
    mask = np.ones((30, 20), bool)
    given = SceneObject(Window(10, 12, 30, 20), mask=mask)
    asked = SceneObject.marked(box=(12, 10, 32, 40))
    scores = model.name_objects(view, [given, asked], WORDS)
    image = torch.from_numpy(view.image(Window(0, 0, 64, 64)))[None]
    levels = model.network.see((image - model._mean) / model._std)
    index, boxes = torch.zeros(1, dtype=torch.int64), torch.tensor([[12.0, 10.0, 32.0, 40.0]])
    vectors = model.tower.embed(WORDS)
    head = compare_words(
        model.network.mask_decoder.describe(model.network.fpn_neck(levels), boxes, index), vectors
    )
    clip = compare_words(model.network.pool(levels[-1], boxes, index), vectors)
    trained = torch.tensor([False, True, False])
    small = torch.nn.functional.interpolate(
        torch.from_numpy(np.pad(mask, ((10, 24), (12, 32))))[None, None].float()[..., 1::4, 1::4] * 2 - 1,
        size=(2, 2),
        mode="bilinear",
    )
    vanished = ~(small > 0).flatten(1).any(dim=1)
    expected = mix_logits(head, clip, trained, vanished)[0, :-1]
    assert scores[0].tolist() == pytest.approx(expected.tolist(), abs=1e-4)
    assert scores[1].tolist() != pytest.approx(expected.tolist(), abs=1e-6)


def test_published_sizes() -> None:
    size = OpenVocabularySize()
    assert size.channels == (384, 768, 1536, 3072)
    assert size.pool == 12
    assert size.clip["embed_dim"] == 768
    assert tiny_clip().state_dict().keys() >= {"visual.attnpool.positional_embedding"}
    assert CLIP["embed_dim"] == 16
    assert callable(load)


def test_any_view_will_do(model: OpenVocabularySam) -> None:
    with_features: View = ArrayView((96, 128), foundation=load_foundation("fake"))
    without: View = ArrayView((96, 128))
    objects = [SceneObject.marked(box=(10, 10, 50, 50))]
    one, other = (model.name_objects(view, objects, WORDS) for view in (with_features, without))
    assert np.array_equal(one, other)
