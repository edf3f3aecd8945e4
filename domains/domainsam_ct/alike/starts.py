"""What was shown of a scan: an organ's mask on some slices, or clicks and boxes that become one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam.infer.found import UNNAMED
from domainsam.io.marks import read_mark_files
from domainsam.marks import MarkFiles
from domainsam.predictor import Predictor
from domainsam.prompter.clicks import Clicks
from domainsam.protocols import Foundation, SceneObject, Window
from domainsam_ct.evaluate.labelled import read_labelled
from domainsam_ct.labels import LabelMap, choose_organs
from domainsam_ct.read.geometry import to_axial
from domainsam_ct.read.open import VolumeSource
from domainsam_ct.read.volume import Volume, get_scan_grid
from domainsam_ct.segment_marked import named

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Shown:
    """An organ as it was shown: its name, and its mask ``(H, W)`` by number of the axial slice."""

    name: str
    slices: Mapping[int, Mask]

    @property
    def voxels(self) -> int:
        """How many voxels were marked."""
        return sum(int(mask.sum()) for mask in self.slices.values())


def read_shown_mask(
    path: Path,
    volume: Volume,
    organs: tuple[str, ...] | None = None,
    labels: LabelMap | None = None,
) -> tuple[Shown, ...]:
    """Organs that a mask holds on the voxels of its scan.

    Parameters
    ----------
    path
        NIfTI, NRRD, MetaImage, DICOM SEG, RTSTRUCT, or a folder of masks named after organs.
    organs
        Names of those that are wanted, None for all.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it is no mask, lies on other voxels, holds nothing of what is wanted, or covers whole slices.
    ConfigError
        If an organ is unknown to it.
    """
    read = read_labelled(path, labels, get_scan_grid(volume)).place_on(volume.grid, volume.source_name)
    wanted = read.labels if organs is None else choose_organs(read.labels, organs)
    shown = []
    for value, organ in wanted.items():
        inside = to_axial(read.inside(value))
        frames = np.flatnonzero(inside.any(axis=(1, 2)))
        if len(frames):
            slices = {int(frame): np.ascontiguousarray(inside[frame]) for frame in frames}
            shown.append(Shown(organ.name, slices))
    if not shown:
        told = "" if organs is None else f" of {', '.join(organs)}"
        raise InputError(f"{path}: is empty, it holds no voxel{told}: mark the organ on one slice at least")
    return named_apart(path.name, shown)


def named_apart(origin: str, shown: list[Shown]) -> tuple[Shown, ...]:
    """The same, checked: each covers a part of every slice that it is on.

    Raises
    ------
    InputError
        If one covers a slice wholly, so that nothing is known of what is not it.
    """
    for one in shown:
        full = [frame for frame, mask in one.slices.items() if mask.all()]
        if full:
            raise InputError(
                f"{origin}: {one.name} covers all of slice {full[0]}, so nothing tells it from the rest: "
                "mark the organ alone"
            )
    return tuple(shown)


def read_shown_marks(files: MarkFiles, source: VolumeSource, foundation: Foundation) -> tuple[Shown, ...]:
    """Organs that clicks and boxes mark on slices, as the foundation sees them there.

    Marks with one label are of one organ, those without of ``object``.

    Raises
    ------
    MissingInputError, InputError
        If marks cannot be read, lie outside, or the foundation sees nothing at them.
    """
    marks = named(read_mark_files(files, source.grid, source.voxels))
    return decode_shown(marks, source, foundation)


def decode_shown(marks: Clicks, source: VolumeSource, foundation: Foundation) -> tuple[Shown, ...]:
    """As :func:`read_shown_marks`, of marks in slices' pixels.

    Raises
    ------
    InputError
        If one lies outside, or the foundation sees nothing at it.
    """
    _check(marks, source)
    predictor = Predictor(foundation)
    organs: dict[str, dict[int, Mask]] = {}
    for number, mark in enumerate(marks.objects, start=1):
        mask = _decode(predictor, source, mark)
        if not mask.any():
            raise InputError(
                f"{marks.origin}: object {number} marks nothing that foundation {foundation.name} sees in "
                f"slice {mark.bounds.frame}: add points, draw a box, or give a mask of the slice"
            )
        slices = organs.setdefault(mark.label or UNNAMED, {})
        frame = mark.bounds.frame
        slices[frame] = slices[frame] | mask if frame in slices else mask
    return named_apart(marks.origin, [Shown(name, slices) for name, slices in organs.items()])


def _check(marks: Clicks, source: VolumeSource) -> None:
    """Refuse marks outside, by what a prompt source checks."""

    class _Extent:
        shape = source.grid.frame_shape
        frames = source.grid.frames

    list(marks.find(_Extent()))  # type: ignore[arg-type]


def _decode(predictor: Predictor, source: VolumeSource, mark: SceneObject) -> Mask:
    """What the foundation sees at one mark in its slice, ``(H, W)``; a rough mask is taken as it is."""
    frame, (height, width) = mark.bounds.frame, source.grid.frame_shape
    if mark.mask is not None:
        whole = np.zeros((height, width), bool)
        whole[mark.bounds.slices] = mark.mask
        return whole
    picture = source.read(Window(0, 0, height, width, frame)).image
    predictor.set_image(np.ascontiguousarray(picture.transpose(1, 2, 0)))
    # Clicks count corners, the predictor counts centres of pixels.
    points = np.array([(click.x - 0.5, click.y - 0.5) for click in mark.points], np.float32)
    labels = np.array([int(click.inside) for click in mark.points])
    masks, scores, _ = predictor.predict(
        points if len(points) else None,
        labels if len(points) else None,
        None if mark.box is None else np.array(mark.box) - 0.5,
        multimask_output=len(points) == 1 and mark.box is None,
    )
    best: Mask = np.asarray(masks[int(np.argmax(scores))], bool)
    return best
