"""Write every output of a case together, or none."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
from domainsam.names import show
from domainsam.staging import Staging
from domainsam_ct.identifiers import read_patient_text
from domainsam_ct.job import DICOM_KINDS, STRAIGHT_KINDS, CasePlan, CaseResult, Made, Segmented
from domainsam_ct.labels import LabelMap, Organ
from domainsam_ct.measure.plausible import find_implausible
from domainsam_ct.measure.statistics import OrganStatistics, format_cell
from domainsam_ct.model.organs import MarkedOrgans, OrganModel, identify_model
from domainsam_ct.read.staged import StagedVolume
from domainsam_ct.settings import SegmentOptions
from domainsam_ct.write.masks import MaskWriter

log = logging.getLogger(__name__)


def write_products(
    plan: CasePlan, made: Made, room: WorkRoom, overwrite: bool, everything: bool = False
) -> CaseResult:
    """Write every planned file that can be made, together.

    A DICOM object, preview or report that cannot be made is named in the
    result and costs neither mask nor figures; with ``everything`` it costs all.

    Raises
    ------
    OutputError
        If a file cannot be written; those that existed are untouched then.
    DomainSamError
        With ``everything``, if an output cannot be made.
    """
    attempt = insist if everything else try_output
    segmented = made.segmented
    with Staging(plan.files, overwrite=overwrite) as staging:
        room.note_staged({staging[path].parent for path in plan.files})
        for name, path in plan.masks.items():
            write_mask(staging[path], segmented, name, room.folder)
        failed: dict[str, str] = {}
        for kind in DICOM_KINDS:
            plan, _ = attempt(plan, (kind,), staging, failed, partial(write_dicom, kind, plan, made, staging))
        straight = partial(write_straight, plan, made, staging, room.folder)
        plan, _ = attempt(plan, STRAIGHT_KINDS, staging, failed, straight)
        plan, pictures = attempt(
            plan, ("preview",), staging, failed, partial(draw_preview, plan, made, staging)
        )
        # The summary tells the time until it is written; flushing and renaming take no part in it.
        result = replace(summarise(plan, made), failed=failed)
        for warning in result.warnings[len(segmented.volume.warnings) :]:
            log.warning("%s: %s", plan.stem, warning)
        side = plan.side
        if "labels" in side:
            text = format_labels(segmented.labels, plan.masks, result.warnings)
            staging.write_text(side["labels"], text)
        if "statistics" in side:
            staging.write_text(side["statistics"], show(json.dumps(result.document(), indent=2)) + "\n")
        if "statistics table" in side:
            doubted = {doubt.about for doubt in result.judgement.doubts}
            staging.write_text(
                side["statistics table"], format_table(result.organs, doubted, result.validated)
            )
        report = partial(write_report, plan, result, segmented.labels, pictures or {}, staging)
        plan, _ = attempt(plan, ("report",), staging, failed, report)
    return replace(result, paths=plan.named)


def insist(
    plan: CasePlan, kinds: Sequence[str], staging: Staging, failed: dict[str, str], make: Callable[[], Any]
) -> tuple[CasePlan, Any]:
    """Make an output, or fail."""
    return plan, make()


def try_output(
    plan: CasePlan, kinds: Sequence[str], staging: Staging, failed: dict[str, str], make: Callable[[], Any]
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
        for kind in kinds:
            failed[kind], _ = explain(error)
            log.error("%s: no %s: %s", plan.stem, kind, failed[kind])
            if kind in plan.side:
                staging.leave_out(plan.side[kind])
        return plan.without(kinds), None


def describe_making(model: OrganModel | MarkedOrgans, options: SegmentOptions) -> Mapping[str, Any]:
    """What decided the answer: model and how it did in validation, clean-up, numbers."""
    return {
        **identify_model(model),
        "dice_in_validation": dict(model.validated),
        "provenance": dict(model.provenance),
        "clean_up": asdict(options.clean),
        "label_map": options.label_map,
    }


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
            labels = np.moveaxis(np.isin(chunk, list(only)).astype(np.uint8) if organ else chunk, 0, 2)
            if organ and only & segmented.whole.keys():
                labels = segmented.whole[next(iter(only))][:, :, start : start + len(chunk)].astype(np.uint8)
            writer.write_slices(start, labels)


def write_dicom(kind: str, plan: CasePlan, made: Made, staging: Staging) -> None:
    """A DICOM SEG or RTSTRUCT, if it is planned."""
    if kind not in plan.side:
        return
    segmented, path = made.segmented, staging[plan.side[kind]]
    mask, volume, labels = read_whole_mask(segmented.mask), segmented.volume, segmented.labels
    if kind == "DICOM SEG":
        from domainsam_ct.write.dicom_seg import write_dicom_seg

        form = made.outputs.seg_type
        write_dicom_seg(path, mask, volume, labels, whole=segmented.whole, form=form, origin=made.origin)
    else:
        from domainsam_ct.write.rtstruct import write_rtstruct

        write_rtstruct(path, mask, volume, labels, whole=segmented.whole, origin=made.origin)


def write_straight(plan: CasePlan, made: Made, staging: Staging, scratch: Path) -> None:
    """Mask and scan on perpendicular axes, if they are planned; the scan's slices are known to be shifted."""
    if "straight mask" not in plan.side:
        return
    from domainsam_ct.write.straight import straighten, write_straight_mask, write_straight_scan

    segmented = made.segmented
    straight = straighten(segmented.volume)
    assert straight is not None
    names = {value: organ.name for value, organ in segmented.labels.items()}
    write_straight_mask(staging[plan.side["straight mask"]], straight, segmented.mask, names, scratch)
    target = plan.side["straight scan"]
    staging.write_with(target, lambda path: write_straight_scan(path, straight, segmented.volume))


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
    # Of a mask that no model made, the organs are still judged.
    judgement = segmented.judgement.joined(find_implausible(segmented.organs, segmented.cleaned))
    return CaseResult(
        case=plan.stem,
        paths=plan.named,
        shape=native.shape,
        spacing_mm=native.spacing,
        patient=read_patient_text(volume) if made.outputs.keep_identifiers else None,
        orientation=native.orientation.code,
        slices=volume.shape[2],
        organs=segmented.organs,
        cleaned=segmented.cleaned,
        warnings=tuple(dict.fromkeys((*volume.warnings, *judgement.texts))),
        judgement=judgement,
        settings=made.settings,
        resumed=segmented.resumed,
        seconds=perf_counter() - made.begin,
        peak_rss_mb=measure_peak_rss(),
    )


def format_labels(labels: LabelMap, masks: Mapping[str, Path], warnings: Iterable[str] = ()) -> str:
    """Which value is which organ, as JSON: beside the mask, for those who read no NIfTI extension.

    Warnings of the scan stay with its mask: whatever reads the mask later repeats them.
    """
    # Where no mask is written, DICOM objects hold the values of the mask of all organs.
    single = "" in masks or not masks
    document = {
        "labels": {organ.name: value if single else 1 for value, organ in labels.items()},
        "files": {name or "all": path.name for name, path in masks.items()},
        "organs": {organ.name: describe_organ(organ) for organ in labels.values()},
        "warnings": list(warnings),
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


def format_table(
    organs: Iterable[OrganStatistics],
    doubted: Collection[str] = (),
    validated: Mapping[str, float] | None = None,
) -> str:
    """Statistics as CSV, a row an organ.

    ``doubted`` names the organs that are to be doubted; an empty name stands for the whole answer.
    ``validated`` is the model's Dice by organ, None where no model made the mask.
    """
    rows = []
    for organ in organs:
        scores = {} if validated is None else {"model_dice": format_cell(validated.get(organ.name))}
        rows.append({**organ.row(), **scores, "doubtful": int("" in doubted or organ.name in doubted)})
    return csv_text(rows, () if rows else ("organ",))
