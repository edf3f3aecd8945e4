"""Write every output of a case together, or none."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from domainsam.errors import OutputError, explain
from domainsam.infer.workroom import WorkRoom
from domainsam.machine import measure_peak_rss
from domainsam.metrics.tables import csv_text
from domainsam.staging import Staging
from domainsam_ct.identifiers import read_patient_text
from domainsam_ct.job import DICOM_KINDS, CasePlan, CaseResult, Made, Segmented
from domainsam_ct.labels import LabelMap, Organ
from domainsam_ct.measure.plausible import check_plausible
from domainsam_ct.measure.statistics import OrganStatistics
from domainsam_ct.model.organs import identify_model
from domainsam_ct.read.staged import StagedVolume
from domainsam_ct.write.masks import MaskWriter

log = logging.getLogger(__name__)


def write_products(plan: CasePlan, made: Made, room: WorkRoom, overwrite: bool) -> CaseResult:
    """Write every planned file that can be made, together.

    A DICOM object, preview or report that cannot be made is named in the
    result and costs neither mask nor figures.

    Raises
    ------
    OutputError
        If a file cannot be written; those that existed are untouched then.
    """
    segmented = made.segmented
    with Staging(plan.files, overwrite=overwrite) as staging:
        room.note_staged({staging[path].parent for path in plan.files})
        for name, path in plan.masks.items():
            write_mask(staging[path], segmented, name, room.folder)
        failed: dict[str, str] = {}
        for kind in DICOM_KINDS:
            plan, _ = attempt(plan, kind, staging, failed, partial(write_dicom, kind, plan, made, staging))
        plan, pictures = attempt(plan, "preview", staging, failed, partial(draw_preview, plan, made, staging))
        # The summary tells the time until it is written; flushing and renaming take no part in it.
        result = replace(summarise(plan, made), failed=failed)
        for warning in result.warnings[len(segmented.volume.warnings) :]:
            log.warning("%s: %s", plan.stem, warning)
        side = plan.side
        staging.write_text(side["labels"], format_labels(segmented.labels, plan.masks))
        if "statistics" in side:
            staging.write_text(side["statistics"], json.dumps(result.document(), indent=2) + "\n")
        if "statistics table" in side:
            staging.write_text(side["statistics table"], format_table(result.organs))
        report = partial(write_report, plan, result, segmented.labels, pictures or {}, staging)
        plan, _ = attempt(plan, "report", staging, failed, report)
    return replace(result, paths=plan.named)


def attempt(
    plan: CasePlan, kind: str, staging: Staging, failed: dict[str, str], make: Callable[[], Any]
) -> tuple[CasePlan, Any]:
    """Make an output; where that fails, note why and go on with a plan without it.

    Raises
    ------
    OutputError
        If the disk refuses it, as it would refuse the others.
    """
    try:
        return plan, make()
    except OutputError:
        raise
    except Exception as error:
        failed[kind], _ = explain(error)
        log.error("%s: no %s: %s", plan.stem, kind, failed[kind])
        if kind in plan.side:
            staging.leave_out(plan.side[kind])
        return plan.without([kind]), None


def write_report(
    plan: CasePlan, result: CaseResult, labels: LabelMap, pictures: Mapping[str, Any], staging: Staging
) -> None:
    """The report, if it is planned."""
    if "report" in plan.side:
        from domainsam_ct.write.report import render_case

        staging.write_text(plan.side["report"], render_case(result, labels, pictures))


def write_mask(path: Path, segmented: Segmented, organ: str, scratch: Path) -> None:
    """One mask on the input's grid: all organs, or where ``organ`` is named that one alone as 1."""
    only = {value for value, known in segmented.labels.items() if known.name == organ}
    names = {1: organ} if organ else {value: known.name for value, known in segmented.labels.items()}
    native = segmented.volume.native
    with MaskWriter(path, native, names, overwrite=True, scratch=scratch) as writer:
        for start, chunk in segmented.mask.chunks():
            labels = np.isin(chunk, list(only)).astype(np.uint8) if organ else chunk
            writer.write_slices(start, np.moveaxis(labels, 0, 2))


def write_dicom(kind: str, plan: CasePlan, made: Made, staging: Staging) -> None:
    """A DICOM SEG or RTSTRUCT, if it is planned."""
    if kind not in plan.side:
        return
    mask, volume, labels = read_whole_mask(made.segmented.mask), made.segmented.volume, made.segmented.labels
    if kind == "DICOM SEG":
        from domainsam_ct.write.dicom_seg import write_dicom_seg

        write_dicom_seg(staging[plan.side[kind]], mask, volume, labels)
    else:
        from domainsam_ct.write.rtstruct import write_rtstruct

        write_rtstruct(staging[plan.side[kind]], mask, volume, labels)


def read_whole_mask(mask: StagedVolume) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The mask in memory, canonical ``(X, Y, Z)``: a byte a voxel."""
    return np.moveaxis(mask.read(0, mask.depth), 0, 2)


def draw_preview(plan: CasePlan, made: Made, staging: Staging) -> Mapping[str, Any]:
    """Write the preview if it is planned; returns the planes as RGB pictures, none where nobody asked."""
    if not plan.side.keys() & {"preview", "report"}:
        return {}
    from domainsam_ct.write.preview import choose_planes, draw_planes, join_planes

    planes = choose_planes(made.segmented)
    pictures = draw_planes(planes, made.segmented.labels)
    if "preview" in plan.side:
        present = {organ.value for organ in made.segmented.organs if organ.found}
        labels = {value: organ for value, organ in made.segmented.labels.items() if value in present}
        staging.write_bytes(plan.side["preview"], join_planes(planes, pictures, labels))
    return pictures


def summarise(plan: CasePlan, made: Made) -> CaseResult:
    """The case in figures, up to now."""
    segmented, volume = made.segmented, made.segmented.volume
    native = volume.native
    clean = asdict(made.options.clean)
    return CaseResult(
        case=plan.stem,
        paths=plan.named,
        shape=native.shape,
        spacing_mm=native.spacing,
        patient=read_patient_text(volume) if made.options.outputs.keep_identifiers else None,
        orientation=native.orientation.code,
        slices=volume.shape[2],
        organs=segmented.organs,
        cleaned=segmented.cleaned,
        warnings=(*volume.warnings, *check_plausible(segmented.organs)),
        settings={
            **identify_model(made.model),
            "dice_in_validation": dict(made.model.validated),
            "provenance": dict(made.model.provenance),
            "clean_up": clean,
            "label_map": made.options.label_map,
        },
        resumed=segmented.resumed,
        seconds=perf_counter() - made.begin,
        peak_rss_mb=measure_peak_rss(),
    )


def format_labels(labels: LabelMap, masks: Mapping[str, Path]) -> str:
    """Which value is which organ, as JSON: beside the mask, for those who read no NIfTI extension."""
    single = "" in masks
    document = {
        "labels": {organ.name: value if single else 1 for value, organ in labels.items()},
        "files": {name or "all": path.name for name, path in masks.items()},
        "organs": {organ.name: describe_organ(organ) for organ in labels.values()},
    }
    return json.dumps(document, indent=2) + "\n"


def describe_organ(organ: Organ) -> dict[str, object]:
    """What is known of an organ, as values that JSON can hold."""
    return {
        "snomed_ct": None
        if organ.code is None
        else {"code": organ.code.value, "meaning": organ.code.meaning},
        "side": None if organ.side is None else organ.side.meaning.lower(),
        "colour": "#{:02x}{:02x}{:02x}".format(*organ.colour),
    }


def format_table(organs: Iterable[OrganStatistics]) -> str:
    """Statistics as CSV, a row an organ."""
    rows = [organ.row() for organ in organs]
    return csv_text(rows, () if rows else ("organ",))
