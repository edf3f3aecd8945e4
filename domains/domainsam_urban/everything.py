"""Everything that a scene shows: the foundation asked at a grid of points, over the whole scene."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter

from domainsam.infer.found import UNNAMED
from domainsam.infer.journal import JOURNAL_FILE, Journal
from domainsam.infer.networks import Networks, identify
from domainsam.infer.objects import EngineResult
from domainsam.infer.things import StagedWindows
from domainsam.infer.view import SceneView
from domainsam.progress import Progress, report_nothing
from domainsam.prompter.everything import SHARED, EverythingOptions, EverythingSource
from domainsam.prompter.search import own_areas
from domainsam_urban.job import EVERYTHING
from domainsam_urban.model.settlement import MarkedObjects
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.settings import MapOptions
from domainsam_urban.write.staged import stage_found


def settle_least_area(
    options: MapOptions, keep: EverythingOptions, source: RasterSource
) -> tuple[MapOptions, EverythingOptions]:
    """Settle the least area of objects in pixels and of polygons in m², by the one of them that was given.

    Objects that lie upon one another are cut by each other, and slivers of them are not worth a polygon.
    """
    pixel, asked = measure_pixel(source), options.shape.min_area
    if asked:
        return options, replace(keep, least_area=max(1, int(asked / pixel)))
    return replace(options, shape=replace(options.shape, min_area=keep.least_area * pixel)), keep


def measure_pixel(source: RasterSource) -> float:
    """Square metres of a pixel as the scene is looked at; 1 without a CRS."""
    pixel = source.profile_info.work_pixel
    return 1.0 if pixel is None else pixel[0] * pixel[1]


def find_everything(
    source: RasterSource,
    model: MarkedObjects,
    keep: EverythingOptions,
    folder: Path,
    resume: bool = False,
    progress: Progress = report_nothing,
) -> EngineResult:
    """Find all that the foundation sees, most trusted first; finding nothing is an answer.

    Windows are journalled one by one, so that a run that was killed goes on with the next.

    Parameters
    ----------
    keep
        What is kept.
    folder
        Takes the staged answer.
    resume
        Whether to go on with what an earlier run left there.

    Raises
    ------
    InputError
        If the run to go on with had another scene or other options.
    OutputError
        If the folder cannot be written.
    """
    begin = perf_counter()
    foundation = model.foundation
    windows = own_areas(source.grid.frame_shape, foundation.image_size, 0, SHARED)
    marks = {
        "shape": list(source.grid.frame_shape),
        **source.fingerprint,
        "foundation": identify(foundation),
        "precision": model.precision,
        "everything": asdict(keep),
    }
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        journal = stack.enter_context(Journal(folder / JOURNAL_FILE, marks, resume))
        staged = StagedWindows(folder, journal, len(windows), progress)
        view = SceneView(source, Networks(foundation, model.device, model.precision), foundation)
        found = tuple(EverythingSource(foundation, keep, staged.once).find(view))
        resumed = journal.resumed
    told = {
        "way": EVERYTHING,
        "windows": len(windows),
        "found": len(found),
        "least_m2": round(keep.least_area * measure_pixel(source), 3),
    }
    seconds = {"search": perf_counter() - begin}
    answer = stage_found(source, found, (UNNAMED,), folder, told, seconds, smaller_first=True)
    return replace(answer, resumed=resumed)
