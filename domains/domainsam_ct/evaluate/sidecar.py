"""Read what was left beside a mask when it was made: names of its values, and warnings of its scan."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from domainsam.documents import read_json, take
from domainsam.errors import InputError
from domainsam.infer.outputs import without_ending
from domainsam.names import show
from domainsam_ct.settings import MASK_SUFFIXES, SIDE_FILES


def get_mask_stem(path: Path) -> str:
    """A mask's name without extension."""
    return without_ending(path.name, (*MASK_SUFFIXES, ".dcm"))


def read_names(path: Path) -> Mapping[int, str]:
    """Names by value from the ``_labels.json`` beside a mask; none where there is none.

    Raises
    ------
    InputError
        If it does not hold what it should.
    """
    file = _find_sidecar(path)
    if file is None:
        return {}
    try:
        document: Any = read_json(file, "the values of organs")
        labels = take(document, "labels", dict, file)
        # Masks of single organs all have the value 1; which is whose, the files' names tell.
        for name, mask in (document.get("files") or {}).items():
            if mask == path.name and name in labels:
                return {int(labels[name]): show(str(name))}
        names = {int(value): show(str(name)) for name, value in labels.items()}
        # Told of masks of single organs, and of none that is called as this one.
        return names if len(names) == len(labels) else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: does not tell which value is which organ; remove it or mend it") from error


def _find_sidecar(path: Path) -> Path | None:
    """The ``_labels.json`` of a mask: called after it, or beside it where masks are called after organs."""
    ending = SIDE_FILES["labels"]
    stem = get_mask_stem(path)
    for known in ("", "_seg", "_rtstruct", "_straight_seg"):
        file = path.with_name(f"{stem.removesuffix(known)}{ending}")
        if stem.endswith(known) and file.is_file():
            return file
    folder = path if path.is_dir() else path.parent
    of_organs = [*sorted(folder.glob(f"*{ending}")), folder.parent / f"{folder.name}{ending}"]
    names = {file.name for file in folder.iterdir()} if path.is_dir() else {path.name}
    return next((file for file in of_organs if names & _list_masks(file)), None)


def _list_masks(file: Path) -> set[str]:
    """Names of the masks that a ``_labels.json`` is about; none where it cannot be read."""
    try:
        return set(map(str, read_json(file, "the values of organs")["files"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError):
        return set()


def read_warnings(path: Path) -> tuple[str, ...]:
    """Warnings of a mask's scan, which were stored beside the mask when it was made; none where none were."""
    file = _find_sidecar(path)
    if file is None:
        return ()
    try:
        told = read_json(file, "the values of organs").get("warnings") or []
        return tuple(show(str(warning)) for warning in told)
    except (OSError, ValueError, TypeError, AttributeError, InputError):
        return (f"{file.name} cannot be read, so what was told of its scan is not known",)
