"""Everything that pictures show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from domainsam.prompter.everything import EverythingOptions, EverythingSource
from domainsam.protocols import Foundation
from domainsam_photo.job import Batch, Finder, PictureResult, find_by, run_pictures
from domainsam_photo.settings import EverythingJobOptions

OF_PHOTOGRAPHS = {"embedded_lite": (0.65, 0.55)}
"""Least estimated IoU and stability by foundation; ``recipes/embedded/limits.py`` chose them."""


def segment_everything(
    inputs: Sequence[Path],
    options: EverythingJobOptions,
    watch: Callable[[PictureResult], None] | None = None,
) -> Batch:
    """Segment everything in pictures, and in folders of pictures, and write it.

    Raises
    ------
    InputError
        If nothing can be read.
    OutputError
        If an output exists or cannot be written.
    """

    def make_finder(foundation: Foundation) -> Finder:
        return find_by(EverythingSource(foundation, suit_limits(options.keep, foundation.name)), foundation)

    return run_pictures(inputs, options.run, make_finder, watch)


def suit_limits(keep: EverythingOptions, foundation: str) -> EverythingOptions:
    """The limits that suit a foundation on photographs, where none are given."""
    least_iou, least_stability = OF_PHOTOGRAPHS.get(foundation, (None, None))
    return replace(
        keep,
        least_iou=least_iou if keep.least_iou is None else keep.least_iou,
        least_stability=least_stability if keep.least_stability is None else keep.least_stability,
    )
