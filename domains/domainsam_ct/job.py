"""Plan the output files of a run and check them before any work; results of cases."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import domainsam
from domainsam.errors import ConfigError
from domainsam.familiar import Judgement
from domainsam.foundations import tell_licences
from domainsam.infer import batch
from domainsam.infer.outputs import OutputPlan, fill_stem, safe_name, without_ending
from domainsam.limits import tell_changing
from domainsam.names import check_part
from domainsam.pseudonyms import find_key, read_key
from domainsam.staging import check_apart
from domainsam_ct.identifiers import make_public_stem
from domainsam_ct.labels import LabelMap
from domainsam_ct.measure.cleanup import Cleaned
from domainsam_ct.measure.statistics import OrganStatistics, Tally
from domainsam_ct.read.staged import StagedVolume
from domainsam_ct.read.volume import Volume
from domainsam_ct.settings import MASK_SUFFIXES, SIDE_FILES, VOLUME_SUFFIXES, OutputOptions

COHORT_TABLE = "cohort.csv"
COHORT_FIGURES = "statistics.parquet"
"""Files about all cases of a run: a row a case, and a row an organ of each."""
_EXTENSION = re.compile(r"\.[A-Za-z]{2,5}")

DICOM_KINDS = ("DICOM SEG", "RTSTRUCT")
"""Files that refer to the images they were made from, and that cannot be empty."""
STRAIGHT_KINDS = ("straight mask", "straight scan")
"""Files that there are only of slices that are shifted against each other."""


@dataclass(frozen=True)
class CasePlan(OutputPlan):
    """One CT and every file that its run will write.

    Parameters
    ----------
    source
        What was given: a file, a DICOM folder or a zip of one.
    stem
        The case's name in file names, tables and reports.
    masks
        Mask files by organ name; the key of a mask of all organs is empty.
    side
        Further files, by their key in :data:`SIDE_FILES`.
    """

    source: Path
    stem: str
    masks: Mapping[str, Path]
    side: Mapping[str, Path]

    def without(self, kinds: Iterable[str]) -> CasePlan:
        """The same without some of the further files."""
        left_out = set(kinds)
        return replace(self, side={kind: path for kind, path in self.side.items() if kind not in left_out})

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file."""
        return (*self.masks.values(), *self.side.values())

    @property
    def named(self) -> dict[str, Path]:
        """The files a person wants to hear about, by what they are."""
        masks = {name or "mask": path for name, path in self.masks.items()}
        if len(masks) > 1:
            masks = {f"{len(masks)} masks": next(iter(self.masks.values())).parent}
        return {**masks, **self.side}

    @property
    def work(self) -> Path:
        """Hidden folder beside the first file, for what an interrupted run leaves to go on with."""
        return self.files[0].parent / f".{self.stem}.domainsam"

    @property
    def complete(self) -> bool:
        """Whether every file is there already; some scans have no DICOM objects or straight masks."""
        missing = {kind for kind, path in self.side.items() if not path.is_file()}
        if missing.issuperset(STRAIGHT_KINDS):
            missing -= set(STRAIGHT_KINDS)
        if not all(path.is_file() for path in self.masks.values()) or missing - set(DICOM_KINDS):
            return False
        return not missing or not _found_any(self)


def make_case_stem(source: Path) -> str:
    """A case's name: the input's own without extension, safe on any system."""
    name = without_ending(source.absolute().name, VOLUME_SUFFIXES)
    # nnU-Net's channel number: case_0000.nii.gz is the case called "case".
    name = re.sub(r"(?<=.)_0000$", "", name)
    return safe_name(name, "case")


def plan_outputs(
    inputs: Sequence[Path],
    organs: Iterable[str],
    outputs: OutputOptions,
    stems: Sequence[str] | None = None,
    several: bool | None = None,
) -> tuple[CasePlan, ...]:
    """The files of every case.

    Parameters
    ----------
    stems
        What the cases are called, where their files do not say it.
    several
        Whether they are of a run over several cases; by default whether there are.

    Raises
    ------
    ConfigError
        If two cases would share a file, or one mask file is named for separate organs.
    InputError
        If an organ's name cannot be part of a file's name.
    OutputError
        If an output would replace one of the inputs.
    """
    names = tuple(organs)
    many = len(inputs) > 1 if several is None else several
    plans = tuple(
        _plan_case(source, stem, names, outputs, many)
        for source, stem in zip(inputs, stems or name_cases(inputs), strict=True)
    )
    check_apart((path for plan in plans for path in plan.files), inputs, "cases")
    return plans


def plan_export(scan: Path, mask: Path, organs: Iterable[str], outputs: OutputOptions) -> CasePlan:
    """The files that are made of a mask and its scan; they are called after the scan.

    Raises
    ------
    ConfigError
        If nothing is to be written, or one mask file is named for separate organs.
    InputError
        If an organ's name cannot be part of a file's name.
    OutputError
        If an output would replace the mask or the scan.
    """
    (stem,) = name_cases([scan])
    plan = _plan_case(scan, stem, tuple(organs), outputs, several=False)
    if not (plan.masks or plan.side.keys() - {"labels"}):
        raise ConfigError(
            "nothing to write: name it with --dicom-seg, --rtstruct, --statistics, --report, --preview, "
            "--mask, --per-organ or --deskew"
        )
    check_apart(plan.files, [scan, mask], "cases")
    return plan


def _found_any(plan: CasePlan) -> bool:
    """Whether the case's statistics, where there are any, tell of an organ."""
    path = plan.side.get("statistics")
    if path is None:
        return True
    try:
        organs = json.loads(path.read_text(encoding="utf-8"))["organs"].values()
        return any(organ["found"] for organ in organs)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return True


def is_folder(out: Path) -> bool:
    """Whether an output path means a folder: it is one, or its name ends in no mask format."""
    return out.is_dir() or not out.name.lower().endswith(MASK_SUFFIXES)


def name_cases(inputs: Sequence[Path]) -> list[str]:
    """Names of cases; those that would share one (``s0001/ct.nii.gz``) get their folders'."""
    stems = [make_case_stem(source) for source in inputs]
    counts = Counter(stems)
    return [
        stem if counts[stem] == 1 else safe_name(source.absolute().parent.name, stem)
        for stem, source in zip(stems, inputs, strict=True)
    ]


def _plan_case(
    source: Path, stem: str, organs: tuple[str, ...], outputs: OutputOptions, several: bool
) -> CasePlan:
    if not outputs.keep_identifiers:
        stem = make_public_stem(source, stem, partial(find_pseudonym_key, outputs))
    out = fill_stem(outputs.out, stem)
    if is_folder(out):
        if _EXTENSION.fullmatch(out.suffix) and not out.is_dir():
            raise ConfigError(f"output '{out}' must end in {', '.join(MASK_SUFFIXES)}, or be a folder")
        mask = out / f"{stem}_seg.nii.gz"
        side_stem = out / stem
    else:
        if outputs.per_organ:
            raise ConfigError(f"--per-organ writes several masks: name a folder instead of '{out}'")
        mask = out
        side_stem = out.with_name(without_ending(out.name, MASK_SUFFIXES))
    masks = {"": mask} if outputs.mask else {}
    if outputs.per_organ:
        folder = out / stem if several else out
        masks = {name: folder / f"{check_part(name, 'the model')}.nii.gz" for name in organs}
    wanted = {
        "labels": outputs.mask or outputs.per_organ or outputs.dicom_seg or outputs.rtstruct,
        "statistics": outputs.statistics or several,
        "statistics table": outputs.statistics,
        "report": outputs.report,
        "preview": outputs.preview,
        "DICOM SEG": outputs.dicom_seg,
        "RTSTRUCT": outputs.rtstruct,
        "straight mask": outputs.deskew,
        "straight scan": outputs.deskew,
    }
    side = {kind: side_stem.with_name(side_stem.name + SIDE_FILES[kind]) for kind, on in wanted.items() if on}
    return CasePlan(source, stem, masks, side)


def find_pseudonym_key(outputs: OutputOptions) -> bytes:
    """The key of pseudonyms: the user's, or that of the folder of outputs.

    Raises
    ------
    MissingInputError, ConfigError, OutputError
        If it cannot be read, is none, or cannot be kept.
    """
    if outputs.pseudonym_key is not None:
        return read_key(outputs.pseudonym_key)
    if "{stem}" not in str(outputs.out):
        return find_key(outputs.out, is_folder(outputs.out))
    # What differs from case to case has no place for a key of all.
    above = next(path for path in outputs.out.parents if "{stem}" not in str(path))
    return find_key(above / "cases", folder=False)


@dataclass(frozen=True)
class CaseResult:
    """One finished CT.

    Parameters
    ----------
    case
        Its name in tables and reports.
    shape, spacing_mm
        Of the file's own axes.
    orientation
        Directions that the file's axes grow to, such as ``"LPS"``.
    cleaned
        What clean-up removed and filled, in voxels by value.
    settings
        What decided the answer: model and how it did in validation, foundation, window, clean-up.
    patient
        Name and number, None unless they were asked for.
    seconds
        From opening the file to the last rename.
    failed
        Outputs that were asked for and could not be made, and why.
    judgement
        Whether the answer is to be doubted, and why.
    """

    case: str
    paths: Mapping[str, Path]
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    orientation: str
    slices: int
    organs: tuple[OrganStatistics, ...]
    cleaned: Cleaned
    warnings: tuple[str, ...]
    settings: Mapping[str, Any]
    patient: str | None
    resumed: bool
    seconds: float
    peak_rss_mb: float
    failed: Mapping[str, str] = field(default_factory=dict)
    judgement: Judgement = field(default_factory=Judgement)

    @property
    def found(self) -> tuple[OrganStatistics, ...]:
        """Organs that the mask holds."""
        return tuple(organ for organ in self.organs if organ.found)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the organs that were looked for and not found."""
        return tuple(organ.name for organ in self.organs if not organ.found)

    @property
    def notice(self) -> str:
        """What nobody may forget who reads the figures."""
        return NOTICE if "model" in self.settings else GIVEN_NOTICE

    def sentence(self) -> str:
        """The result in a line for a person."""
        size = " x ".join(map(str, self.shape))
        spacing = " x ".join(f"{step:.3g}" for step in self.spacing_mm)
        volumes = [f"{organ.name} {self._millilitres(organ)}" for organ in self.found]
        found = ", ".join(volumes) or "no organ found"
        if volumes and self.missing:
            found += f"; not found: {', '.join(self.missing)}"
        found += f"; {NOT_VALIDATED}" if self.validated == {} else ""
        found += f"; {self.judgement.line}" if self.judgement else ""
        speed = f"{self.seconds:.1f} s, {self.seconds / self.slices:.2f} s a slice"
        return f"{self.case} ({size}, {spacing} mm): {found}; {speed}, {self.peak_rss_mb:.0f} MB"

    @property
    def validated(self) -> Mapping[str, float] | None:
        """The model's Dice by organ on cases that it did not learn from; None where no model took part."""
        if self.settings.get("model", NO_MODEL) == NO_MODEL:
            return None
        told: Mapping[str, float] = self.settings.get("dice_in_validation", {})
        return told

    def _millilitres(self, organ: OrganStatistics) -> str:
        """A volume with how far it can be relied on: ``1108 mL (Dice 0.93)``."""
        assert organ.volume_ml is not None
        words = []
        if self.validated:
            dice = self.validated.get(organ.name)
            words.append("no Dice" if dice is None else f"Dice {dice:.2f}")
        if organ.touches_border:
            words.append("reaches the scan's edge")
        digits = 0 if organ.volume_ml >= 100 else 1
        return f"{organ.volume_ml:.{digits}f} mL" + (f" ({', '.join(words)})" if words else "")

    def document(self) -> dict[str, Any]:
        """The result as values that JSON can hold."""
        names = {organ.value: organ.name for organ in self.organs}
        scores = self.validated
        return {
            "domainsam": domainsam.__version__,
            "notice": self.notice,
            "case": self.case,
            **({"patient": self.patient} if self.patient else {}),
            "shape": list(self.shape),
            "slices": self.slices,
            "spacing_mm": list(self.spacing_mm),
            "orientation": self.orientation,
            "units": UNITS,
            "organs": {
                organ.name: {
                    **organ.document(),
                    **({} if scores is None else {"model_dice": scores.get(organ.name)}),
                }
                for organ in self.organs
            },
            "warnings": list(self.warnings),
            "judgement": self.judgement.document(),
            **({"failed_outputs": dict(self.failed)} if self.failed else {}),
            "settings": dict(self.settings),
            "licences": tell_licences(self.settings.get("model"), self.settings.get("foundation")),
            "removed_voxels": {names[value]: count for value, count in self.cleaned.removed.items()},
            "filled_voxels": {names[value]: count for value, count in self.cleaned.filled.items()},
            "resumed": bool(tell_changing(self.resumed)),
            "seconds": tell_changing(self.seconds),
            "seconds_per_slice": tell_changing(self.seconds / self.slices),
            "peak_rss_mb": tell_changing(self.peak_rss_mb if math.isfinite(self.peak_rss_mb) else None),
        }


GIVEN_NOTICE = (
    "Figures of a mask that was given. Not a medical device; no decision about a patient may rest on it."
)
NOTICE = (
    "Made by a computer model for research. Not a medical device; no decision about a patient may rest on it."
)
NO_MODEL = "none"
"""Name of the model where a person said where organs are."""
NOT_VALIDATED = "the model has no validation score"
UNITS = {
    "volume_ml": "millilitres of the mask's voxels; more of an organ that touches the border may lie outside",
    "found": "whether the mask holds a voxel of the organ, which does not mean that it holds all of it",
    "touches_border": "whether the mask reaches the scan's edge, so that part of the organ may be missing",
    "model_dice": "the model's mean Dice for the organ on cases that it did not learn from; null if unknown",
    "hu": "Hounsfield units of the voxels as stored, no smoothing",
    "centroid_mm": "millimetres, axes grow to the patient's right, front and head",
    "box_mm": "as centroid_mm, outer faces of voxels",
    "box_voxels": "first and last index along the file's own axes, from 0",
    "confidence": "mean probability of the network at the organ's voxels, 0 to 1",
    "null": "not known; an organ that was not found has no volume here, which does not mean it is absent",
}


@dataclass(frozen=True)
class Batch(batch.Batch[CaseResult]):
    """What became of several cases.

    ``table`` and ``figures`` are the files about all of them, a row a case and a row an organ; None for a
    single one.
    """

    table: Path | None = None
    figures: Path | None = None

    plural = "cases"
    key = "case"

    @property
    def unmade(self) -> tuple[tuple[str, str], ...]:
        """Cases that lack an output, and which; their masks and figures are there."""
        return tuple((result.case, ", ".join(result.failed)) for result in self.results if result.failed)

    @property
    def exit_code(self) -> int:
        """0 if every case is done with every output, else :data:`~domainsam.infer.batch.SOME_FAILED`."""
        return batch.SOME_FAILED if self.unmade else super().exit_code

    def document(self) -> dict[str, Any]:
        """Everything about every case, as values that JSON can hold."""
        cases = [
            {**result.document(), "paths": {kind: str(path) for kind, path in result.paths.items()}}
            for result in self.results
        ]
        about = {"table": self.table, "figures": self.figures}
        paths = {kind: None if path is None else str(path) for kind, path in about.items()}
        return {**super().document(), "cases": cases, **paths}


@dataclass(frozen=True, eq=False)
class Segmented:
    """A segmented, cleaned and measured CT; its mask is still staged.

    ``labels`` are the values of the mask; ``tally`` knows where organs lie.
    ``whole`` are organs that share voxels with others, by value, canonical
    ``(X, Y, Z)``; of those the mask holds a part. ``judgement`` says whether the
    answer is to be doubted.
    """

    volume: Volume
    mask: StagedVolume
    labels: LabelMap
    tally: Tally
    organs: tuple[OrganStatistics, ...]
    cleaned: Cleaned
    resumed: bool
    whole: Mapping[int, NDArray[np.bool_]] = field(default_factory=dict)
    judgement: Judgement = field(default_factory=Judgement)


@dataclass(frozen=True, eq=False)
class Made:
    """A segmented case and what is told about its making.

    ``settings`` are what decided the answer, ``origin`` is how the mask came
    about (:data:`~domainsam_ct.settings.ORIGINS`, None where nobody says), and
    ``begin`` is ``perf_counter()`` at the case's opening.
    """

    segmented: Segmented
    settings: Mapping[str, Any]
    outputs: OutputOptions
    origin: str | None
    begin: float
