"""Options of ``domainsam ct segment`` and ``domainsam ct export`` as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from domainsam.infer.spread import SpreadOptions
from domainsam.marks import MarkFiles

Method = Literal["specialist", "ladder"]
METHODS: tuple[Method, ...] = ("specialist", "ladder")
"""Kinds of organ models, the default first."""

EVERY = "all"
NOBODY = "none"

MASK_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
VOLUME_SUFFIXES = (*MASK_SUFFIXES, ".nhdr", ".mhd", ".dcm", ".zip")

SEG_TYPES = ("binary", "deflated", "labelmap")
"""Forms of a DICOM SEG: frames of bits for each organ, the same compressed, and one frame a slice for all."""
ORIGINS = ("automatic", "semiautomatic", "manual")
"""How a mask came about (DICOM PS3.3, C.8.20.4, Segment Algorithm Type)."""

SIDE_FILES = {
    "labels": "_labels.json",
    "statistics": "_statistics.json",
    "statistics table": "_statistics.csv",
    "report": "_report.html",
    "preview": "_preview.png",
    "DICOM SEG": "_seg.dcm",
    "RTSTRUCT": "_rtstruct.dcm",
    "straight mask": "_straight_seg.nii.gz",
    "straight scan": "_straight.nii.gz",
}
"""What the files beside a mask are called, after its stem."""


@dataclass(frozen=True)
class RunOptions:
    """How the network is run; ``window`` in Hounsfield units, None for the model's own.

    ``runtime`` says who computes the foundation.
    """

    device: str = "auto"
    precision: str = "auto"
    batch_size: int = 4
    workers: int = 2
    window: tuple[float, float] | None = None
    runtime: str = "torch"


@dataclass(frozen=True)
class CleanOptions:
    """How masks are cleaned; see :mod:`domainsam_ct.measure.cleanup`.

    ``parts`` and ``holes`` name organs, or are ``("all",)`` or ``("none",)``;
    without ``keep_share`` each organ has its own.
    """

    parts: tuple[str, ...] = (EVERY,)
    holes: tuple[str, ...] = (EVERY,)
    keep_share: float | None = None
    keep_within_mm: float = 30.0
    keep_confidence: float = 0.6


@dataclass(frozen=True)
class OutputOptions:
    """Where results go and which; ``out`` is a mask file or a folder, and may hold ``{stem}``.

    Without ``mask`` none is written, however ``out`` is called; ``seg_type`` is
    one of :data:`SEG_TYPES`; ``deskew`` asks for mask and scan on perpendicular axes.
    """

    out: Path
    mask: bool = True
    per_organ: bool = False
    dicom_seg: bool = False
    rtstruct: bool = False
    statistics: bool = False
    report: bool = False
    preview: bool = False
    overwrite: bool = False
    keep_identifiers: bool = False
    pseudonym_key: Path | None = None
    seg_type: str = "binary"
    deskew: bool = False


@dataclass(frozen=True)
class ExportOptions:
    """One call of ``domainsam ct export``, without its inputs.

    Parameters
    ----------
    organs
        Names of the organs to write, None for all that the mask names.
    label_map
        Names of the mask's values: a name or file, None for what its file says.
    series_uid
        DICOM series to read where there are several.
    origin
        How the mask came about, one of :data:`ORIGINS`; None where nobody says.
    """

    outputs: OutputOptions
    organs: tuple[str, ...] | None = None
    label_map: str | None = None
    series_uid: str | None = None
    origin: str | None = None
    quiet: bool = False


@dataclass(frozen=True)
class SegmentOptions:
    """One call of ``domainsam ct segment``, without its inputs.

    Parameters
    ----------
    model, method
        Model file or the name of one inside the package, and what it has to be; None for any.
    organs
        Names of the organs to write, None for all that the model knows.
    label_map
        Numbers of the mask: a name or file, None for the model's own numbers.
    series_uid
        DICOM series to read where there are several.
    marks
        Where organs are, if a person says it instead of the model.
    strict
        Whether an answer that is to be doubted is refused.
    spread
        Who does the cases, where there are many.
    """

    outputs: OutputOptions
    model: Path | None = None
    method: Method | None = None
    foundation: str | None = None
    organs: tuple[str, ...] | None = None
    label_map: str | None = None
    series_uid: str | None = None
    run: RunOptions = field(default_factory=RunOptions)
    clean: CleanOptions = field(default_factory=CleanOptions)
    marks: MarkFiles = field(default_factory=MarkFiles)
    strict: bool = False
    resume: bool = False
    quiet: bool = False
    spread: SpreadOptions = field(default_factory=SpreadOptions)


PERCENTILE = 95
