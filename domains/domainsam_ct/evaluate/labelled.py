"""Read masks with the names of their organs, and pair them by case."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError, MissingInputError
from domainsam.grid import Grid
from domainsam_ct.evaluate.sidecar import get_mask_stem, read_names, read_warnings
from domainsam_ct.labels import LabelMap, find_organ, load_catalogue, match_name
from domainsam_ct.read.dicom.files import is_dicom_file
from domainsam_ct.read.open import read_mask
from domainsam_ct.read.volume import ScanGrid
from domainsam_ct.settings import MASK_SUFFIXES

GRID_TOLERANCE_MM = 0.01
"""How far apart voxel centres of two files may be that count as one grid; headers round to less."""

UNKNOWN_SHOWN = 5
ORGANS_WITHIN = "segmentations"
JOINED_LIMIT = 2
"""Two masks that lie farther apart than this many of their lengths have nothing to do with each other."""

Labels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class LabelledMask:
    """A mask in memory, canonical ``(X, Y, Z)``, with its place and the names of its values.

    ``native`` is the grid of the file's own axes. ``whole`` are the organs
    that share voxels with others, by value; of those ``values`` holds a part.
    ``warnings`` are what was to be told when it was read. Along ``open_axes``
    its edge need not be the scan's. With ``own_numbers`` its values are its
    own count of organs, which says nothing of other masks' values.
    ``frame_uid`` is its DICOM frame of reference, where it has one.
    """

    path: Path
    values: Labels
    grid: Grid
    native: Grid
    labels: LabelMap
    named: bool
    """Whether the names came from somewhere; otherwise they are ``label_1`` and so on."""
    warnings: tuple[str, ...] = ()
    whole: Mapping[int, NDArray[np.bool_]] = field(default_factory=dict)
    open_axes: tuple[bool, bool, bool] = (False, False, False)
    own_numbers: bool = False
    frame_uid: str = ""

    def scan_grid(self) -> ScanGrid:
        """Its voxels, for masks that have none of their own."""
        return ScanGrid(self.grid, self.native, self.path.name, self.frame_uid)

    def inside(self, value: int) -> NDArray[np.bool_]:
        """All voxels of an organ, ``(X, Y, Z)``."""
        return self.whole[value] if value in self.whole else np.asarray(self.values == value)

    def tell_unknown(self) -> tuple[str, ...]:
        """A note on values that nobody names, with their voxels."""
        counts = np.bincount(self.values.ravel())
        unknown = [int(value) for value in np.flatnonzero(counts) if value and int(value) not in self.labels]
        if not unknown:
            return ()
        told = ", ".join(f"{value} ({counts[value]} voxels)" for value in unknown[:UNKNOWN_SHOWN])
        more = f" and {len(unknown) - UNKNOWN_SHOWN} more" if len(unknown) > UNKNOWN_SHOWN else ""
        return (f"{self.path.name}: values that no name is known of are passed over: {told}{more}",)

    def place_on(self, grid: Grid, other: str) -> LabelledMask:
        """The mask on another canonical grid that holds all its voxels; what it does not cover is background.

        Raises
        ------
        InputError
            If its voxels are not voxels of ``grid``; ``other`` is what that is the grid of.
        """
        if is_same_grid(self.grid, grid):
            return replace(self, open_axes=(False, False, False))
        start = find_place(self.grid, grid)
        if start is None:
            require_same_grid(self.grid, self.path.name, grid, other)
            return self
        box = tuple(slice(first, first + size) for first, size in zip(start, self.values.shape, strict=True))

        def lay(part: NDArray[Any]) -> NDArray[Any]:
            made = np.zeros(grid.shape, part.dtype)
            made[box] = part
            return made

        return replace(
            self,
            values=lay(self.values),
            grid=grid,
            whole={value: lay(mask) for value, mask in self.whole.items()},
            open_axes=(False, False, False),
        )


def read_labelled(path: Path, labels: LabelMap | None = None, scan: ScanGrid | None = None) -> LabelledMask:
    """Read a mask, or a folder of masks named after one organ each.

    Names come from ``labels`` where given, else from the file's own header,
    else from a ``_labels.json`` beside it; where nobody tells, values are
    called ``label_1`` and so on. Warnings that were stored with the mask when
    it was made are among its own.

    Parameters
    ----------
    scan
        The voxels that contours are to fill; other masks have their own.

    Raises
    ------
    MissingInputError
        If there is no such file or folder.
    InputError
        If it is no mask, or organs of a folder lie on different grids.
    """
    path = find_single_object(path)
    if path.is_dir():
        return _read_folder(find_organ_folder(path))
    values, geometry = read_mask(path, scan)
    own = _organs(geometry.names)
    # A file that counts its own organs from 1 on means nothing of a label map by its numbers.
    names = own if geometry.own_numbers and own else labels or own or _beside(path)
    unnamed = not names
    if unnamed:
        present = np.flatnonzero(np.bincount(values.ravel()))
        names = {int(value): find_organ(f"label_{value}") for value in present if value}
    return LabelledMask(
        path,
        values,
        geometry.grid,
        Grid(geometry.native.shape, geometry.native.affine, "RAS"),
        dict(names),
        not unnamed,
        tuple(f"{path.name}: {warning}" for warning in (*geometry.warnings, *read_warnings(path))),
        geometry.whole,
        geometry.open_axes,
        geometry.own_numbers,
        geometry.frame_uid,
    )


def is_same_grid(one: Grid, other: Grid) -> bool:
    """Whether two grids have the same voxels, up to rounding in headers."""
    return one.shape == other.shape and measure_gap(one, other) <= GRID_TOLERANCE_MM


def measure_gap(one: Grid, other: Grid) -> float:
    """Largest distance in millimetres between voxels of equal index of two grids of one shape."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]) * (np.array(one.shape) - 1)
    return float(np.linalg.norm(one.to_world(corners) - other.to_world(corners), axis=1).max())


def find_place(part: Grid, whole: Grid) -> tuple[int, int, int] | None:
    """Where a grid begins in another whose voxels it shares; None where it does not, or reaches outside.

    An axis of one voxel has no step that could differ.
    """
    start = np.rint(whole.to_index(part.to_world([0, 0, 0]))).astype(int)
    sizes = np.array(part.shape)
    if (start < 0).any() or (start + sizes > np.array(whole.shape)).any():
        return None
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]) * (sizes - 1)
    apart = np.linalg.norm(part.to_world(corners) - whole.to_world(corners + start), axis=1).max()
    return (int(start[0]), int(start[1]), int(start[2])) if apart <= GRID_TOLERANCE_MM else None


def join_grids(one: Grid, other: Grid) -> Grid | None:
    """The smallest grid that holds two grids of the same lattice of voxels; None where they are of none."""
    offset = np.rint(one.to_index(other.to_world([0, 0, 0]))).astype(int)
    low = np.minimum(0, offset)
    high = np.maximum(one.shape, offset + np.array(other.shape))
    if (high - low > JOINED_LIMIT * np.maximum(one.shape, other.shape)).any():
        return None
    affine = one.affine.copy()
    affine[:3, 3] = one.to_world(low.astype(float))
    x, y, z = (int(size) for size in high - low)
    whole = Grid((x, y, z), affine, one.frame)
    return whole if find_place(one, whole) is not None and find_place(other, whole) is not None else None


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
    apart = measure_gap(one, other)
    if apart > GRID_TOLERANCE_MM:
        raise InputError(
            f"{one_name} and {other_name} are on different grids (voxels up to {apart:.2f} mm apart): "
            "resample one to the other"
        )


def is_mask_file(path: Path) -> bool:
    """Whether a file's name is that of a mask."""
    return path.is_file() and path.name.lower().endswith((*MASK_SUFFIXES, "_seg.dcm"))


def is_organ_folder(path: Path) -> bool:
    """Whether a folder, or its folder ``segmentations``, holds masks of single organs, named after them."""
    return path.is_dir() and any(
        get_mask_stem(file) in load_catalogue()
        for file in find_organ_folder(path).iterdir()
        if is_mask_file(file)
    )


def find_organ_folder(path: Path) -> Path:
    """The folder ``segmentations`` within a case's folder, as public data sets have it; else the folder."""
    within = path / ORGANS_WITHIN
    return within if within.is_dir() else path


def find_single_object(path: Path) -> Path:
    """The one DICOM file of a folder that holds nothing else, as archives export objects; else the path."""
    if not path.is_dir():
        return path
    files = [file for file in path.iterdir() if not file.name.startswith(".")]
    return files[0] if len(files) == 1 and is_dicom_file(files[0]) else path


def _read_folder(path: Path) -> LabelledMask:
    if not is_organ_folder(path):
        raise MissingInputError(f"{path}: holds no masks named after organs, such as liver.nii.gz")
    files = sorted(
        file for file in path.iterdir() if is_mask_file(file) and get_mask_stem(file) in load_catalogue()
    )
    first = read_mask(files[0])
    values = np.zeros(first.labels.shape, np.uint8 if len(files) < 256 else np.uint16)
    labels: LabelMap = {}
    shared: set[int] = set()
    warnings: list[str] = []
    for value, file in enumerate(files, start=1):
        part, geometry = read_mask(file) if value > 1 else first
        require_same_grid(geometry.grid, file.name, first.geometry.grid, files[0].name)
        warnings += geometry.warnings
        others = {int(other) for other in np.unique(values[part > 0])} - {0}
        shared |= others | ({value} if others else set())
        values[part > 0] = value
        labels[value] = find_organ(get_mask_stem(file))
    # Those that share voxels are read once more, for one volume of numbers cannot hold them.
    whole = {value: read_mask(files[value - 1]).labels > 0 for value in sorted(shared)}
    if shared:
        told = ", ".join(labels[value].name for value in sorted(shared))
        warnings.append(f"organs overlap ({told}): each is measured whole")
    left = [file.name for file in sorted(path.iterdir()) if is_mask_file(file) and file not in files]
    if left:
        warnings.append(f"not read, for their names are no organs: {', '.join(left[:UNKNOWN_SHOWN])}")
    native = Grid(first.geometry.native.shape, first.geometry.native.affine, "RAS")
    warnings += read_warnings(path)
    told_once = tuple(f"{path.name}: {warning}" for warning in dict.fromkeys(warnings))
    return LabelledMask(
        path, values, first.geometry.grid, native, labels, True, told_once, whole, own_numbers=True
    )


def _organs(names: Mapping[int, str]) -> LabelMap:
    return {value: find_organ(match_name(name)) for value, name in sorted(names.items()) if value}


def _beside(path: Path) -> LabelMap:
    """Names from the ``_labels.json`` that segmenting leaves beside a mask; none where there is none."""
    return _organs(read_names(path))


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
    return is_mask_file(path) or is_organ_folder(path) or is_dicom_file(find_single_object(path))
