"""Reading the Synapse set in its published layout, from generated files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from domainsam.errors import ConfigError, InputError, MissingInputError
from domainsam.train.loop import StageOptions
from domainsam_ct.commands.train import train
from domainsam_ct.model.organs import load_model
from domainsam_ct.train.organs import build_network
from domainsam_ct.train.recipe import TrainConfig, make_paper_recipe, read_recipe
from domainsam_ct.train.synapse import read_synapse
from tests.ct.organs import tiny_foundation
from tests.toml_text import to_toml

h5py = pytest.importorskip("h5py")


def write_tree(root: Path, scale: float = 1.0) -> tuple[Path, Path]:
    """Two training cases of two slices, one test volume, and both lists."""
    random = np.random.default_rng(0)
    (root / "train_npz").mkdir(parents=True)
    (root / "test_vol_h5").mkdir()
    names = [f"case{case:04d}_slice{index:03d}" for case in (5, 6) for index in (0, 1)]
    for name in names:
        image = random.random((32, 32)).astype(np.float32) * scale
        np.savez(root / "train_npz" / f"{name}.npz", image=image, label=random.integers(0, 9, (32, 32)))
    with h5py.File(root / "test_vol_h5" / "case0008.npy.h5", "w") as file:
        file["image"] = random.random((3, 32, 32)).astype(np.float32)
        file["label"] = random.integers(0, 9, (3, 32, 32)).astype(np.float32)
    (root / "train.txt").write_text("\n".join(reversed(names)) + "\n")
    (root / "test_vol.txt").write_text("case0008\n")
    return root / "train.txt", root / "test_vol.txt"


def test_published_layout(tmp_path: Path) -> None:
    lists = write_tree(tmp_path)
    found = read_synapse(tmp_path, *lists)
    assert found.labels[:3] == ("background", "spleen", "kidney_right")
    assert [case.name for case in found.training] == ["case0005", "case0006"]
    assert [case.slices.shape for case in (*found.training, *found.judged)] == [(2, 32, 32)] * 2 + [
        (3, 32, 32)
    ]
    with np.load(tmp_path / "train_npz" / "case0005_slice001.npz") as held:
        units = held["image"] * 400 - 125
        assert np.abs(found.training[0].slices[1] - units).max() <= 0.5 + 1e-4
        assert np.array_equal(found.training[0].labels[1], held["label"])
    assert not read_synapse(tmp_path, lists[0], None).judged


def test_faults_of_the_layout_are_named(tmp_path: Path) -> None:
    lists = write_tree(tmp_path)
    (tmp_path / "train_npz" / "case0005_slice000.npz").unlink()
    with pytest.raises(MissingInputError, match="case0005_slice000"):
        read_synapse(tmp_path, *lists)
    with pytest.raises(MissingInputError, match="list"):
        read_synapse(tmp_path, tmp_path / "none.txt", None)


def test_slices_in_hounsfield_units_are_refused(tmp_path: Path) -> None:
    lists = write_tree(tmp_path, scale=300.0)
    with pytest.raises(InputError, match="windowed already"):
        read_synapse(tmp_path, *lists)


def test_published_layout_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("domainsam.train.start", "domainsam_ct.model.organs"):
        monkeypatch.setattr(f"{module}.load_foundation", lambda *_, **more: tiny_foundation())
    lists = write_tree(tmp_path / "data")
    recipe = replace(
        make_paper_recipe(TrainConfig()),
        crop=64,
        batch_size=2,
        optimisation=StageOptions(2, warmup=1, schedule="poly", ema=0.0),
    )
    recipe = replace(recipe, model=replace(recipe.model, side=64))
    (tmp_path / "recipe.toml").write_text(to_toml(recipe), encoding="utf-8")
    assert read_recipe(tmp_path / "recipe.toml") == recipe
    out = tmp_path / "model.safetensors"
    words = [tmp_path / "data", "--train-list", lists[0], "--test-list", lists[1], "-o", out]
    words += ["--config", tmp_path / "recipe.toml", "--device", "cpu", "--json"]
    done = CliRunner().invoke(train, [str(word) for word in words], catch_exceptions=False)
    told = json.loads(done.stdout)
    assert told["gates"].keys() == {"16"}
    assert "dice_spleen" in told["metrics"]
    model = load_model(out, device="cpu")
    assert model.config.pixel_mm == 0
    # Random and frozen as published, yet in the file: loading gives the very tokens of the training.
    fresh = build_network(recipe, tiny_foundation(), len(model.labels), 0)
    trained, begun = model.network.state_dict(), fresh.state_dict()
    assert torch.equal(trained["decoder.tokens"], begun["decoder.tokens"])
    assert not torch.equal(trained["ladder.gates"], begun["ladder.gates"])


def test_the_layout_has_no_millimetres(tmp_path: Path) -> None:
    lists = write_tree(tmp_path / "data")
    words = [str(tmp_path / "data"), "--train-list", str(lists[0]), "-o", str(tmp_path / "m.safetensors")]
    with pytest.raises(ConfigError, match="holds no spacing"):
        CliRunner().invoke(train, [*words, "--device", "cpu"], catch_exceptions=False)
