"""Compare organ masks with labels, case by case."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from domainsam.errors import DomainSamError, InputError
from domainsam.progress import Progress
from domainsam_ct.evaluate.labelled import (
    LabelledMask,
    Pair,
    find_single_object,
    is_same_grid,
    join_grids,
    read_labelled,
    require_same_grid,
)
from domainsam_ct.evaluate.report import FindImage, WorstSlices
from domainsam_ct.evaluate.scores import score_organ
from domainsam_ct.evaluate.summary import CaseScores, Evaluation, EvaluationOptions, summarise
from domainsam_ct.labels import LabelMap
from domainsam_ct.measure.statistics import measure_voxel_ml
from domainsam_ct.read.dicom.contours import is_rtstruct
from domainsam_ct.read.open import open_volume
from domainsam_ct.read.volume import ScanGrid, get_scan_grid

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Names:
    """What values are called.

    Parameters
    ----------
    truth
        Label map of the labels, None where their files say it themselves.
    predicted
        Label map of the predictions, None likewise; where their files do not, that of the labels.
    organs
        Organs to compare, None for all that labels and predictions both name.
    """

    truth: LabelMap | None = None
    predicted: LabelMap | None = None
    organs: tuple[str, ...] | None = None


def evaluate_pairs(
    pairs: Sequence[Pair],
    names: Names,
    options: EvaluationOptions,
    worst: WorstSlices | None,
    progress: Progress,
    find_image: FindImage | None = None,
) -> Evaluation:
    """Compare every pair.

    A pair that cannot be compared is passed over where there are several.

    Parameters
    ----------
    worst
        Collects the slices with the largest errors, where they are wanted.
    find_image
        Where a case's scan is, for contours (RTSTRUCT) that are compared with contours.

    Raises
    ------
    DomainSamError
        If no pair can be compared; of a single one, whatever made it fail.
    """
    cases: list[CaseScores] = []
    skipped: list[tuple[str, str]] = []
    for number, pair in enumerate(pairs):
        try:
            image = None if find_image is None else find_image(pair.case)
            cases.append(compare(pair, names, options, worst, image))
        except DomainSamError as error:
            if len(pairs) == 1:
                raise
            skipped.append((pair.case, str(error)))
        progress("compare", number + 1, len(pairs))
    if not cases:
        raise InputError(f"none of {len(pairs)} cases could be compared; the first: {skipped[0][1]}")
    organs = tuple(dict.fromkeys(organ for case in cases for organ in case.organs))
    return summarise(cases, skipped, organs, options)


def compare(
    pair: Pair,
    names: Names,
    options: EvaluationOptions,
    worst: WorstSlices | None = None,
    image: Path | None = None,
) -> CaseScores:
    """Scores of one case.

    Raises
    ------
    InputError
        If the masks are on different grids, or share no organ.
    """
    predicted, truth = read_pair(pair, names, image)
    found, known = _values(predicted), _values(truth)
    unknown = [name for name in names.organs or () if name not in known or name not in found]
    if unknown:
        raise InputError(
            f"{pair.case}: labels and prediction do not both name {', '.join(unknown)}; labels name "
            f"{_listed(known)}, the prediction {_listed(found)}"
        )
    organs = [name for name in known if name in found and (names.organs is None or name in names.organs)]
    if not organs:
        raise InputError(
            f"{pair.case}: labels and prediction share no organ; labels name {_listed(known)}, "
            f"the prediction {_listed(found)}"
        )
    spacing = (truth.grid.spacing[0], truth.grid.spacing[1], truth.grid.spacing[2])
    scores = {}
    for name in organs:
        is_found, is_true = predicted.inside(found[name]), truth.inside(known[name])
        scores[name] = score_organ(is_found, is_true, spacing, options.scoring)
        if worst is not None:
            worst.offer(pair, truth.labels[known[name]], is_found, is_true, truth.grid, scores[name].dice)
    return CaseScores(pair.case, scores, measure_voxel_ml(truth.grid), _notes(predicted, truth))


def read_pair(pair: Pair, names: Names, image: Path | None = None) -> tuple[LabelledMask, LabelledMask]:
    """Prediction and labels with their organs' names, on one grid.

    A label map that was given names the values of whichever lacks names; a
    prediction without any takes those of the labels, unless these are numbered
    by a count of their own, as a folder of organs is. Where one mask covers
    part of the other's grid, the rest of it is background. Contours take the
    voxels of their scan where that is given, else those of the other mask.

    Raises
    ------
    InputError
        If names are missing, or the masks lie on different grids.
    """
    of_truth, of_predicted = _find_grids(pair, image)
    truth = read_labelled(pair.truth, names.truth, of_truth)
    predicted = read_labelled(pair.predicted, names.predicted, of_predicted)
    if not truth.named and names.predicted is not None:
        truth = read_labelled(pair.truth, names.predicted, of_truth)
    if not predicted.named and names.truth is not None:
        predicted = read_labelled(pair.predicted, names.truth, of_predicted)
    if not truth.named:
        raise InputError(f"{pair.truth.name}: does not name its values; give --label-map")
    if not predicted.named and truth.own_numbers:
        raise InputError(
            f"{pair.predicted.name}: does not name its values, and {pair.truth.name} is numbered by itself; "
            "give --label-map"
        )
    if not predicted.named:
        predicted = read_labelled(pair.predicted, truth.labels, of_predicted)
    if is_same_grid(predicted.grid, truth.grid):
        return predicted, truth
    whole = join_grids(truth.grid, predicted.grid)
    if whole is None:
        require_same_grid(predicted.grid, pair.predicted.name, truth.grid, pair.truth.name)
        return predicted, truth
    return predicted.place_on(whole, pair.truth.name), truth.place_on(whole, pair.predicted.name)


def _find_grids(pair: Pair, image: Path | None) -> tuple[ScanGrid | None, ScanGrid | None]:
    """The voxels that contours of the labels, and of the prediction, are to fill; None where none are."""
    files = [find_single_object(path) for path in (pair.truth, pair.predicted)]
    contours = [file.is_file() and is_rtstruct(file) for file in files]
    if not any(contours):
        return None, None
    if image is not None:
        with open_volume(image) as volume:
            scan = get_scan_grid(volume)
        return scan, scan
    if all(contours):
        raise InputError(
            f"{pair.case}: labels and prediction are both contours, which have no voxels: "
            "give the scan that they were drawn on with --images"
        )
    if contours[0]:
        return read_labelled(pair.predicted).scan_grid(), None
    return None, read_labelled(pair.truth).scan_grid()


def _values(mask: LabelledMask) -> dict[str, int]:
    return {organ.name: value for value, organ in mask.labels.items()}


def _notes(predicted: LabelledMask, truth: LabelledMask) -> tuple[str, ...]:
    """List what was told of both masks, and organs of the labels that the prediction does not know at all."""
    told = tuple(note for mask in (predicted, truth) for note in (*mask.warnings, *mask.tell_unknown()))
    known = {organ.name for organ in predicted.labels.values()}
    present = {truth.labels[int(value)].name for value in _present(truth) if int(value) in truth.labels}
    absent = sorted(present - known)
    if not absent:
        return told
    listed = ", ".join(absent[:5]) + (f" and {len(absent) - 5} more" if len(absent) > 5 else "")
    return (*told, f"not compared, because the prediction does not know them: {listed}")


def _present(mask: LabelledMask) -> Sequence[int]:
    import numpy as np

    return [int(value) for value in np.flatnonzero(np.bincount(mask.values.ravel())) if value]


def _listed(names: dict[str, int]) -> str:
    words = list(names)
    return ", ".join(words[:4]) + (f" and {len(words) - 4} more" if len(words) > 4 else "") or "none"
