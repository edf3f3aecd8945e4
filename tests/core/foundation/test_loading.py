"""Weight files are read without running them, told apart by their tensors, and misfits are named."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from domainsam.errors import CheckpointError, InputError, WeightsError
from domainsam.foundation import FOUNDATIONS, load_foundation
from domainsam.foundation.loading import identify, read_tensors
from domainsam.foundation.sam2 import build
from domainsam.limits import limited
from domainsam.tensorfile import load_strict
from domainsam.weights import FOLDER_VARIABLE, KNOWN


class Trap:
    """Runs a command when unpickled."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.flag}",)


@pytest.mark.parametrize("modern", [True, False])
def test_pickle_with_code_is_refused_and_not_run(tmp_path: Path, modern: bool) -> None:
    flag, path = tmp_path / "ran", tmp_path / "sam_vit_b_01ec64.pth"
    torch.save({"weight": torch.zeros(2), "x": Trap(flag)}, path, _use_new_zipfile_serialization=modern)
    with pytest.raises(CheckpointError, match="could run code"):
        load_foundation(path)
    assert not flag.exists()


def test_bare_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    flag, path = tmp_path / "ran", tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Trap(flag)))
    with pytest.raises(CheckpointError, match="could run code"):
        load_foundation(path)
    assert not flag.exists()


@pytest.mark.parametrize("name", ["half.pth", "half.safetensors"])
def test_file_cut_short_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    tensors = {"weight": torch.randn(100, 100)}
    if path.suffix == ".pth":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match=f"{name} is damaged or cut short"):
        read_tensors(path)


@pytest.mark.parametrize("inert", [False, True])
def test_a_changed_byte_is_found_by_its_checksum(tmp_path: Path, inert: bool) -> None:
    path = tmp_path / "changed.pth"
    torch.save({"weight": torch.ones(100, 100)}, path)
    content = path.read_bytes()
    one, half = np.float32(1).tobytes(), np.float32(0.5).tobytes()
    middle = content.index(20 * one)
    path.write_bytes(content[:middle] + half + content[middle + 4 :])
    with pytest.raises(CheckpointError, match=r"changed\.pth is damaged or cut short"):
        read_tensors(path, inert=inert)


def test_a_packed_checkpoint_is_held_to_the_memory_there_may_be(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(300_000)}, tmp_path / "inner.pt")
    path = tmp_path / "packed.pt.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "inner.pt", "weights/inner.pt")
    assert path.stat().st_size < 50_000
    with limited(memory="1M"), pytest.raises(InputError, match=r"packed\.pt\.zip: .*--max-memory"):
        read_tensors(path)
    assert read_tensors(path)["weight"].shape == (300_000,)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 64])
def test_what_is_no_weight_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"notes\.pth") as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: tensors,
        lambda tensors: {"model": tensors, "epoch": 3},
        lambda tensors: {"state_dict": {f"module.{name}": value for name, value in tensors.items()}},
        lambda tensors: {"state_dict": {"model": tensors}},
    ],
)
def test_wrappers_are_opened(tmp_path: Path, wrap: object) -> None:
    tensors = {"a.weight": torch.randn(3), "b.bias": torch.randn(2).half()}
    torch.save(wrap(tensors), tmp_path / "file.pt")  # type: ignore[operator]
    found = read_tensors(tmp_path / "file.pt")
    assert set(found) == set(tensors)
    assert all(torch.equal(found[name], tensors[name].float()) for name in tensors)


@pytest.mark.parametrize(("content", "told"), [([1, 2], "list"), ({}, "dict"), ({"epoch": 3}, "epoch")])
def test_files_without_tensors_are_refused(tmp_path: Path, content: object, told: str) -> None:
    torch.save(content, tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match=told):
        read_tensors(tmp_path / "file.pt")


def test_every_misfit_is_named_in_one_line() -> None:
    tensors = {"0.weight": torch.zeros(2, 3), "1.weight": torch.zeros(2, 2), "old.scale": torch.zeros(1)}
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4, bias=False))
    with pytest.raises(CheckpointError) as caught:
        load_strict(network, tensors, "file.pt")
    text = str(caught.value)
    assert "missing: 0.bias" in text
    assert "unexpected: old.scale" in text
    assert "wrong shape: 1.weight (2, 2) instead of (4, 2)" in text
    assert "\n" not in text


@pytest.mark.parametrize("name", ["sam2_hiera_tiny", "sam2.1_hiera_small"])
def test_sam2_files_are_told_apart(tmp_path: Path, name: str) -> None:
    torch.save({"model": build(name).state_dict()}, tmp_path / "weights.pt")
    assert identify(tmp_path / "weights.pt") == name


def test_strange_tensors_are_refused(tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(1)}, tmp_path / "resnet.pt")
    with pytest.raises(CheckpointError, match=r"resnet\.pt holds the tensors of no known foundation"):
        load_foundation(tmp_path / "resnet.pt")


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(WeightsError, match="sam_vit_b") as caught:
        load_foundation("sam_vit_x")
    assert all(name in str(caught.value) for name in FOUNDATIONS)


@pytest.mark.parametrize("name", sorted(name for name, entry in KNOWN.items() if entry.url))
def test_absent_file_says_how_to_get_it_and_where_it_belongs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(WeightsError) as caught:
        load_foundation(name)
    text = str(caught.value)
    for needed in (f"domainsam weights fetch {name}", KNOWN[name].url, str(tmp_path / KNOWN[name].file)):
        assert needed in text
    assert "\n" not in text


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, domainsam.foundation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
