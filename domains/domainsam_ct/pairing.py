"""Which predicted mask belongs to which mask of labels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from domainsam.errors import InputError, MissingInputError
from domainsam_ct.labelled import is_mask_file, is_organ_folder, mask_stem

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
        return (Pair(case_name(predicted), predicted, truth),), ()
    if predicted.is_file() != truth.is_file():
        raise InputError(f"'{predicted}' and '{truth}': give two masks or two folders of masks")
    masks, labels = cases_of(predicted), cases_of(truth)
    pairs = [Pair(case, path, labels[case]) for case, path in masks.items() if case in labels]
    if not pairs:
        raise MissingInputError(
            f"no mask in '{predicted}' has labels in '{truth}': X.nii.gz, X_seg.nii.gz and X_label.nii.gz "
            "belong together"
        )
    return tuple(pairs), tuple(case for case in masks if case not in labels)


def cases_of(folder: Path) -> dict[str, Path]:
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
        case = case_name(path)
        if case in found:
            raise InputError(f"'{found[case].name}' and '{path.name}' in '{folder}' are both case {case}")
        found[case] = path
    return found


def case_name(path: Path) -> str:
    """Name of the case that a mask belongs to."""
    return _ENDINGS.sub("", mask_stem(path))


def _is_mask(path: Path) -> bool:
    return is_mask_file(path) or is_organ_folder(path) or (path.is_file() and path.suffix.lower() == ".dcm")
