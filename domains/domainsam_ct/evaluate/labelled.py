"""Read masks with the names of their organs, and pair them by case."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError, MissingInputError
from domainsam.grid import Grid
from domainsam.infer.outputs import without_ending
from domainsam_ct.labels import LabelMap, Organ, find_organ, load_catalogue
from domainsam_ct.read.open import read_mask
from domainsam_ct.settings import MASK_SUFFIXES, SIDE_FILES

GRID_TOLERANCE_MM = 0.01
"""How far apart voxel centres of two files may be that count as one grid; headers round to less."""

Labels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class LabelledMask:
    """A mask in memory, canonical ``(X, Y, Z)``, with its place and the names of its values.

    ``native`` is the grid of the file's own axes.
    """

    path: Path
    values: Labels
    grid: Grid
    native: Grid
    labels: LabelMap
    named: bool
    """Whether the names came from somewhere; otherwise they are ``label_1`` and so on."""


def read_labelled(path: Path, labels: LabelMap | None = None) -> LabelledMask:
    """Read a mask, or a folder of masks named after one organ each.

    Names come from ``labels`` where given, else from the file's own header,
    else from a ``_labels.json`` beside it; where nobody tells, values are
    called ``label_1`` and so on.

    Raises
    ------
    MissingInputError
        If there is no such file or folder.
    InputError
        If it is no mask, or organs of a folder lie on different grids.
    """
    if path.is_dir():
        return _read_folder(path)
    values, geometry = read_mask(path)
    names = labels or _organs(geometry.names) or _beside(path)
    native = Grid(geometry.native.shape, geometry.native.affine, "RAS")
    if names:
        return LabelledMask(path, values, geometry.grid, native, dict(names), True)
    present = np.flatnonzero(np.bincount(values.ravel()))
    unnamed = {int(value): Organ(f"label_{value}") for value in present if value}
    return LabelledMask(path, values, geometry.grid, native, unnamed, False)


def require_same_grid(one: Grid, one_name: str, other: Grid, other_name: str) -> None:
    """Refuse two files whose voxels do not lie on each other.

    Raises
    ------
    InputError
        If shapes differ, or voxel centres by more than :data:`GRID_TOLERANCE_MM`.
    """
    if one.shape != other.shape:
        sizes = " and ".join(" x ".join(map(str, grid.shape)) for grid in (one, other))
        raise InputError(
            f"{one_name} and {other_name} are on different grids ({sizes} voxels): resample one to the other"
        )
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]) * (np.array(one.shape) - 1)
    apart = float(np.linalg.norm(one.to_world(corners) - other.to_world(corners), axis=1).max())
    if apart > GRID_TOLERANCE_MM:
        raise InputError(
            f"{one_name} and {other_name} are on different grids (voxels up to {apart:.2f} mm apart): "
            "resample one to the other"
        )


def get_mask_stem(path: Path) -> str:
    """A mask's name without extension."""
    return without_ending(path.name, (*MASK_SUFFIXES, ".dcm"))


def is_mask_file(path: Path) -> bool:
    """Whether a file's name is that of a mask."""
    return path.is_file() and path.name.lower().endswith((*MASK_SUFFIXES, "_seg.dcm"))


def is_organ_folder(path: Path) -> bool:
    """Whether a folder holds masks of single organs, named after them."""
    return path.is_dir() and any(
        get_mask_stem(file) in load_catalogue() for file in path.iterdir() if is_mask_file(file)
    )


def _read_folder(path: Path) -> LabelledMask:
    if not is_organ_folder(path):
        raise MissingInputError(f"{path}: holds no masks named after organs, such as liver.nii.gz")
    files = sorted(
        file for file in path.iterdir() if is_mask_file(file) and get_mask_stem(file) in load_catalogue()
    )
    first = read_mask(files[0])
    whole = np.zeros(first.labels.shape, np.uint8)
    labels: LabelMap = {}
    for value, file in enumerate(files, start=1):
        part, geometry = read_mask(file) if value > 1 else first
        require_same_grid(geometry.grid, file.name, first.geometry.grid, files[0].name)
        whole[part > 0] = value
        labels[value] = find_organ(get_mask_stem(file))
    native = Grid(first.geometry.native.shape, first.geometry.native.affine, "RAS")
    return LabelledMask(path, whole, first.geometry.grid, native, labels, True)


def _organs(names: Mapping[int, str]) -> LabelMap:
    return {value: find_organ(name) for value, name in sorted(names.items()) if value}


def _beside(path: Path) -> LabelMap:
    """Names from the ``_labels.json`` that segmenting leaves beside a mask; none where there is none."""
    stem = get_mask_stem(path)
    for name in (f"{stem}{SIDE_FILES['labels']}", f"{stem.removesuffix('_seg')}{SIDE_FILES['labels']}"):
        file = path.with_name(name)
        if file.is_file():
            return _parse(file)
    return {}


def _parse(file: Path) -> LabelMap:
    try:
        table: Any = json.loads(file.read_text(encoding="utf-8"))["labels"]
        return _organs({int(value): str(name) for name, value in table.items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: does not tell which value is which organ; remove it or mend it") from error


_ENDINGS = re.compile(
    r"(?<=.)[_.-](seg|segmentation|mask|label|labels|pred|prediction|gt|truth)$", re.IGNORECASE
)


@dataclass(frozen=True)
class Pair:
    """A case: its name, predicted mask, and mask of labels."""

    case: str
    predicted: Path
    truth: Path


def find_pairs(predicted: Path, truth: Path) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """Pair two masks, or two folders of masks by the names of their cases.

    A case's name is the file's without extension and without an ending such
    as ``_seg`` or ``_label``. A folder of masks named after organs is one mask.

    Returns
    -------
    The pairs by name, and the names of predictions that have no labels.

    Raises
    ------
    MissingInputError
        If one is not there, or no prediction has labels.
    InputError
        If a file is compared with a folder, or two masks of a folder have one name.
    """
    for path in (predicted, truth):
        if not path.exists():
            raise MissingInputError(f"{path}: no such file or folder; check the path")
    if _is_mask(predicted) and _is_mask(truth):
        return (Pair(get_case_name(predicted), predicted, truth),), ()
    if predicted.is_file() != truth.is_file():
        raise InputError(f"'{predicted}' and '{truth}': give two masks or two folders of masks")
    masks, labels = list_cases(predicted), list_cases(truth)
    pairs = [Pair(case, path, labels[case]) for case, path in masks.items() if case in labels]
    if not pairs:
        raise MissingInputError(
            f"no mask in '{predicted}' has labels in '{truth}': X.nii.gz, X_seg.nii.gz and X_label.nii.gz "
            "belong together"
        )
    return tuple(pairs), tuple(case for case in masks if case not in labels)


def list_cases(folder: Path) -> dict[str, Path]:
    """Masks of a folder by case, in alphabetical order.

    Raises
    ------
    InputError
        If two have one name.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not _is_mask(path):
            continue
        case = get_case_name(path)
        if case in found:
            raise InputError(f"'{found[case].name}' and '{path.name}' in '{folder}' are both case {case}")
        found[case] = path
    return found


def get_case_name(path: Path) -> str:
    """Name of the case that a mask belongs to."""
    return _ENDINGS.sub("", get_mask_stem(path))


def _is_mask(path: Path) -> bool:
    return is_mask_file(path) or is_organ_folder(path) or (path.is_file() and path.suffix.lower() == ".dcm")
