"""Everything that pictures show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from domainsam.foundation import load_decoder
from domainsam.infer.batch import run_batch
from domainsam.infer.pictures import PictureView
from domainsam.prompter.everything import EverythingSource
from domainsam_photo.job import (
    Batch,
    PicturePlan,
    PictureResult,
    Shown,
    plan_pictures,
    write_annotations,
    write_picture,
)
from domainsam_photo.read.pictures import find_pictures, read_picture
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
    run = options.run
    plans = plan_pictures(find_pictures(inputs), run.out, run.overlay)
    names: list[str] = []

    def prepare() -> Callable[[PicturePlan], PictureResult]:
        foundation, _ = load_decoder(run.foundation, run.device, run.precision)
        names.append(foundation.name)
        source = EverythingSource(foundation, options.keep)

        def work(plan: PicturePlan) -> PictureResult:
            picture = read_picture(plan.picture)
            view = PictureView(lambda _: picture, 1, foundation)
            found = [Shown(view.enlarge_mask(one), one.score) for one in source.find(view)]
            return write_picture(plan, picture, found, run.overwrite or run.resume)

        return work

    batch = run_batch(
        plans,
        lambda plan: str(plan.picture),
        prepare,
        Batch,
        resume=run.resume,
        overwrite=run.overwrite or run.resume,
        watch=watch,
    )
    if names:
        write_annotations(plans, run.out, run.made_by, names[0])
    return batch
