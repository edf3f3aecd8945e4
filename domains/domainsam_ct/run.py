"""The main job by keyword: what ``domainsam.run("ct", ...)`` and ``domainsam ct segment`` share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from domainsam.errors import ConfigError
from domainsam.infer.spread import spread_options
from domainsam.keywords import (
    PRECISIONS,
    RUNTIMES,
    check_choice,
    check_keywords,
    check_least,
    keyword_names,
    parts_of,
    path_of,
    refuse_with_marks,
)
from domainsam.marks import MarkFiles
from domainsam_ct.settings import (
    MASK_SUFFIXES,
    METHODS,
    ORIGINS,
    SEG_TYPES,
    SIDE_FILES,
    VOLUME_SUFFIXES,
    CleanOptions,
    ExportOptions,
    OutputOptions,
    RunOptions,
    SegmentOptions,
)

if TYPE_CHECKING:
    from domainsam.infer.objects import EngineResult
    from domainsam.protocols import Foundation
    from domainsam_ct.job import Batch, CaseResult
    from domainsam_ct.read.open import VolumeSource
    from domainsam_ct.settings import Method

SAVED = (
    *("per_organ", "dicom_seg", "rtstruct", "statistics", "report", "preview"),
    *("keep_identifiers", "pseudonym_key", "organs", "label_map", "overwrite", "seg_type", "deskew"),
)
"""Options of :func:`segment_options` that say how something found is written."""

Names = str | Iterable[str]


def segment_options(
    *,
    out: str | Path,
    per_organ: bool = False,
    dicom_seg: bool = False,
    seg_type: str = "binary",
    rtstruct: bool = False,
    deskew: bool = False,
    statistics: bool = False,
    report: bool = False,
    preview: bool = False,
    keep_identifiers: bool = False,
    pseudonym_key: str | Path | None = None,
    organs: Names | None = None,
    label_map: str | Path | None = None,
    cleanup: Names = "all",
    fill_holes: Names = "all",
    keep_share: float | None = None,
    keep_within: float = 30.0,
    keep_confidence: float = 0.6,
    model: str | Path | None = None,
    method: str | None = None,
    foundation: str | None = None,
    points: str | Path | None = None,
    boxes: str | Path | None = None,
    marks_frame: str | None = None,
    window: str | Iterable[float] | None = None,
    series: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    runtime: str = "torch",
    batch_size: int = 4,
    workers: int = 2,
    strict: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    scheduler: str | None = None,
    gpus_per_task: float = 0.0,
    memory_per_task: int | str | None = None,
    retries: int = 2,
    max_failures: int | None = None,
    log: str | Path | None = None,
    metrics: str | Path | None = None,
) -> SegmentOptions:
    """The options of ``domainsam ct segment`` as one value.

    Raises
    ------
    ConfigError
        If a value is impossible.
    """
    check_least(1, batch_size=batch_size, workers=workers)
    check_least(0, keep_share=keep_share, keep_within=keep_within, keep_confidence=keep_confidence)
    marks = MarkFiles(path_of(points), path_of(boxes), marks_frame)
    if marks:
        refuse_with_marks(model=model, method=method, strict=strict)
    return SegmentOptions(
        outputs=OutputOptions(
            out=Path(out),
            per_organ=per_organ,
            dicom_seg=dicom_seg,
            rtstruct=rtstruct,
            statistics=statistics,
            report=report,
            preview=preview,
            overwrite=overwrite,
            keep_identifiers=keep_identifiers,
            pseudonym_key=path_of(pseudonym_key),
            seg_type=check_choice("seg_type", seg_type, SEG_TYPES),
            deskew=deskew,
        ),
        model=path_of(model),
        method=None if method is None else cast("Method", check_choice("method", method, METHODS)),
        foundation=foundation,
        organs=None if organs is None else parts_of(organs, str),
        label_map=None if label_map is None else str(label_map),
        series_uid=series,
        run=RunOptions(
            device=str(device),
            precision=check_choice("precision", precision, PRECISIONS),
            batch_size=batch_size,
            workers=workers,
            window=_limits(window),
            runtime=check_choice("runtime", runtime, RUNTIMES),
        ),
        clean=CleanOptions(
            parts_of(cleanup, str), parts_of(fill_holes, str), keep_share, keep_within, keep_confidence
        ),
        marks=marks,
        strict=strict,
        resume=resume,
        quiet=quiet,
        spread=spread_options(scheduler, gpus_per_task, memory_per_task, retries, max_failures, log, metrics),
    )


def export_options(
    *,
    out: str | Path,
    nifti: bool = False,
    per_organ: bool = False,
    dicom_seg: bool = False,
    seg_type: str = "binary",
    rtstruct: bool = False,
    deskew: bool = False,
    statistics: bool = False,
    report: bool = False,
    preview: bool = False,
    keep_identifiers: bool = False,
    pseudonym_key: str | Path | None = None,
    organs: Names | None = None,
    label_map: str | Path | None = None,
    series: str | None = None,
    origin: str | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> ExportOptions:
    """The options of ``domainsam ct export`` as one value.

    A mask file as ``out`` means ``nifti``.

    Raises
    ------
    ConfigError
        If a value is impossible, or nothing is to be written.
    """
    named = not Path(out).is_dir() and str(out).lower().endswith(MASK_SUFFIXES)
    outputs = OutputOptions(
        out=Path(out),
        mask=nifti or named,
        per_organ=per_organ,
        dicom_seg=dicom_seg,
        rtstruct=rtstruct,
        statistics=statistics,
        report=report,
        preview=preview,
        overwrite=overwrite,
        keep_identifiers=keep_identifiers,
        pseudonym_key=path_of(pseudonym_key),
        seg_type=check_choice("seg_type", seg_type, SEG_TYPES),
        deskew=deskew,
    )
    return ExportOptions(
        outputs,
        organs=None if organs is None else parts_of(organs, str),
        label_map=None if label_map is None else str(label_map),
        series_uid=series,
        origin=None if origin is None else check_choice("origin", origin, ORIGINS),
        quiet=quiet,
    )


def export_mask(mask: str | Path, scan: str | Path, out: str | Path, **options: Any) -> CaseResult:
    """Write DICOM objects, statistics, pictures or a report of a mask of any tool and its CT.

    Parameters
    ----------
    mask
        NIfTI, NRRD, MetaImage, DICOM SEG, RTSTRUCT, or a folder of masks named after organs.
    scan
        A volume file, DICOM folder or zip of one.
    out
        Folder, or a mask file.
    **options
        Keywords of :func:`export_options`.

    Raises
    ------
    ConfigError
        If an option is unknown or impossible, or nothing is to be written.
    DomainSamError
        If mask or scan cannot be read, do not belong together, or an output cannot be written.
    """
    from domainsam_ct.export import export_case

    check_keywords("ct export", options, keyword_names(export_options))
    return export_case(Path(mask), Path(scan), export_options(out=out, **options))


def _limits(window: str | Iterable[float] | None) -> tuple[float, float] | None:
    """Lower and higher Hounsfield units of a window."""
    if window is None:
        return None
    limits = parts_of(window, float)
    if len(limits) != 2:
        raise ConfigError(f"window has {len(limits)} numbers, expected two, such as (-125, 275)")
    return limits[0], limits[1]


def run_segment(inputs: Any, out: str | Path | None = None, **options: Any) -> CaseResult | Batch | Any:
    """Segment one CT or several.

    Parameters
    ----------
    inputs
        A volume file, DICOM folder or zip of one; a table or folder of them; several of these; or a
        ``nibabel`` image in Hounsfield units, which goes through a temporary file.
    out
        Mask file or folder, as ``-o``. Without it an image is answered by an
        image: uint8 labels on the same voxels and affine.
    **options
        Keywords of :func:`segment_options`.

    Raises
    ------
    ConfigError
        If an option is unknown or impossible, or no output is named.
    DomainSamError
        Of a single CT, whatever made it fail.
    """
    check_keywords("ct segment", options, keyword_names(segment_options))
    if hasattr(inputs, "affine") and hasattr(inputs, "to_filename"):
        return _segment_image(inputs, out, options)
    from domainsam_ct.segment_marked import segment_inputs

    if out is None:
        raise ConfigError("ct segment: name an output, such as domainsam.run('ct', scan, 'organs.nii.gz')")
    cases = [Path(inputs)] if isinstance(inputs, str | Path) else [Path(case) for case in inputs]
    batch = segment_inputs(cases, segment_options(out=out, **options))
    return batch.results[0] if len(cases) == len(batch.results) == batch.count == 1 else batch


def open_scan(
    path: str | Path, *, window: str | Iterable[float] | None = None, series: str | None = None
) -> VolumeSource:
    """Open a CT for :func:`domainsam.open`; its frames are axial slices, frame 0 nearest to the feet.

    Parameters
    ----------
    path
        A volume file, DICOM folder or zip of one.
    window, series
        As of :func:`segment_options`.

    Raises
    ------
    MissingInputError, InputError
        If it cannot be read.
    """
    from domainsam_ct.read.open import VolumeSource
    from domainsam_ct.read.volume import ABDOMEN_WINDOW

    return VolumeSource.open(path, _limits(window) or ABDOMEN_WINDOW, series)


def save_found(
    source: VolumeSource, answer: EngineResult, out: str | Path, foundation: Foundation | None, **options: Any
) -> CaseResult:
    """Write what was found in an opened CT: a mask in its space, and the further files of ``options``.

    Parameters
    ----------
    options
        Those keywords of :func:`segment_options` that :data:`SAVED` names.

    Raises
    ------
    ConfigError
        If an option is unknown or impossible.
    InputError
        If a label cannot stand in a file's name.
    OutputError
        If an output exists or cannot be written.
    """
    from domainsam_ct.segment_marked import write_found

    check_keywords("save", options, SAVED)
    return write_found(source, answer, segment_options(out=out, **options), foundation)


def formats() -> dict[str, dict[str, list[str]]]:
    """Endings of the files that the job reads and writes, by kind."""
    further = {kind: [ending] for kind, ending in SIDE_FILES.items()}
    return {
        "inputs": {"volume": list(VOLUME_SUFFIXES), "DICOM series": ["folder", ".zip"]},
        "outputs": {"mask": list(MASK_SUFFIXES), **further},
    }


def _segment_image(image: Any, out: str | Path | None, options: dict[str, Any]) -> Any:
    """Segment an image through a temporary file, so that the answer is that of the same scan in a file."""
    with TemporaryDirectory(prefix="domainsam-") as folder:
        scan = Path(folder) / "image.nii"
        image.to_filename(scan)
        if out is not None:
            return run_segment(scan, out, **options)
        mask = Path(folder) / "mask.nii"
        result: Any = run_segment(scan, mask, **options)
        return _in_memory(result.paths["mask"])


def _in_memory(path: Path) -> Any:
    """A NIfTI image that needs its file no more."""
    import nibabel
    import numpy as np

    stored = nibabel.load(path)
    return nibabel.Nifti1Image(np.asarray(stored.dataobj).copy(), stored.affine, stored.header)
