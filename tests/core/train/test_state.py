"""The start of a training run: what is refused before hours of work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from domainsam.errors import ConfigError, OutputError
from domainsam.train.devices import choose_training_precision
from domainsam.train.state import prepare_run


def test_a_run_gets_its_folder(tmp_path: Path) -> None:
    prepare_run(tmp_path / "m.safetensors", tmp_path / "a" / "b", replace=False)
    assert (tmp_path / "a" / "b").is_dir()


def test_models_that_could_not_be_written_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"m\.pth' should end in \.safetensors"):
        prepare_run(tmp_path / "m.pth", tmp_path / "room", replace=True)
    model = tmp_path / "m.safetensors"
    model.write_text("precious")
    with pytest.raises(OutputError, match="--overwrite"):
        prepare_run(model, tmp_path / "room", replace=False)
    prepare_run(model, tmp_path / "room", replace=True)
    assert model.read_text() == "precious"
    with pytest.raises(OutputError, match="cannot be made"):
        prepare_run(tmp_path / "n.safetensors", model / "room", replace=False)


@pytest.mark.parametrize(
    ("name", "device", "able", "expected"),
    [
        ("auto", "cpu", True, "float32"),
        ("auto", "cuda", True, "bfloat16"),
        ("auto", "cuda:1", False, "float32"),
        ("bf16", "cpu", False, "bfloat16"),
        ("fp32", "cuda", True, "float32"),
    ],
)
def test_precision_of_training(
    monkeypatch: pytest.MonkeyPatch, name: str, device: str, able: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: able)
    assert choose_training_precision(name, device) == expected


def test_training_in_float16_is_refused() -> None:
    with pytest.raises(ConfigError, match="--precision bf16 or fp32"):
        choose_training_precision("fp16", "cuda")
