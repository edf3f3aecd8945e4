"""Released checkpoints become model files, every tensor accounted for."""

from __future__ import annotations

import json
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from domainsam.checkpoint import read_header
from domainsam.errors import CheckpointError
from domainsam.foundation import load_foundation
from domainsam.foundation.loading import read_tensors, unwrap
from domainsam.foundation.sam import SamFoundation, SamSize, build
from domainsam.prompter.segformer import PrompterConfig, SegFormerPrompter
from domainsam.prompter.trained import load_prompter
from domainsam.side.lora import PUBLISHED_NAMES
from domainsam_cli import main
from domainsam_ct.model import convert as lst
from domainsam_ct.model import organs
from domainsam_ct.model.network import NetworkConfig as OrganConfig
from domainsam_ct.model.network import OrganNetwork
from domainsam_scene.model.convert import make_published_options
from domainsam_scene.model.network import NetworkConfig, SceneNetwork
from domainsam_scene.model.scene import PLACES, load_model
from domainsam_urban.model import convert as uvsam
from tests.core.official import official_sam

NARROW = SamSize(width=48, depth=3, heads=3, global_blocks=(1,), image_size=224, window=5)


class Settings:
    """What a trainer stores beside the weights; unpickling it would run this."""

    def __reduce__(self) -> Any:
        return print, ("code of the checkpoint ran",)


def spread(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Other values of the same shapes."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name, value in tensors.items():
        drawn = 0.05 * torch.randn(value.shape, generator=generator)
        drawn = 1 + drawn.abs() if name.endswith("running_var") else drawn
        found[name] = drawn if value.is_floating_point() else value
    return found


@pytest.fixture(scope="module")
def narrow() -> SamFoundation:
    official = official_sam(NARROW)
    return SamFoundation(build(dict(official.state_dict()), NARROW, "narrow"), "narrow", 224)


@pytest.mark.slow
def test_memorysam(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foundation = load_foundation("embedded_sam2")
    config = NetworkConfig(
        **vars(make_published_options("memorysam")), labels=("a", "b", "c", "d"), modalities=("rgb", "depth")
    )
    source = SceneNetwork(config, foundation).eval()
    own = {name: value for name, value in source.state_dict().items() if "_position" not in name}
    source.load_state_dict({**source.state_dict(), **spread(own)})
    frozen: dict[str, Tensor] = foundation.model.state_dict()  # type: ignore[attr-defined]
    theirs = {f"sam.{name.replace('attn.qkv.', 'attn.qkv.qkv.')}": value for name, value in frozen.items()}
    for name, value in source.state_dict().items():
        if name.startswith("updates."):
            _, block, part = name.split(".")
            where = f"sam.image_encoder.trunk.blocks.{block}.attn.qkv.{PUBLISHED_NAMES[part]}.weight"
            theirs[where] = value[0]
        for published, ours in PLACES.items():
            if name.startswith(ours) and (ours.endswith(".") or name == ours):
                theirs[f"sam.{published}{name.removeprefix(ours)}"] = value
    path, out = tmp_path / "epoch9_66.pth", tmp_path / "m.safetensors"
    torch.save({"model_state_dict": {f"module.{k}": v for k, v in theirs.items()}, "epoch": 9}, path)
    words = ["weights", "convert", str(path), "-o", str(out), "--foundation", "embedded_sam2"]
    assert main(words) == 2
    assert "--labels" in capsys.readouterr().err
    words += ["--labels", "a,b,c,d", "--modality", "rgb", "--modality", "depth"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert told.startswith("MemorySAM: ")
    model = load_model(out)
    assert (model.labels, model.modalities) == (("a", "b", "c", "d"), ("rgb", "depth"))
    images = {name: torch.rand(1, 3, 64, 64) for name in ("rgb", "depth")}
    with torch.no_grad():
        assert torch.equal(model.network(images).logits, source(images).logits)
    assert main(["info", str(out), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)["core"]
    assert facts["what"] == "model of the scene pack, for --model"
    assert (facts["sensors"], facts["method"]) == ("rgb, depth", "memorysam")
    assert facts["converted from"] == "epoch9_66.pth"
    strange = {**theirs, "sam.fifth_wheel": torch.zeros(1)}
    torch.save(strange, path)
    assert main([*words, "--overwrite"]) == 3
    assert "nobody knows: fifth_wheel" in capsys.readouterr().err
    theirs["sam.image_encoder.trunk.pos_embed"] = theirs["sam.image_encoder.trunk.pos_embed"] + 1
    torch.save(theirs, path)
    assert main([*words, "--overwrite"]) == 3
    assert "are not those of embedded_sam2" in capsys.readouterr().err


def test_sam_lst_of_512_pixels(
    tmp_path: Path, narrow: SamFoundation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (lst, organs):
        monkeypatch.setattr(module, "load_foundation", lambda *given, **more: narrow)
    own = OrganNetwork(OrganConfig(0, "random", encoding="published"), narrow, 9).eval()
    own.load_state_dict({**own.state_dict(), **spread(own.state_dict())})
    frozen = dict(narrow.model.state_dict())
    frozen["image_encoder.pos_embed"] = F.interpolate(
        frozen["image_encoder.pos_embed"].permute(0, 3, 1, 2), (6, 6), mode="bilinear", align_corners=False
    ).permute(0, 2, 3, 1)
    for side in "hw":
        key = f"image_encoder.blocks.1.attn.rel_pos_{side}"
        table = frozen[key][None, None]
        frozen[key] = F.interpolate(table, (11, table.shape[3]), mode="bilinear", align_corners=False)[0, 0]
    theirs = {f"sam.{name}": value for name, value in frozen.items() if "mask_tokens" not in name}
    for name in [name for name in theirs if "hypernetworks" in name]:
        del theirs[name]
    theirs |= {
        f"sam_encoder.{name[14:]}": v for name, v in frozen.items() if name.startswith("image_encoder.")
    }
    for name, value in own.state_dict().items():
        parts = name.split(".")
        if name.startswith("ladder.specialist.model."):
            theirs[f"CNN_encoder.{name[24:]}"] = value
        elif name.startswith("decoder.hypernetworks."):
            where = f"{parts[2]}.layers.{int(parts[3]) // 2}.{parts[4]}"
            theirs[f"sam.mask_decoder.output_hypernetworks_mlps.{where}"] = value
        elif name.startswith("decoder.upscaling.layers."):
            theirs[f"sam.mask_decoder.output_upscaling.{name[25:]}"] = value
    theirs |= {
        "sam.alpha": own.ladder.gates.detach(),
        "sam.mask_decoder.mask_tokens.weight": own.decoder.tokens.detach(),
        "CNN_encoder.fc.weight": torch.zeros(2, 2),
        "CNN_encoder.layer4.0.conv1.weight": torch.zeros(2, 2),
    }
    path, out = tmp_path / "epoch_199.pth", tmp_path / "lst.safetensors"
    torch.save(OrderedDict((f"module.{name}", value) for name, value in theirs.items()), path)
    assert main(["weights", "convert", str(path), "-o", str(out)]) == 0
    assert "SAM-LST: " in capsys.readouterr().out
    model = organs.load_model(out, device="cpu")
    assert model.labels[5] == "liver"
    assert (model.config.side, model.config.pixel_mm, model.config.network.encoding) == (96, 0, "published")
    slices = torch.rand(1, 1, 96, 96)
    with torch.no_grad():
        # Norms are merged into convolutions on loading, which rounds otherwise on some CPUs.
        torch.testing.assert_close(model.network(slices), own(slices), rtol=1e-4, atol=1e-5)


def test_uv_sam_of_lightning(
    tmp_path: Path, narrow: SamFoundation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The trainer's objects in the file are left alone, and so is their code."""
    monkeypatch.setattr(uvsam, "load_foundation", lambda *given: narrow)
    prompter = SegFormerPrompter(PrompterConfig(decode_head="released")).eval()
    prompter.load_state_dict({**prompter.state_dict(), **spread(prompter.state_dict())})
    own = prompter.state_dict()
    theirs: dict[str, Tensor] = {
        f"backbone.{name}": value for name, value in narrow.model.state_dict().items()
    }
    parts = {ours: published for published, ours in uvsam.PARTS.items()}
    for name, value in own.items():
        words = name.split(".")
        stage = f"seg_path_backbone.layers.{words[3]}" if name.startswith("encoder.") else ""
        inner = ".".join(words[6:-1])
        if name.startswith("head."):
            kinds = {"levels": f"convs.{words[2]}.conv", "fuse": "fusion_conv.conv", "classify": "conv_seg"}
            theirs[f"seg_path_decode_head.{kinds[words[1]]}.{words[-1]}"] = value
        elif name.startswith("mixer."):
            theirs[f"project_head.{0 if words[1] == 'hidden' else 2}.weight"] = value
        elif "patch_embeddings" in name:
            theirs[f"{stage}.0.{'projection' if 'proj.' in name else 'norm'}.{words[-1]}"] = value
        elif ".blocks." not in name:
            theirs[f"{stage}.2.{words[-1]}"] = value
        elif inner == "attention.q_proj":
            fused = [own[name.replace("q_proj", f"{kind}_proj")] for kind in "qkv"]
            theirs[f"{stage}.1.{words[5]}.attn.attn.in_proj_{words[-1]}"] = torch.cat(fused)
        elif inner in parts:
            wide = value[..., None, None] if inner in ("mlp.fc1", "mlp.fc2") and value.ndim == 2 else value
            theirs[f"{stage}.1.{words[5]}.{parts[inner]}.{words[-1]}"] = wide
    path, out = tmp_path / "last.ckpt", tmp_path / "uv.safetensors"
    torch.save({"state_dict": theirs, "hyper_parameters": Settings(), "epoch": 99}, path)
    with pytest.raises(CheckpointError, match="more than tensors"):
        read_tensors(path)
    assert main(["weights", "convert", str(path), "-o", str(out)]) == 0
    told = capsys.readouterr().out
    assert "UV-SAM: " in told
    assert "code of the checkpoint ran" not in told
    again, header = load_prompter(out, "urban")
    assert header.config["scene"]["tile"] == 1024
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again.coarse(images).logits, prompter.coarse(images).logits)
    assert read_header(out).config["prompter"]["decode_head"] == "released"


def test_what_is_no_released_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "a.pth", tmp_path / "m.safetensors"
    torch.save({"weight": torch.zeros(2)}, path)
    assert main(["weights", "convert", str(path), "-o", str(out)]) == 3
    assert "of no system that is known" in capsys.readouterr().err
    path.write_bytes(pickle.dumps(Settings()))
    assert main(["weights", "convert", str(path), "-o", str(out)]) == 3
    captured = capsys.readouterr()
    assert "code of the checkpoint ran" not in captured.out
    path.write_bytes(b"PK\x03\x04" + np.random.default_rng(0).bytes(300))
    assert main(["weights", "convert", str(path), "-o", str(out)]) == 3
    assert not out.exists()


@pytest.mark.parametrize("prefix", ["module.", "model.", "sam.", "module.model."])
@pytest.mark.parametrize("wrapper", [None, "model", "state_dict", "model_state_dict"])
def test_prefixes_and_wrappers_are_taken_off(prefix: str, wrapper: str | None) -> None:
    inner = {f"{prefix}a.weight": torch.zeros(1), f"{prefix}b": torch.ones(1)}
    content: Any = {wrapper: inner, "epoch": 3} if wrapper else {**inner, "epoch": 3}
    assert list(unwrap(content, "x")) == ["a.weight", "b"]


def test_info_knows_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.pth"
    torch.save({"weight": torch.zeros(2, 3)}, path)
    assert main(["info", str(path)]) == 0
    told = capsys.readouterr().out
    assert "domainsam weights convert" in told
    assert "1, 0.00 M numbers" in told
    torch.save(load_foundation("embedded_sam2").model.state_dict(), path)  # type: ignore[attr-defined]
    assert main(["info", str(path)]) == 0
    assert "weights of embedded_sam2, for --foundation" in capsys.readouterr().out
    path.write_bytes(b"no weights")
    assert main(["info", str(path)]) == 3


def test_verify_leaves_a_file_of_ones_own_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"mine")
    assert main(["weights", "verify", str(path)]) == 0
    assert "a file of your own" in capsys.readouterr().out
