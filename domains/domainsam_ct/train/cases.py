"""Find, pair, check and stage labelled cases from the user's files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import DomainSamError, InputError, MissingInputError
from domainsam.grid import Grid
from domainsam.infer.outputs import without_ending
from domainsam_ct.evaluate.labelled import ORGANS_WITHIN, get_case_name, is_organ_folder, read_labelled
from domainsam_ct.labels import LabelMap, name_classes
from domainsam_ct.read.geometry import to_axial
from domainsam_ct.read.open import open_volume, read_mask
from domainsam_ct.read.volume import ITK_NAMES, NIFTI_NAMES
from domainsam_ct.train.case import Case, Material, coarsen_case
from domainsam_ct.train.recipe import SplitOptions

ENDINGS = (*NIFTI_NAMES, *ITK_NAMES, ".zip", ".dcm")
CHUNK = 16
"""Slices that are read and resampled together."""
OFF_GRID = 0.1
"""Labels may lie so far beside their image, in voxels, at its farthest corner."""
FAULTS_SHOWN = 3
SAME_NAMES = ("ct", "image", "imaging", "scan", "volume")
"""What scans are called that have their case's name in their folder's."""
LOWEST_HU, HIGHEST_HU = -1024, 3071
"""Twelve bits of Hounsfield units; what scanners store beyond is padding or metal."""


@dataclass(frozen=True)
class Pair:
    """An image and its labels."""

    name: str
    image: Path
    labels: Path


def find_pairs(inputs: Sequence[Path], labels: Path) -> list[Pair]:
    """Images and the label file of the same name for each.

    A folder's volumes are its cases; a folder within it without volumes of
    its own is a DICOM series. The label file of ``NAME.nii.gz`` is
    ``NAME.nii.gz`` (any ending) in ``labels``; of ``NAME_0000.nii.gz``, as
    nnU-Net names images, ``NAME.nii.gz``; ``NAME_seg``, ``NAME_label`` and
    such will do too.

    Raises
    ------
    MissingInputError
        If there is no case, or labels for a case are missing.
    """
    images = [image for given in inputs for image in _images(given)]
    if not images:
        raise MissingInputError(
            f"no CT volumes in {', '.join(map(str, inputs))}: expected .nii.gz, .nrrd or DICOM"
        )
    if labels.is_file():
        if len(images) != 1:
            raise InputError(
                f"{labels} is one label file for {len(images)} cases: give a folder of label files"
            )
        return [Pair(_stem(images[0]), images[0], labels)]
    if is_organ_folder(labels):
        if len(images) != 1:
            raise InputError(f"{labels} are the organs of one case, and there are {len(images)} cases")
        return [Pair(_stem(images[0]), images[0], labels)]
    files = sorted(labels.iterdir()) if labels.is_dir() else []
    # A file's own name counts before what is left of it without an ending.
    known = {get_case_name(path): path for path in files} | {_stem(path): path for path in files}
    pairs, missing = [], []
    for image, name in zip(images, _name_images(images), strict=True):
        found = known.get(name) or known.get(name.removesuffix("_0000")) or known.get(_stem(image))
        if found is None or found == image:
            missing.append(image.name)
        else:
            pairs.append(Pair(name, image, found))
    if missing:
        raise MissingInputError(
            f"no labels in {labels} for {len(missing)} of {len(images)} cases: {_some(missing)}; "
            "a label file is named as its image is, or NAME_seg, NAME_label"
        )
    return pairs


def _images(given: Path) -> list[Path]:
    if not given.exists():
        raise MissingInputError(f"{given}: no such file or folder; check the path")
    if given.is_file():
        return [given]
    inside = [path for path in sorted(given.iterdir()) if not path.name.startswith(".")]
    volumes = [path for path in inside if path.is_file() and path.name.lower().endswith(ENDINGS[:-1])]
    folders = [_scan_within(path) for path in inside if path.is_dir() and path.name != ORGANS_WITHIN]
    # A folder with neither is one series, whose files may have any name.
    return volumes + folders or [given]


def _scan_within(folder: Path) -> Path:
    """The volume of a case's folder that holds no other file (``s0001/ct.nii.gz``); else the folder."""
    files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    alone = len(files) == 1 and files[0].name.lower().endswith((*NIFTI_NAMES, *ITK_NAMES))
    return files[0] if alone else folder


def _stem(path: Path) -> str:
    return without_ending(path.name, ENDINGS)


def _name_images(images: Sequence[Path]) -> list[str]:
    """Names of the cases: the files' own, or their folders' where files share one name."""
    stems = [_stem(image) for image in images]
    return [
        image.absolute().parent.name if stems.count(stem) > 1 or stem in SAME_NAMES else stem
        for image, stem in zip(images, stems, strict=True)
    ]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - FAULTS_SHOWN} more" if len(names) > FAULTS_SHOWN else ""
    return "; ".join(names[:FAULTS_SHOWN]) + more


def gather(
    pairs: Sequence[Pair],
    label_map: LabelMap,
    split: SplitOptions,
    pixel_mm: float,
    folder: Path,
    seed: int,
    ignore_unknown: bool = False,
) -> Material:
    """Check every case, then lay all of them out in a folder as arrays that training maps into memory.

    Parameters
    ----------
    pairs
        From :func:`find_pairs`.
    label_map
        Values of the label files; the model's classes are its organs in the order of their values.
    pixel_mm
        Pixel that training slices need not be finer than.
    folder
        Takes about four bytes a voxel.
    ignore_unknown
        Values that the label map does not name are background instead of a fault.

    Raises
    ------
    InputError
        Naming all faults of all cases: what cannot be read, labels on another
        grid, values that the label map does not know.
    """
    names = name_classes(label_map)
    table = {value: index for index, value in enumerate(sorted(label_map), start=1)}
    judged = choose_judged([pair.name for pair in pairs], split, seed)
    training: list[Case] = []
    validation: list[Case] = []
    faults: list[str] = []
    notes: list[str] = []
    for number, pair in enumerate(pairs):
        keep = pair.name in judged
        try:
            case = stage_case(
                pair, table, folder / f"{number:04d}", 0.0 if keep else pixel_mm, ignore_unknown, names
            )
        except DomainSamError as error:
            faults.append(f"{pair.image.name}: {error}")
            continue
        if not case.filled.any():
            notes.append(f"{pair.image.name} shows no organ of the label map")
        (validation if keep else training).append(case)
    if faults:
        raise InputError(f"{len(faults)} of {len(pairs)} cases cannot be used: {_some(faults)}")
    return Material(names, training, validation, tuple(notes))


def choose_judged(names: Sequence[str], split: SplitOptions, seed: int) -> frozenset[str]:
    """Names of the cases that are kept for validation, decided by the seed and the names alone.

    Raises
    ------
    InputError
        If there are fewer cases than folds, or none would be left to train on.
    """
    ordered = sorted(names)
    order = [ordered[index] for index in np.random.default_rng(seed).permutation(len(ordered))]
    if split.folds:
        if len(order) < split.folds:
            raise InputError(f"{len(order)} cases for {split.folds} folds: expected as many cases as folds")
        return frozenset(order[split.fold :: split.folds])
    if not split.share:
        return frozenset()
    count = max(1, round(split.share * len(order)))
    if count >= len(order):
        raise InputError(
            f"{len(order)} case(s) cannot be split into training and validation: "
            "give more cases, or --val-share 0 to train on all"
        )
    return frozenset(order[:count])


def stage_case(
    pair: Pair,
    table: Mapping[int, int],
    folder: Path,
    pixel_mm: float,
    ignore_unknown: bool,
    names: Sequence[str] = (),
) -> Case:
    """One case, checked, its arrays in files of a new folder.

    Raises
    ------
    InputError
        If image or labels cannot be read, they lie on different grids, or a
        label value is unknown.
    """
    with open_volume(pair.image) as volume:
        if pair.labels.is_dir():
            labels = read_organs(pair.labels, names, volume.grid)
        else:
            mask = read_mask(pair.labels)
            check_same_grid(volume.grid, mask.geometry.grid)
            labels = renumber_labels(to_axial(mask.labels), table, ignore_unknown)
        right, front, up = volume.spacing
        depth = volume.shape[2]
        folder.mkdir(parents=True)
        arrays: dict[str, Any] = {}
        spacing = (up, front, right)
        for start in range(0, depth, CHUNK):
            stop = min(start + CHUNK, depth)
            units = np.clip(to_axial(volume.slices(start, stop)), LOWEST_HU, HIGHEST_HU)
            part = Case(pair.name, np.round(units).astype(np.int16), labels[start:stop], spacing)
            part = coarsen_case(part, pixel_mm)
            spacing_out = part.spacing_mm
            for name, values in (("slices", part.slices), ("labels", part.labels)):
                if name not in arrays:
                    arrays[name] = np.lib.format.open_memmap(
                        folder / f"{name}.npy", "w+", values.dtype, (depth, *values.shape[1:])
                    )
                arrays[name][start:stop] = values
    for array in arrays.values():
        array.flush()
    # Opened anew and read-only, so that no step of training can change them.
    slices = np.load(folder / "slices.npy", mmap_mode="r")
    return Case(pair.name, slices, np.load(folder / "labels.npy", mmap_mode="r"), spacing_out)


def read_organs(folder: Path, names: Sequence[str], image: Grid) -> NDArray[np.uint8]:
    """Classes of the model, as axial images, from a folder of masks named after one organ each.

    Where organs overlap, the later of ``names`` wins; organs that are not among them are background.

    Raises
    ------
    InputError
        If the masks cannot be read, or lie on another grid than the image.
    """
    read = read_labelled(folder)
    check_same_grid(image, read.grid)
    values = {organ.name: value for value, organ in read.labels.items()}
    classes = np.zeros(read.values.shape, np.uint8)
    for number, name in enumerate(names):
        if name in values:
            classes[read.inside(values[name])] = number
    return to_axial(classes)


def check_same_grid(image: Grid, labels: Grid) -> None:
    """Refuse labels that do not lie voxel on voxel on their image.

    Raises
    ------
    InputError
        Saying what differs: the shape, or the place of the farthest corner.
    """
    if image.shape != labels.shape:
        raise InputError(
            f"labels have shape {labels.shape}, the image {image.shape}: they must lie on one grid"
        )
    last = np.array(image.shape) - 1
    corners = np.array(np.meshgrid(*[(0, size) for size in last], indexing="ij")).reshape(3, -1).T
    apart = np.linalg.norm(image.to_world(corners) - labels.to_world(corners), axis=1).max()
    if apart > OFF_GRID * min(image.spacing):
        raise InputError(
            f"labels lie up to {apart:.2g} mm beside the image: their affine or spacing differs; "
            "resample them onto the image"
        )


def renumber_labels(
    labels: NDArray[Any], table: Mapping[int, int], ignore_unknown: bool
) -> NDArray[np.uint8]:
    """Labels as classes of the model.

    Raises
    ------
    InputError
        If a value is neither 0 nor in the table.
    """
    found = np.unique(labels)
    unknown = [int(value) for value in found if value and int(value) not in table]
    if unknown and not ignore_unknown:
        raise InputError(
            f"label values {', '.join(map(str, unknown[:8]))} are not in the label map: "
            "name them there, or make them background with --ignore-unknown"
        )
    lookup = np.zeros(int(found.max(initial=0)) + 1, np.uint8)
    for value in found:
        lookup[value] = table.get(int(value), 0)
    classes: NDArray[np.uint8] = lookup[labels]
    return classes
