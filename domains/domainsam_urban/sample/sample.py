"""Draw a sample and write it with its form: the job of ``domainsam urban sample``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from domainsam.errors import InputError
from domainsam.infer.workroom import WorkRoom
from domainsam.staging import check_targets, open_scratch
from domainsam_urban.model.settlement import load_model
from domainsam_urban.sample.allocation import allocate, make_targets
from domainsam_urban.sample.chips import Framing, measure_scene_pixel
from domainsam_urban.sample.draw import draw_points
from domainsam_urban.sample.inputs import read_maps, read_scenes
from domainsam_urban.sample.result import Sample
from domainsam_urban.sample.settings import SampleOptions
from domainsam_urban.sample.strata import (
    BUFFER,
    GAIN,
    LOSS,
    MIXED,
    NAMES,
    OTHER,
    SETTLEMENT,
    count_strata,
    sweep_strata,
)
from domainsam_urban.sample.write import write_sample
from domainsam_urban.trend.settings import TrendOptions
from domainsam_urban.trend.stack import YearStack
from domainsam_urban.trend.trend import compare

LEAST_PIXELS = 2
"""A stratum of fewer pixels tells no spread: it is left out, and said."""


def draw_sample(inputs: Sequence[str], options: SampleOptions) -> Sample:
    """Draw the reference sample for an estimate of settlement area, or its change, and write it.

    Parameters
    ----------
    inputs
        Maps: ``YEAR=FILE``, files with a date, or folders of them.

    Raises
    ------
    InputError
        If there is no map, or none shows settlement.
    ConfigError
        If the target error cannot be reached, or an option is impossible.
    OutputError
        If a file exists and may not be replaced, or cannot be written.
    """
    years = read_maps(inputs, options.years)
    labels = tuple(year.label for year in years)
    scenes = read_scenes(options.scenes, labels)
    check_targets(options.targets, options.overwrite)
    pixel = min((measure_scene_pixel(path) for path in scenes.values()), default=0.0)
    reading = TrendOptions(
        out=options.out,
        masks=True,
        mask_class=options.mask_class,
        threshold=options.threshold,
        quiet=options.quiet,
    )

    def finish(stack: YearStack, room: WorkRoom) -> Sample:
        drawn = _draw(stack, options)
        files = write_sample(drawn, stack, scenes, Framing.of(stack.ground, pixel), options, room)
        return replace(drawn, files=files, notes=_tell(drawn, stack, scenes))

    # Nothing is left to go on with: drawing takes seconds, and folders of outputs may not be there yet.
    anchor = next(folder for folder in options.out.absolute().parents if folder.is_dir())
    with open_scratch(anchor / options.out.name) as scratch:
        return compare(years, reading, scratch / "work", finish, load_model).products


def _draw(stack: YearStack, options: SampleOptions) -> Sample:
    """The sample, before it is written."""
    found = count_strata(stack, options.buffer_m)
    if not found[[SETTLEMENT, GAIN, LOSS, MIXED]].any():
        raise InputError(
            f"no pixel of {', '.join(stack.labels)} is settlement, so there is nothing to divide the ground "
            "by: check --threshold and --mask-class"
        )
    pixels = np.where(found < LEAST_PIXELS, 0, found)
    allocation = allocate(pixels, make_targets(stack.labels, options, pixels), options)
    windows = sweep_strata(stack, options.buffer_m)
    points = draw_points(windows, stack.ground, pixels, allocation.points, options.seed)
    return Sample(stack.labels, pixels, pixels * stack.ground.pixel_ha, points, allocation, (), ())


def _tell(drawn: Sample, stack: YearStack, scenes: Mapping[str, str]) -> tuple[str, ...]:
    """What the user ought to know of a sample."""
    notes = list(stack.warnings)
    wanted = [OTHER, BUFFER, SETTLEMENT] if len(drawn.labels) == 1 else range(len(NAMES))
    absent = [NAMES[one] for one in wanted if drawn.allocation.points[one] == 0 and one != MIXED]
    if absent:
        notes.append(f"no ground is {' or '.join(absent)} by the maps, so the sample has no such stratum")
    lacking = [label for label in drawn.labels if label not in scenes]
    if lacking and scenes:
        notes.append(f"the form has no pictures of {', '.join(lacking)}: give them as --scene YEAR=FILE")
    elif lacking:
        notes.append("no form was made: give the pictures to judge by as --scene YEAR=FILE")
    return tuple(notes)
