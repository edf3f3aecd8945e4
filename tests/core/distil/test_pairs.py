"""Who can learn from whom, and what is said of pairs that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from domainsam.distil.judge import judge
from domainsam.distil.lessons import FeatureLesson
from domainsam.distil.masked import MaskedLesson
from domainsam.distil.pairs import Pair, adopt_decoder, check_frames, make_student, start_from
from domainsam.distil.prompted import PromptLesson
from domainsam.distil.students import SamStudent
from domainsam.distil.taps import TappedTeacher
from domainsam.errors import CheckpointError, ConfigError
from domainsam.foundation import load_foundation
from domainsam.foundation.fake import FakeFoundation
from domainsam.protocols import Foundation
from tests.core.distil.tiny import STUDENT, make_pair, material, views, write_teacher
from tests.core.generalists import write_official


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Foundation:
    return load_foundation(write_teacher(tmp_path_factory.mktemp("tiny") / "t.safetensors"))


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Foundation:
    """A teacher with SAM's decoder, from a file in the official form."""
    return load_foundation(write_official("edge_sam", tmp_path_factory.mktemp("edge")))


def test_the_student_begins_with_its_teachers_decoder(tiny: Foundation) -> None:
    pair = make_pair(tiny)
    assert pair.adopted
    check_frames(tiny, pair.student)
    own = pair.student.modules_of("decoder")[0].state_dict()
    theirs = tiny.model.decoder.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(own[name], theirs[name]) for name in theirs)
    again = make_student(STUDENT, tiny).state_dict()
    assert all(
        torch.equal(again[name], value) for name, value in make_student(STUDENT, tiny).state_dict().items()
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("embedded", "are the same network"),
        ("efficientnet_lite", "did you mean efficientnet_lite"),
        ("sam_vit_h", "cannot be the student of embedded"),
        ("vit_tiny_patch16_224", "offers no levels at strides 4, 8, 16, 32"),
    ],
)
def test_students_that_cannot_be(tiny: Foundation, name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        make_student(name, tiny)
    assert "\n" not in str(caught.value)


def test_pairs_whose_frames_differ_are_told_in_one_line(tiny: Foundation) -> None:
    student = make_student("mobile_sam", tiny)
    with pytest.raises(ConfigError, match=r"256 x 4 x 4; 32 x 16 x 16.*the student 256 x 4 x 4;") as caught:
        check_frames(tiny, student)
    assert "\n" not in str(caught.value)


def test_a_foundation_without_a_known_network_teaches_nobody() -> None:
    with pytest.raises(ConfigError, match="cannot be the student of fake"):
        make_student("efficientnet_lite0", FakeFoundation())


def test_trunks_and_twins_of_published_encoders(edge: Foundation) -> None:
    assert make_student("tiny_vit_5m_224", edge).name == "mobile_sam"
    for twin in ("edge_sam", "edge_sam_3x", "repvit_m1"):
        with pytest.raises(ConfigError, match="are the same network"):
            make_student(twin, edge)


def test_sams_decoder_is_handed_on_and_efficientsams_is_its_own(edge: Foundation, tmp_path: Path) -> None:
    """EdgeSAM teaches MobileSAM and EfficientSAM; what is written is what was taught."""
    mobile = make_student("mobile_sam", edge)
    check_frames(edge, mobile)
    assert adopt_decoder(edge, mobile)
    small = make_student("efficientsam_ti", edge)
    assert isinstance(small, SamStudent)
    check_frames(edge, small)
    assert not adopt_decoder(edge, small)
    pair = Pair(edge, small, edge.encode, False)
    assert (pair.outside, pair.most_points) == (False, 6)
    images = torch.rand(1, 3, 64, 64)
    mobile.save(tmp_path / "m.safetensors", {"distilled": {}})
    read = load_foundation(tmp_path / "m.safetensors")
    assert read.name == "mobile_sam"
    with torch.no_grad():
        expected = mobile.eval().encode(images).image
    torch.testing.assert_close(read.encode(images).image, expected, atol=1e-4, rtol=1e-4)


def test_a_plain_transformer_drops_hidden_patches(edge: Foundation, tmp_path: Path) -> None:
    """SAMI with all patches seen is the error of features; with a quarter of them it learns all the same."""
    small = make_student("efficientsam_ti", edge)
    pair = Pair(edge, small, edge.encode, False)
    pictures = material(tmp_path)[1]
    batch = views(pictures.held_back).gather([0])
    with torch.no_grad():
        plain = float(FeatureLesson(pair)(batch)["loss"])
        assert float(MaskedLesson(pair, 0.0, 1, 32)(batch)["loss"]) == pytest.approx(plain, rel=1e-5)
    lesson = MaskedLesson(pair, 0.75, 1, 32)
    lesson.prepare()
    lesson(batch)["loss"].backward()
    blocks = small.encoder.blocks
    assert blocks[0].attn.qkv.weight.grad.abs().sum() > 0
    # Prompts in the loop never ask it what it does not know.
    asked = PromptLesson(pair, prompts=2)
    asked.prepare()
    assert torch.isfinite(asked(batch)["loss"])
    assert small.network.prompt_encoder.point_embeddings.weight.requires_grad
    assert judge(pair, views(pictures.held_back))["feature_error"] > 0


def test_weights_to_begin_with_are_a_students_or_a_trunks(tiny: Foundation, tmp_path: Path) -> None:
    import timm

    trunk = timm.create_model("test_resnet")
    torch.save(trunk.state_dict(), tmp_path / "trunk.pth")
    student = make_student(STUDENT, tiny)
    assert not start_from(student, tmp_path / "trunk.pth")
    own = student.encoder.trunk.state_dict()
    assert torch.equal(own["conv1.0.weight"], trunk.state_dict()["conv1.0.weight"])
    student.save(tmp_path / "s.safetensors", {"name": "x", "version": "1", "licence": "y"})
    assert start_from(make_student(STUDENT, tiny), tmp_path / "s.safetensors")
    with pytest.raises(CheckpointError, match="does not fit"):
        start_from(make_student("test_byobnet", tiny), tmp_path / "trunk.pth")


def test_layers_of_a_teacher_without_so_many(tiny: Foundation) -> None:
    assert len(TappedTeacher(tiny, 4).encode(torch.zeros(1, 3, 64, 64)).levels) == 6
    with pytest.raises(ConfigError, match="has 4 layers and the student 9"):
        TappedTeacher(tiny, 9)
    with pytest.raises(ConfigError, match="layers of fake are not known"):
        TappedTeacher(FakeFoundation(), 2)
