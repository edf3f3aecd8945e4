"""Everything that pictures show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from domainsam.prompter.everything import EverythingSource
from domainsam.protocols import Foundation
from domainsam_photo.job import Batch, Finder, PictureResult, find_by, run_pictures
from domainsam_photo.settings import EverythingJobOptions


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
        return find_by(EverythingSource(foundation, options.keep), foundation)

    return run_pictures(inputs, options.run, make_finder, watch)
