"""Steps from the years' inputs to a stack of layers, each done once and resumable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from domainsam.errors import InputError
from domainsam.infer.blend import find_threshold_level
from domainsam.infer.journal import Steps, digest, mark_file
from domainsam_urban.model.settlement import SettlementModel
from domainsam_urban.settings import CONTEXT_PIXELS
from domainsam_urban.trend.align import shifts as place
from domainsam_urban.trend.align.smoothing import smooth_layers
from domainsam_urban.trend.align.warp import CommonSeen, write_common_valid
from domainsam_urban.trend.layers import LayerJob, LoadModel, make_layers
from domainsam_urban.trend.read.followed import Follower
from domainsam_urban.trend.read.scenes import to_map_options
from domainsam_urban.trend.read.survey import Survey
from domainsam_urban.trend.settings import TrendOptions
from domainsam_urban.trend.stack import Registration, YearLayer, YearStack

FOLDERS = ("own", "ground")
"""Of a run: years on their own grids, and on the common ground."""


class Comparison:
    """The steps of one run and what they share.

    Parameters
    ----------
    looked
        The inputs and their ground.
    model, load
        As :func:`~domainsam_urban.trend.layers.make_layers` takes them.
    steps
        What is done already.
    folder
        Takes the layers.
    """

    def __init__(
        self,
        looked: Survey,
        options: TrendOptions,
        model: SettlementModel | Follower | None,
        load: LoadModel,
        steps: Steps,
        folder: Path,
    ) -> None:
        self.survey, self.options, self.model, self.load = looked, options, model, load
        self.steps, self.folder = steps, folder
        self.labels = [item.year.label for item in looked.inputs]
        # Names tell versions of an input apart, so that a mended file is read anew.
        self.versions = [digest([mark_file(item.year.path), asdict(item)]) for item in looked.inputs]

    def stack(self) -> YearStack:
        """All years on the ground."""
        found = [self._registration(number) for number in range(len(self.labels))]
        layers = self._layers(found)
        valid = self.folder / "ground" / f"valid-{digest([path.name for path in layers])}.tif"
        seen = self.steps.once(
            ("valid", valid.stem),
            lambda: asdict(write_common_valid(tuple(layers), valid, self.survey.ground, self._reach())),
            (valid,),
        )
        if not seen["seen"]:
            raise InputError(
                "no pixel has data in all years, so nothing can be compared: leave out the year with the "
                f"least data (of {', '.join(self.labels)})"
            )
        smoothed = self._smoothed(layers)
        years = tuple(
            YearLayer(
                label=item.year.label,
                moment=item.year.moment,
                source=item.year.path,
                probability=layer,
                smoothed=smooth,
                scene=item.year.path if item.reading is not None else None,
                registration=registration,
            )
            for item, layer, smooth, registration in zip(
                self.survey.inputs, layers, smoothed, found, strict=True
            )
        )
        words = place.describe_shifts(self.labels, found, self.survey.reference, self.survey.ground)
        return YearStack(
            self.survey.ground,
            years,
            valid,
            find_threshold_level(self.options.threshold),
            (*self.survey.warnings, *words, *self._tell_edges(CommonSeen(**seen))),
        )

    def _reach(self) -> int:
        """Pixels of the ground from which a prediction takes its context; 0 where all years are masks."""
        readings = [item.reading for item in self.survey.inputs if item.reading is not None]
        pixel = self.survey.ground.pixel_m
        return max((round(CONTEXT_PIXELS * (one.resolution or pixel) / pixel) for one in readings), default=0)

    def _tell_edges(self, found: CommonSeen) -> tuple[str, ...]:
        """What of the ground that all years saw is not compared, and why."""
        if found.seen == found.compared:
            return ()
        ground = self.survey.ground
        return (
            f"{(found.seen - found.compared) * ground.pixel_ha:.1f} ha that all years saw are not compared: "
            f"within {self._reach() * ground.pixel_m:.0f} m of ground that only some saw, what is found "
            "depends on what lies beyond",
        )

    def _job(self, number: int, shift: tuple[float, float] = (0.0, 0.0)) -> LayerJob:
        name = f"{number:03d}-{self.versions[number]}"
        moved = "" if shift == (0.0, 0.0) else f"-{digest(shift)}"
        return LayerJob(
            number,
            self.survey.inputs[number],
            self.survey.ground,
            self.folder / "own" / f"{name}.tif",
            self.folder / "ground" / f"{name}{moved}.tif",
            shift,
        )

    def _registration(self, number: int) -> Registration | None:
        """Measured once, before anything is predicted; masks show only what changes."""
        reference = self.survey.reference
        if number == reference or self.options.masks:
            return None
        pair = self.survey.inputs[reference], self.survey.inputs[number]
        key = ("registration", self.versions[reference], self.versions[number])
        found = self.steps.once(key, lambda: asdict(place.measure(*pair, self.survey.ground)))
        return place.mark_corrected(Registration(**found), self.options.align)

    def _layers(self, found: Sequence[Registration | None]) -> list[Path]:
        jobs = [self._job(number, place.get_shift(one)) for number, one in enumerate(found)]
        keys = {job.number: ("layer", job.layer.stem) for job in jobs}
        waiting = [job for job in jobs if not self.steps.is_done(keys[job.number], (job.layer,))]
        options = to_map_options(self.options)
        for job in make_layers(
            waiting, options, self.model, self.load, self.options.workers, self.options.spread
        ):
            self.steps.finish(keys[job.number])
        return [job.layer for job in jobs]

    def _smoothed(self, layers: Sequence[Path]) -> list[Path | None]:
        smoothing = self.options.smoothing
        if smoothing is None:
            return [None] * len(layers)
        name = digest([path.name for path in layers])
        targets = [path.with_name(f"{path.stem}-smooth-{name}.tif") for path in layers]
        moments = [item.year.moment for item in self.survey.inputs if item.year.moment is not None]
        self.steps.once(
            ("smoothed", name),
            lambda: smooth_layers(layers, moments, targets, self.survey.ground, smoothing),
            tuple(targets),
        )
        return list(targets)
