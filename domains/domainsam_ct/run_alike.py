"""``ct propagate`` and ``ct find`` by keyword, and the same for scans that are opened in Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from domainsam.errors import ConfigError, InputError, MissingInputError
from domainsam.infer.spread import SpreadOptions
from domainsam.keywords import check_choice, check_keywords, keyword_names, path_of
from domainsam.marks import MarkFiles
from domainsam_ct.alike.settings import KINDS, FindOptions, Kind, PropagateOptions
from domainsam_ct.run import segment_options

if TYPE_CHECKING:
    from domainsam.infer.objects import EngineResult
    from domainsam.protocols import Foundation
    from domainsam_ct.alike.starts import Shown
    from domainsam_ct.job import Batch, CaseResult
    from domainsam_ct.read.open import VolumeSource
    from domainsam_ct.settings import SegmentOptions

NO_PART = (
    *("cleanup", "fill_holes", "keep_share", "keep_within", "keep_confidence"),
    *("method", "strict", "runtime"),
    *(item.name for item in fields(SpreadOptions)),
)
"""Options of :func:`~domainsam_ct.run.segment_options` that have no part in either command."""
NO_PART_IN_FIND = (*NO_PART, "points", "boxes", "marks_frame")


def propagate_options(
    *, out: str | Path, mask: str | Path | None = None, features: str = KINDS[0], **options: Any
) -> PropagateOptions:
    """The options of ``domainsam ct propagate`` as one value.

    Parameters
    ----------
    mask
        The organ on some slices of the scan, in any form that ``ct export`` reads.
    features
        One of :data:`~domainsam_ct.alike.settings.KINDS`.
    **options
        Keywords of :func:`~domainsam_ct.run.segment_options` but those of :data:`NO_PART`.

    Raises
    ------
    ConfigError
        If one is unknown or impossible.
    """
    check_keywords("ct propagate", options, (*_known(NO_PART), "mask", "features"))
    return PropagateOptions(_job(out, options), path_of(mask), _kind(features))


def find_options(
    *, out: str | Path, like: str | tuple[str | Path, str | Path], features: str = KINDS[0], **options: Any
) -> FindOptions:
    """The options of ``domainsam ct find`` as one value.

    Parameters
    ----------
    like
        The example: ``"SCAN:MASK"``, or the two paths.
    features, **options
        As of :func:`propagate_options`, without marks.

    Raises
    ------
    ConfigError
        If one is unknown or impossible.
    MissingInputError
        If the example is not there.
    """
    check_keywords("ct find", options, (*_known(NO_PART_IN_FIND), "like", "features"))
    scan, mask = split_example(like)
    return FindOptions(_job(out, options), scan, mask, _kind(features))


def split_example(like: str | tuple[str | Path, str | Path]) -> tuple[Path, Path]:
    """Scan and mask of an example that was given as ``"SCAN:MASK"``; either may hold a colon.

    Raises
    ------
    ConfigError
        If it has no colon.
    MissingInputError
        If no way to part it leaves two files.
    """
    if not isinstance(like, str):
        scan, mask = like
        pairs = [(Path(scan), Path(mask))]
    else:
        places = [place for place, letter in enumerate(like) if letter == ":"]
        pairs = [(Path(like[:at]), Path(like[at + 1 :])) for at in places if like[:at] and like[at + 1 :]]
    if not pairs:
        raise ConfigError(f"the example is '{like}'; expected SCAN:MASK, such as ct.nii.gz:organ.nii.gz")
    for scan, mask in pairs:
        if scan.exists() and mask.exists():
            return scan, mask
    scan, mask = pairs[-1]
    missing = mask if scan.exists() else scan
    raise MissingInputError(f"{missing}: no such file or folder, of the example '{like}'; check the path")


def _known(left_out: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in keyword_names(segment_options) if name not in (*left_out, "out"))


def _job(out: str | Path, options: dict[str, Any]) -> SegmentOptions:
    """What the commands have in common with ``ct segment``; marks need the model's features here."""
    rest = {name: value for name, value in options.items() if name != "model"}
    job = segment_options(out=out, cleanup="none", fill_holes="none", **rest)
    return replace(job, model=path_of(options.get("model")))


def _kind(features: str) -> Kind:
    return cast("Kind", check_choice("features", features, KINDS))


def run_propagate(scan: str | Path, out: str | Path, **options: Any) -> CaseResult | Batch:
    """Take an organ that was marked on slices through a scan, as ``domainsam ct propagate`` does.

    Parameters
    ----------
    scan
        A volume file, DICOM folder or zip of one.
    out
        Mask file or folder, as ``-o``.
    **options
        Keywords of :func:`propagate_options`.

    Raises
    ------
    ConfigError
        If an option is unknown or impossible, or nothing is marked.
    DomainSamError
        Whatever else made it fail.
    """
    from domainsam_ct.alike.cases import propagate_scan

    batch = propagate_scan(Path(scan), propagate_options(out=out, **options))
    return batch.results[0] if batch.results else batch


def run_find(inputs: Any, out: str | Path, **options: Any) -> CaseResult | Batch:
    """Find in scans what a mask shows in another, as ``domainsam ct find`` does.

    Parameters
    ----------
    inputs
        A volume file, DICOM folder or zip of one; or several of them.
    out, **options
        As ``-o``, and keywords of :func:`find_options`.

    Raises
    ------
    ConfigError
        If an option is unknown or impossible.
    DomainSamError
        Of a single scan, whatever made it fail.
    """
    from domainsam_ct.alike.cases import find_in_scans

    cases = [Path(inputs)] if isinstance(inputs, str | Path) else [Path(case) for case in inputs]
    batch = find_in_scans(cases, find_options(out=out, **options))
    return batch.results[0] if len(cases) == 1 and batch.results else batch


def find_in(
    source: VolumeSource,
    folder: Path,
    foundation: Callable[[], Foundation],
    *,
    like: Any = None,
    track: Any = None,
    features: str = KINDS[0],
    model: str | Path | None = None,
    device: str = "auto",
) -> tuple[EngineResult, Foundation | None]:
    """Find organs in an opened scan, for :meth:`domainsam.opened.scene.Opened.find`.

    Parameters
    ----------
    folder
        Takes the staged answer.
    foundation
        Loads the foundation, where one is needed.
    like
        ``"SCAN:MASK"`` or the two paths: organs as another scan shows them.
    track
        Organs on some slices of this one: a file of clicks and boxes (``.json``, ``.csv``), a mask file, or
        a bool array ``(slices, rows, columns)`` on the grid of the scan's pictures.
    features, model
        As of :func:`propagate_options`.
    device
        As ``--device``.

    Returns
    -------
    EngineResult, Foundation or None
        The answer, and the foundation that took part.

    Raises
    ------
    ConfigError
        If not one of ``like`` and ``track`` is given.
    DomainSamError
        If the example cannot be read or shows nothing, or the networks cannot be used.
    """
    from domainsam_ct.alike.cases import load_seeker
    from domainsam_ct.model.sweep import SliceRun
    from domainsam_ct.read.volume import ABDOMEN_WINDOW

    folder.mkdir(parents=True, exist_ok=True)
    if (like is None) == (track is None):
        raise ConfigError("say what is looked for in one way: like= a scan, or track= slices of this one")
    # The window of a scan that was opened without one is that of the model.
    window = None if source.window == ABDOMEN_WINDOW else source.window
    job = _job(folder / "found.nii.gz", {"device": device, "window": window, "model": model})
    seeker = load_seeker(job, _kind(features), _holds_marks(track), foundation)
    run = SliceRun(folder, {}, job.run.batch_size)
    if track is not None:
        from domainsam_ct.alike.propagate import propagate

        shown = _read_track(track, source, seeker.foundation)
        return propagate(source.volume, shown, seeker.describer, run), seeker.foundation
    from domainsam_ct.alike.cases import learn_example
    from domainsam_ct.alike.find import find

    scan, mask = split_example(like)
    learnt = learn_example(FindOptions(job, scan, mask, _kind(features)), seeker)
    return find(source.volume, learnt, seeker.describer, run), seeker.foundation


def _holds_marks(track: Any) -> bool:
    """Whether what is followed is a file of clicks and boxes, which a foundation has to decode."""
    return isinstance(track, str | Path) and Path(track).suffix.lower() in (".json", ".csv")


def _read_track(track: Any, source: VolumeSource, foundation: Foundation | None) -> tuple[Shown, ...]:
    """What is followed; clicks are decoded by the foundation."""
    import numpy as np

    from domainsam.infer.found import UNNAMED
    from domainsam_ct.alike.starts import Shown, named_apart, read_shown_marks, read_shown_mask

    if _holds_marks(track):
        assert foundation is not None
        return read_shown_marks(MarkFiles(Path(track)), source, foundation)
    if isinstance(track, str | Path):
        return read_shown_mask(Path(track), source.volume)
    mask = np.asarray(track)
    if mask.dtype != np.bool_ or mask.shape != source.grid.shape:
        raise InputError(
            f"track is an array of shape {mask.shape} and type {mask.dtype}; expected bool of "
            f"{source.grid.shape}: slices, rows, columns"
        )
    slices = {int(frame): mask[frame] for frame in np.flatnonzero(mask.any(axis=(1, 2)))}
    if not slices:
        raise InputError("track is empty; mark the organ on one slice at least")
    return named_apart("track", [Shown(UNNAMED, slices)])
