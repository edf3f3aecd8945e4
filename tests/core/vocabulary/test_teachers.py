"""CLIPs by path: a tiny one of transformers' layout, a tiny one of open_clip's, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from domainsam.errors import CheckpointError, WeightsError
from domainsam.vocabulary.teachers import load_teacher

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A random CLIP of two narrow layers, with a tokenizer of five words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import CLIPConfig, CLIPModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**small, "vocab_size": 8, "max_position_embeddings": 10, "eos_token_id": 2, "bos_token_id": 1}
    config = CLIPConfig(
        text_config=text, vision_config={**small, "image_size": 32, "patch_size": 8}, projection_dim=12
    )
    CLIPModel(config).save_pretrained(tmp_path)
    names = {"<pad>": 0, "<s>": 1, "</s>": 2, "a": 3, "roof": 4, "tree": 5, "<unk>": 6}
    plain = Tokenizer(WordLevel(names, unk_token="<unk>"))
    plain.pre_tokenizer = Whitespace()
    tokens = PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="</s>", bos_token="<s>", unk_token="<unk>"
    )
    tokens.save_pretrained(tmp_path)
    return tmp_path


def test_a_folder_of_transformers(folder: Path) -> None:
    from transformers import CLIPModel

    teacher = load_teacher(str(folder))
    assert (teacher.side, teacher.vector) == (32, 12)
    texts = teacher.encode_texts(["a roof", "tree"])
    assert texts.norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert teacher.encode_texts(["tree"])[0].tolist() == pytest.approx(texts[1].tolist(), abs=1e-4)
    images = torch.rand(2, 3, 32, 32)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    network = CLIPModel.from_pretrained(folder).eval()
    with torch.no_grad():
        pooled = network.vision_model(pixel_values=(images - mean) / std).pooler_output
        own = torch.nn.functional.normalize(network.visual_projection(pooled), dim=1)
    assert torch.allclose(teacher.encode_images(images), own, atol=1e-5)
    assert teacher.encode_images(torch.rand(1, 3, 64, 64)).shape == (1, 12)


def test_statistics_of_the_folder_are_used_or_refused(folder: Path) -> None:
    plain = load_teacher(str(folder)).encode_images(torch.full((1, 3, 32, 32), 0.7))
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3})
    )
    other = load_teacher(str(folder)).encode_images(torch.full((1, 3, 32, 32), 0.7))
    assert not torch.allclose(plain, other)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": "no"}))
    with pytest.raises(CheckpointError, match="three numbers"):
        load_teacher(str(folder))


def test_a_folder_of_open_clip(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    model = {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
    }
    network = open_clip.CLIP(**model).eval()
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))
    with pytest.raises(WeightsError, match="holds no weights"):
        load_teacher(str(tmp_path))
    save_file(network.state_dict(), tmp_path / "open_clip_model.safetensors")
    teacher = load_teacher(str(tmp_path))
    assert (teacher.side, teacher.vector) == (32, 12)
    with torch.no_grad():
        own = torch.nn.functional.normalize(
            network.encode_text(open_clip.SimpleTokenizer()(["a roof"])), dim=1
        )
    assert torch.allclose(teacher.encode_texts(["a roof"]), own, atol=1e-5)


def test_damage_is_told(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_teacher(str(folder))
