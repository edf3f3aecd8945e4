"""Read the Synapse set as TransUNet prepared it.

``train_npz/case0005_slice012.npz`` holds ``image`` and ``label`` of a slice,
``test_vol_h5/case0008.npy.h5`` those of a whole case. Images are windowed to 0
to 1 from -125 to 275 HU; spacing and orientation are not kept. Two text files
say which are for training and which for testing, a name a line.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from domainsam.documents import read_lines
from domainsam.errors import DependencyError, InputError, MissingInputError
from domainsam.io.arrays import read_h5, read_npz
from domainsam.names import check_part
from domainsam_ct.labels import load_label_map, name_classes
from domainsam_ct.train.case import Case, Material

WINDOW = (-125.0, 275.0)
"""What the stored 0 and 1 stand for."""
SPACING_MM = (1.0, 1.0, 1.0)
"""Nominal: the prepared files say nothing of it."""
SLICE_MARK = "_slice"


def read_synapse(root: Path, train_list: Path, test_list: Path | None) -> Material:
    """Training slices by case, and test volumes, of the published layout.

    Parameters
    ----------
    root
        Folder that holds ``train_npz`` and ``test_vol_h5``.
    train_list, test_list
        Names of slices and of volumes, a line each; without a test list nothing is judged.

    Raises
    ------
    MissingInputError
        If a list or a listed file is absent.
    InputError
        If a file does not hold what it should.
    DependencyError
        If test volumes are asked for and ``h5py`` is not installed.
    """
    labels = name_classes(load_label_map("synapse"))
    groups: dict[str, list[str]] = defaultdict(list)
    for name in _names(train_list):
        groups[name.partition(SLICE_MARK)[0]].append(name)
    training = [_slices(root, case, sorted(names), len(labels)) for case, names in sorted(groups.items())]
    tested = [] if test_list is None else [_volume(root, name, len(labels)) for name in _names(test_list)]
    return Material(labels, training, tested)


def _names(path: Path) -> list[str]:
    if not path.is_file():
        raise MissingInputError(f"list '{path}' cannot be read (no such file): check the path")
    names = [name for line in read_lines(path, "a list of names") for name in line.split()]
    for name in names:
        check_part(name, str(path))
    if not names:
        raise InputError(f"list '{path}' names nothing")
    return names


def _slices(root: Path, case: str, names: list[str], classes: int) -> Case:
    images, labels = [], []
    for name in names:
        path = root / "train_npz" / f"{name}.npz"
        if not path.is_file():
            raise MissingInputError(f"{path}: no such file, though the list names it")
        held = read_npz(path, ("image", "label"))
        image, label = held["image"], held["label"]
        images.append(image)
        labels.append(label)
    return _case(case, images, labels, classes)


def _volume(root: Path, name: str, classes: int) -> Case:
    path = root / "test_vol_h5" / f"{name}.npy.h5"
    if not path.is_file():
        raise MissingInputError(f"{path}: no such file, though the list names it")
    try:
        held = read_h5(path, ("image", "label"))
    except ImportError as error:
        raise DependencyError("reading test_vol_h5 needs h5py: run pip install 'domainsam[hdf5]'") from error
    return _case(name, list(held["image"]), list(held["label"]), classes)


def _case(name: str, images: list[Any], labels: list[Any], classes: int) -> Case:
    shapes = {part.shape for part in (*images, *labels)}
    if len(shapes) != 1 or len(next(iter(shapes))) != 2:
        raise InputError(
            f"{name}: slices and labels have shapes {sorted(shapes)}, expected one size of 2 axes"
        )
    stack, truth = np.stack(images).astype(np.float32), np.stack(labels)
    if not np.isfinite(stack).all() or stack.min() < -1e-3 or stack.max() > 1 + 1e-3:
        raise InputError(
            f"{name}: image values lie beyond 0 to 1, expected slices that were windowed already"
        )
    if truth.min() < 0 or truth.max() >= classes:
        raise InputError(f"{name}: labels go up to {truth.max():g}, expected 0 to {classes - 1}")
    low, high = WINDOW
    units = np.round(stack * (high - low) + low).astype(np.int16)
    return Case(name, units, truth.astype(np.uint8), SPACING_MM)
