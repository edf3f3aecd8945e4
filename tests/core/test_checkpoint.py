"""Model files: round trips, and every file that must be refused."""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from domainsam import __version__
from domainsam.checkpoint import (
    FORMAT_VERSION,
    METADATA_KEY,
    CheckpointHeader,
    collect_tensors,
    load,
    read_header,
    save,
)
from domainsam.errors import CheckpointError, ConfigError, OutputError
from domainsam.foundation.fake import FakeFoundation
from domainsam.prompter.segformer import PrompterConfig, SegFormerPrompter
from domainsam.prompter.trained import load_prompter, save_prompter

HEADER = CheckpointHeader(
    "urban", "fake", "0" * 64, ("background", "settlement"), {"a": {"b": 1}}, {"iou": 0.5}
)


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


@pytest.fixture
def model_file(tmp_path: Path, module: nn.Module) -> Path:
    path = tmp_path / "model.safetensors"
    save(path, collect_tensors(module, "prompter"), HEADER)
    return path


def test_round_trip(model_file: Path, module: nn.Module) -> None:
    checkpoint = load(model_file, "urban")
    assert checkpoint.header == HEADER
    assert read_header(model_file) == HEADER
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    checkpoint.restore(other, "prompter")
    for name, value in module.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)


def test_nothing_stays_beside_the_file(model_file: Path) -> None:
    assert [path.name for path in model_file.parent.iterdir()] == ["model.safetensors"]


def test_half_precision_halves_the_file_and_loads_as_float32(tmp_path: Path, module: nn.Module) -> None:
    save(tmp_path / "half", collect_tensors(module, "prompter"), HEADER, half=True)
    checkpoint = load(tmp_path / "half", "urban")
    assert checkpoint.tensors["prompter.0.weight"].dtype == torch.float16
    assert checkpoint.tensors["prompter.1.num_batches_tracked"].dtype == torch.int64
    expected = module[0].weight.detach().half().float()
    checkpoint.restore(module, "prompter")
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())
    assert torch.equal(module[0].weight, expected)


@pytest.mark.parametrize("value", [1e6, float("nan")])
def test_weights_that_half_precision_cannot_hold_are_named(tmp_path: Path, value: float) -> None:
    tensors = {"prompter.fine": torch.zeros(2), "prompter.wild": torch.tensor([value])}
    with pytest.raises(CheckpointError, match=r"prompter\.wild"):
        save(tmp_path / "half", tensors, HEADER, half=True)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(
    model_file: Path, module: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = model_file.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("domainsam.tensorfile.os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        save(model_file, collect_tensors(module, "other"), HEADER)
    assert model_file.read_bytes() == before
    assert len(list(model_file.parent.iterdir())) == 1


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"cannot write .*file/model\.safetensors"):
        save(tmp_path / "file" / "model.safetensors", {}, HEADER)


def test_another_foundation_is_named_with_both_digests(model_file: Path) -> None:
    foundation = FakeFoundation()
    with pytest.raises(CheckpointError) as caught:
        load(model_file, "urban", foundation)
    text = str(caught.value)
    assert "'fake' (sha256 000000000000)" in text
    assert foundation.sha256[:12] in text
    assert "\n" not in text


def test_another_pack_is_refused(model_file: Path) -> None:
    with pytest.raises(CheckpointError, match="of pack 'urban', expected one of pack 'ct'"):
        load(model_file, "ct")


def test_another_format_version_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "new", {"prompter.x": torch.zeros(1)}, replace(HEADER, format_version=FORMAT_VERSION + 1))
    with pytest.raises(CheckpointError, match=f"format version {FORMAT_VERSION + 1}.*reads {FORMAT_VERSION}"):
        load(tmp_path / "new", "urban")


@pytest.mark.parametrize("legacy", [False, True])
def test_pickles_are_refused_without_being_run(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "model.safetensors"
    torch.save({"x": torch.zeros(1)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(CheckpointError, match="is a pickle"):
        load(path, "urban")
    path.write_bytes(pickle.dumps({"x": 1}))
    with pytest.raises(CheckpointError, match="is a pickle"):
        load(path, "urban")


def test_a_header_length_that_begins_like_a_pickle_is_no_pickle(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    for length in range(0, 256, 4):
        save(path, {}, replace(HEADER, labels=("x" * length,)))
        assert load(path, "urban").header.labels == ("x" * length,)
        if path.read_bytes()[:1] == b"\x80":
            return
    pytest.fail("no header of such a length was made")


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated_files_are_refused(model_file: Path, kept: int) -> None:
    model_file.write_bytes(model_file.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="damaged or cut short"):
        load(model_file, "urban")


def test_absent_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.safetensors cannot be read \(No such file"):
        load(tmp_path / "absent.safetensors", "urban")
    with pytest.raises(CheckpointError, match=r"cannot be read \(Is a directory"):
        load(tmp_path, "urban")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "no domainsam header"),
        ({METADATA_KEY: "not json"}, "cannot be read"),
        ({METADATA_KEY: "[1]"}, "cannot be read"),
        ({METADATA_KEY: json.dumps({"format_version": FORMAT_VERSION, "pack": "urban"})}, "expected"),
        ({METADATA_KEY: json.dumps({**asdict(HEADER), "labels": 3})}, "wrong type: labels"),
    ],
)
def test_files_of_others_are_refused(tmp_path: Path, metadata: dict[str, str] | None, message: str) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "other", metadata)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path / "other", "urban")


def test_missing_extra_and_misshapen_tensors_are_counted(tmp_path: Path, module: nn.Module) -> None:
    tensors = collect_tensors(module, "prompter")
    del tensors["prompter.0.bias"]
    tensors["prompter.9.bias"] = torch.zeros(1)
    tensors["prompter.0.weight"] = torch.zeros(4, 3, 1, 1)
    save(tmp_path / "odd", tensors, HEADER)
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path / "odd", "urban").restore(module, "prompter")
    for part in ("missing: 0.bias", "unexpected: 9.bias", "(4, 3, 1, 1) instead of (4, 3, 3, 3)"):
        assert part in str(caught.value)


def test_a_prompter_comes_back_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(0)
    prompter, foundation = (
        SegFormerPrompter(PrompterConfig(fusion="gate", mixer="add")).eval(),
        FakeFoundation(),
    )
    path = tmp_path / "model.safetensors"
    save_prompter(path, prompter, foundation, "urban", ("background", "settlement"), {"resolution": 0.9}, {})
    loaded, header = load_prompter(path, "urban", foundation)
    assert loaded.config == prompter.config
    assert header.config["resolution"] == 0.9
    assert not loaded.training
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(loaded.coarse(images).logits, prompter.coarse(images).logits)


def test_a_header_says_who_wrote_it_and_when(model_file: Path) -> None:
    header = read_header(model_file)
    assert header.domainsam_version == __version__
    assert datetime.fromisoformat(header.created).utcoffset() == timedelta(0)


def test_many_misfits_stay_one_short_line(tmp_path: Path) -> None:
    save(tmp_path / "bare", {}, HEADER)
    with pytest.raises(CheckpointError, match=r"and \d+ more") as caught:
        load(tmp_path / "bare", "urban").restore(SegFormerPrompter(), "prompter")
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_a_header_for_an_unknown_prompter_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "m", {}, replace(HEADER, config={"prompter": {"encoder": "mit_b0", "wings": 2}}))
    with pytest.raises(ConfigError, match="unknown key wings"):
        load_prompter(tmp_path / "m", "urban")


def test_what_a_model_knows_is_kept_and_files_without_it_are_read(
    tmp_path: Path, model_file: Path, module: nn.Module
) -> None:
    assert read_header(model_file).knows == {}
    known = {"channels": [], "samples": 3}
    save(tmp_path / "knowing", collect_tensors(module, "prompter"), replace(HEADER, knows=known))
    assert read_header(tmp_path / "knowing").knows == known
