"""Reading the Synapse set in its published layout, from generated files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from domainsam.errors import InputError, MissingInputError
from domainsam_ct.synapse import read_synapse

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
