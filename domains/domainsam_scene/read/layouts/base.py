"""Base class of layouts; read one sample though files may be missing."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError, MissingInputError
from domainsam_scene.read.modalities import SPARSE, Plane, Sample, is_blank
from domainsam_scene.read.registration import choose_reference, find_shift, resize_to_reference, undo_shift
from domainsam_scene.settings import Range, ReadOptions

log = logging.getLogger(__name__)

IGNORE = 255
"""Label of pixels that nobody judges."""
Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class SampleRef:
    """Where one sample's files are; nothing is read yet.

    Parameters
    ----------
    name
        Unique in its split, with ``/`` between folders.
    files
        By sensor, the files that it is read from; they need not exist.
    truth
        Labels, or None where there are none.
    conditions
        What is known of the sample, such as ``{"weather": "fog", "sensor": "motionblur"}``.
    """

    name: str
    files: Mapping[str, tuple[Path, ...]]
    truth: Path | None = None
    conditions: Mapping[str, str] = field(default_factory=dict)


@runtime_checkable
class Layout(Protocol):
    """How a data set's folders are arranged.

    ``labels`` are its classes and ``colours`` their colours (both empty where
    the layout knows none), ``modalities`` its sensors (empty: any), ``splits``
    its parts. ``absent_iou`` is what a class without any pixel in truth and
    prediction counts in the published mean: 0, or None for not at all.
    ``any_aspect`` says that sensors are stretched onto each other.
    """

    name: str
    labels: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    modalities: tuple[str, ...]
    splits: tuple[str, ...]
    absent_iou: float | None
    any_aspect: bool

    def samples(self, root: Path, split: str | None) -> tuple[SampleRef, ...]:
        """All samples of a split in a fixed order.

        Raises
        ------
        InputError
            If the folder does not hold the layout, or the split holds nothing.
        """
        ...

    def read_plane(self, ref: SampleRef, modality: str, limits: Range | None) -> Plane:
        """One sensor's image on its own grid.

        Raises
        ------
        InputError
            If a file is missing or damaged.
        """
        ...

    def read_labels(self, ref: SampleRef) -> Labels:
        """Class numbers ``(H, W)``, 255 to ignore.

        Raises
        ------
        InputError
            If there are none, or the file is damaged or holds other numbers.
        """
        ...


def read_sample(
    layout: Layout, ref: SampleRef, modalities: Sequence[str], options: ReadOptions | None = None
) -> Sample:
    """Read a sample's sensors onto one grid; a sensor that cannot be read is left out and named.

    Raises
    ------
    InputError
        If no sensor can be read, sizes cannot be brought together, or one is
        missing and ``options.strict``.
    """
    options = options or ReadOptions()
    planes: dict[str, Plane] = {}
    missing: dict[str, str] = {}
    for name in modalities:
        try:
            planes[name] = _read_one(layout, ref, name, options)
        except InputError as error:
            if options.strict:
                raise
            missing[name] = str(error)
    if not planes:
        reasons = "; ".join(missing.values()) or "none was asked for"
        raise InputError(f"{ref.name}: no sensor can be read: {reasons}")
    laid, notes = resize_to_reference(planes, ref.name, layout.any_aspect)
    if options.align:
        laid, moved = align_sensors(laid)
        notes = (*notes, *moved)
    return Sample(
        ref.name,
        {name: plane.image for name, plane in laid.items()},
        {name: plane.valid for name, plane in laid.items()},
        missing,
        notes,
    )


def _read_one(layout: Layout, ref: SampleRef, name: str, options: ReadOptions) -> Plane:
    if not ref.files.get(name):
        raise MissingInputError(f"{ref.name}: has no {name}")
    plane = layout.read_plane(ref, name, options.ranges.get(name))
    if is_blank(plane):
        raise InputError(f"{ref.files[name][0]}: {name} delivered nothing (one value everywhere)")
    return plane


def align_sensors(planes: Mapping[str, Plane]) -> tuple[dict[str, Plane], tuple[str, ...]]:
    """Sensors moved onto the reference sensor where their shift is beyond doubt, and notes on that."""
    reference = choose_reference(planes)
    done, notes = dict(planes), []
    for name, plane in planes.items():
        if name == reference:
            continue
        shift = find_shift(planes[reference], plane)
        if shift.believed:
            done[name] = undo_shift(plane, shift, nearest=name in SPARSE)
            notes.append(f"{name} lay {shift} of {reference}: moved back")
    return done, tuple(notes)


def check_labels(values: NDArray[np.integer], classes: int, path: Path) -> Labels:
    """Labels as bytes.

    Raises
    ------
    InputError
        If a label is neither a class nor 255.
    """
    wrong = (values < 0) | ((values >= classes) & (values != IGNORE))
    if wrong.any():
        found = sorted({int(value) for value in np.unique(values[wrong])})[:6]
        raise InputError(
            f"{path}: holds labels {', '.join(map(str, found))}, expected 0 to {classes - 1}, or {IGNORE} "
            "to ignore; does the class list fit this data?"
        )
    return values.astype(np.uint8)


def check_folder(root: Path, wanted: Sequence[str], layout: str) -> None:
    """Refuse a folder that does not look like the layout.

    Raises
    ------
    InputError
        If it is absent or lacks all the folders and files of the layout.
    """
    if not root.is_dir():
        raise MissingInputError(f"{root}: no such folder; give the one that holds {', '.join(wanted)}")
    lacking = [name for name in wanted if not (root / name).exists()]
    if lacking:
        raise InputError(
            f"{root}: is not laid out as {layout}: it lacks {', '.join(lacking)}; "
            f"give the folder that holds {', '.join(wanted)}"
        )


def check_split(split: str | None, splits: Sequence[str], default: str) -> str:
    """The split that is meant.

    Raises
    ------
    InputError
        If the layout has no such split.
    """
    chosen = split or default
    if chosen not in splits:
        raise InputError(f"--split {chosen!r} is unknown; there are: {', '.join(splits)}")
    return chosen
