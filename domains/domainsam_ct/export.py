"""Turn a mask of any tool and its scan into DICOM objects, statistics, pictures and reports."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import numpy as np

from domainsam.errors import InputError, MissingInputError
from domainsam.infer.workroom import WorkRoom
from domainsam.staging import check_targets
from domainsam_ct.evaluate.labelled import LabelledMask, read_labelled
from domainsam_ct.evaluate.measured import measure_labelled, tell_frames
from domainsam_ct.job import CaseResult, Made, Segmented, plan_export
from domainsam_ct.labels import LabelMap, choose_organs, load_label_map
from domainsam_ct.measure.cleanup import Cleaned
from domainsam_ct.read.open import open_volume
from domainsam_ct.read.staged import CHUNK, StagedVolume
from domainsam_ct.read.volume import Volume, get_scan_grid
from domainsam_ct.segment import drop_straight, get_native_grid, vet_volume
from domainsam_ct.settings import ExportOptions
from domainsam_ct.write.products import write_products

log = logging.getLogger(__name__)

LARGEST = 255
"""Highest value of a mask that is written."""


def export_case(mask: Path, scan: Path, options: ExportOptions) -> CaseResult:
    """Write everything that was asked for of a mask and its scan, or nothing.

    The mask lies on the scan's voxels, or covers part of them and is placed there.

    Parameters
    ----------
    mask
        NIfTI, NRRD, MetaImage, DICOM SEG, RTSTRUCT, or a folder of masks named after organs.
    scan
        The CT that it belongs to.

    Raises
    ------
    MissingInputError
        If one of them is not there.
    InputError
        If one cannot be read, they lie on different grids or in different frames of reference, or an
        output that was asked for cannot be made of them.
    ConfigError
        If nothing is to be written, or an organ is unknown.
    OutputError
        If an output exists or cannot be written.
    """
    begin = perf_counter()
    if not mask.exists():
        raise MissingInputError(f"{mask}: no such file or folder; check the path")
    labels = None if options.label_map is None else load_label_map(options.label_map)
    with open_volume(scan, options.series_uid) as volume:
        read = _read(mask, labels, volume, options)
        plan = plan_export(scan, mask, [organ.name for organ in read.labels.values()], options.outputs)
        plan = drop_straight(plan, volume)
        if not (plan.masks or plan.side):
            raise InputError(f"{scan}: its slices are not shifted, so --deskew has nothing to write")
        check_targets(plan.files, options.outputs.overwrite)
        frame = get_scan_grid(volume).frame_uid
        notes = (*volume.warnings, *read.warnings, *tell_frames(read, frame))
        read, renumbered = fit_values(read)
        volume = vet_volume(replace(volume, warnings=tuple(dict.fromkeys((*notes, *renumbered)))), plan)
        for warning in volume.warnings:
            log.warning("%s: %s", plan.stem, warning)
        settings = {"mask": mask.name, "label_map": options.label_map, "origin": options.origin}
        with WorkRoom(plan.work, resume=False) as room, _stage(read, room.folder) as staged:
            tally = measure_labelled(read, volume)
            organs = tally.statistics(get_native_grid(volume))
            segmented = Segmented(
                volume, staged, read.labels, tally, organs, Cleaned({}, {}), False, read.whole
            )
            made = Made(segmented, settings, options.outputs, options.origin, begin)
            return write_products(plan, made, room, options.outputs.overwrite, everything=True)


def _read(mask: Path, labels: LabelMap | None, volume: Volume, options: ExportOptions) -> LabelledMask:
    """The mask on the scan's grid, with the organs that were asked for."""
    read = read_labelled(mask, labels, get_scan_grid(volume)).place_on(volume.grid, volume.source_name)
    read = replace(read, warnings=(*read.warnings, *read.tell_unknown()))
    if options.organs is not None:
        wanted = choose_organs(read.labels, options.organs)
        kept = np.isin(read.values, list(wanted))
        whole = {value: inside for value, inside in read.whole.items() if value in wanted}
        values = read.values.copy()
        values[~kept] = 0
        for value, inside in whole.items():
            values[inside & (values == 0)] = value
        read = replace(read, values=values, labels=wanted, whole=whole)
    if not any((read.values == value).any() for value in read.labels):
        names = ", ".join(organ.name for organ in read.labels.values()) or "nothing"
        raise InputError(f"{mask}: holds no voxel of {names}, so there is nothing to export")
    return read


def fit_values(mask: LabelledMask) -> tuple[LabelledMask, tuple[str, ...]]:
    """The same mask in bytes, and a note where its values had to be counted anew.

    Raises
    ------
    InputError
        If it names more organs than a byte can tell apart.
    """
    if max(mask.labels, default=0) <= LARGEST:
        known = np.where(np.isin(mask.values, list(mask.labels)), mask.values, 0)
        return replace(mask, values=known.astype(np.uint8)), ()
    if len(mask.labels) > LARGEST:
        raise InputError(
            f"{mask.path}: names {len(mask.labels)} organs, expected {LARGEST} at most; "
            "choose some with --organs"
        )
    numbers = {value: number for number, value in enumerate(sorted(mask.labels), start=1)}
    table = np.zeros(max(int(mask.values.max()), *mask.labels) + 1, np.uint8)
    table[list(numbers)] = list(numbers.values())
    made = replace(
        mask,
        values=table[mask.values],
        labels={numbers[value]: organ for value, organ in mask.labels.items()},
        whole={numbers[value]: inside for value, inside in mask.whole.items()},
    )
    note = f"{mask.path.name}: values above {LARGEST} do not fit a mask of bytes: organs are numbered from 1"
    return made, (note,)


def _stage(mask: LabelledMask, folder: Path) -> StagedVolume:
    """The mask on disk, as pictures and writers take it."""
    x, y, z = mask.values.shape
    staged = StagedVolume.create(folder / "mask.u8", (x, y, z))
    for start in range(0, z, CHUNK):
        part = np.moveaxis(mask.values[:, :, start : start + CHUNK], 2, 0)
        staged.write(start, np.ascontiguousarray(part, np.uint8))
    return staged
