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
from domainsam.protocols import Window
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
    window
        The part of georeferenced rasters that the sample is; None for whole pictures.
    """

    name: str
    files: Mapping[str, tuple[Path, ...]]
    truth: Path | None = None
    conditions: Mapping[str, str] = field(default_factory=dict)
    window: Window | None = None


@runtime_checkable
class Layout(Protocol):
    """How a data set's folders are arranged.

    ``labels`` are its classes and ``colours`` their colours (both empty where
    the layout knows none), ``modalities`` its sensors (empty: any), ``splits``
    its parts. ``absent_iou`` is what a class without any pixel in truth and
    prediction counts in the published mean: 0, or None for not at all.
    ``any_aspect`` says that sensors are stretched onto each other; ``dilate``
    is the side in pixels of the square that single events are drawn as, where
    the layout draws them.
    """

    name: str
    labels: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    modalities: tuple[str, ...]
    splits: tuple[str, ...]
    absent_iou: float | None
    any_aspect: bool
    dilate: int | None

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
        If no sensor can be read, or one is missing or of another aspect and ``options.strict``.
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
    laid, notes, misfits = resize_to_reference(planes, ref.name, layout.any_aspect)
    if misfits and options.strict:
        raise InputError("; ".join(misfits.values()))
    missing |= misfits
    notes = (*(plane.note for name, plane in planes.items() if plane.note and name in laid), *notes)
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
    # A part of a raster may well be of one value, such as a lake's height.
    if is_blank(plane) if ref.window is None else not plane.valid.any():
        raise InputError(f"{ref.files[name][0]}: {name} delivered nothing (one value everywhere)")
    return plane


def check_given(files: Mapping[str, Path | str]) -> None:
    """Refuse files that a person named and that are not there: without them the answer is another one.

    Names with a scheme and GDAL's virtual files are left to whoever opens them.

    Raises
    ------
    MissingInputError
        Naming all that are absent.
    """
    absent = [
        f"{path}: no such file, given for sensor {name}"
        for name, path in files.items()
        if "://" not in str(path) and not str(path).startswith("/vsi") and not Path(path).exists()
    ]
    if absent:
        raise MissingInputError(f"{'; '.join(absent)}; check the path, or leave the sensor out")


def check_present(refs: Sequence[SampleRef], sensors: Sequence[str], origin: Path, option: str) -> None:
    """Refuse a sensor that was asked for by name and that no sample has.

    Raises
    ------
    InputError
        If there is one.
    """
    absent = [name for name in sensors if not any(has_sensor(ref, name) for ref in refs)]
    if absent:
        known = dict.fromkeys(name for ref in refs for name in ref.files if has_sensor(ref, name))
        raise InputError(
            f"{origin}: not one of {len(refs)} samples has {', '.join(absent)}, asked for by {option}; "
            f"there are: {', '.join(known) or 'none'}"
        )


def has_sensor(ref: SampleRef, name: str) -> bool:
    """Whether a file of the sensor is there."""
    return any(path.exists() for path in ref.files.get(name, ()))


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
