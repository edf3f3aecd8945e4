"""From the years' files to finished figures: the job of ``domainsam urban trend``, as Python calls it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import domainsam
from domainsam.errors import InputError, OutputError
from domainsam.infer.blend import threshold_level
from domainsam.infer.engine import JOURNAL_FILE
from domainsam.infer.journal import Journal
from domainsam.infer.workroom import WorkRoom, require_space
from domainsam_urban.model import SettlementModel, load_model
from domainsam_urban.trend import registration as place
from domainsam_urban.trend.predict import as_map_options
from domainsam_urban.trend.product_options import ProductOptions
from domainsam_urban.trend.products import TrendProducts, product_files, write_products
from domainsam_urban.trend.reference import read_reference
from domainsam_urban.trend.smoothing import smooth_layers
from domainsam_urban.trend.stack import Registration, YearLayer, YearStack
from domainsam_urban.trend.steps import Steps, digest, file_marks
from domainsam_urban.trend.survey import Survey, survey
from domainsam_urban.trend.trend_options import TrendOptions
from domainsam_urban.trend.warp import write_common_valid
from domainsam_urban.trend.year_layers import LayerJob, LoadModel, make_layers, stage_existing
from domainsam_urban.trend.years import Year, read_years
from domainsam_urban.trend.zones import make_zonings

log = logging.getLogger(__name__)

STAGED_BYTES = 4
"""Bytes a pixel and year that may be staged: coarse and final probability, on its own grid and the ground."""
FREE_OPTIONS = ("out", "overwrite", "resume", "quiet", "workers", "products")
"""Options that do not decide what is staged, and may change when a run goes on."""

Made = TypeVar("Made")


@dataclass(frozen=True)
class Compared(Generic[Made]):
    """A finished comparison and what was made of it; the stack's layers are gone."""

    stack: YearStack
    years: tuple[Year, ...]
    products: Made
    resumed: bool


TrendResult = Compared[TrendProducts]


def run_trend(inputs: Sequence[str], options: TrendOptions, load: LoadModel | None = None) -> TrendResult:
    """Compare settlements over the years and write every product into a folder, or none.

    Parameters
    ----------
    inputs
        As :func:`domainsam_urban.trend.years.read_years` takes them.
    load
        Loads the model, by default :func:`load_model`; with several workers it has to be importable by name.

    Raises
    ------
    DomainSamError
        If inputs cannot be compared, the model cannot be used, or outputs cannot be written.
    """
    check_folder(options)
    return compare(
        read_years(inputs, options.masks, options.asset),
        options,
        options.out.with_name(f".{options.out.name}.domainsam"),
        lambda stack: write_products(stack, options.products, options.out),
        load or load_model,
    )


def check_folder(options: TrendOptions) -> None:
    """Refuse before any work what cannot be written.

    Raises
    ------
    OutputError
        If the folder is a file, or holds products that may not be replaced.
    """
    if options.out.exists() and not options.out.is_dir():
        raise OutputError(f"output '{options.out}' is a file: a trend writes several files, name a folder")
    existing = [path for path in product_files(options.out) if path.exists()]
    if existing and not options.overwrite:
        raise OutputError(
            f"output '{existing[0]}' exists: choose another folder, or allow it with --overwrite"
        )


def compare(
    years: Sequence[Year],
    options: TrendOptions,
    work: Path,
    finish: Callable[[YearStack], Made],
    load: LoadModel,
) -> Compared[Made]:
    """Bring the years to a common ground in the folder ``work``, and let ``finish`` make of it what it will.

    Raises
    ------
    DomainSamError
        As :func:`run_trend`.
    """
    model = None if options.masks else load(as_map_options(options))
    looked = survey(years, options, None if model is None else model.resolution)
    check_places(looked, options.products)
    rows, cols = looked.ground.shape
    needed = rows * cols * len(years) * STAGED_BYTES
    require_space(work.parent, needed, f"{len(years)} years of {cols} x {rows} pixels")
    with (
        WorkRoom(work, options.resume, keep_on_bad_input=True) as room,
        Journal(room.folder / JOURNAL_FILE, marks(years, looked, options), options.resume) as journal,
    ):
        stack = _Comparison(looked, options, model, load, Steps(journal), room.folder).stack()
        for warning in stack.warnings:
            log.warning(warning)
        products = finish(stack)
        return Compared(stack, tuple(years), products, journal.resumed)


def check_places(looked: Survey, products: ProductOptions) -> None:
    """Refuse zones and reference data that cannot be used before hours of work and not after.

    Raises
    ------
    InputError, ConfigError
        If one of them cannot be used.
    """
    make_zonings(looked.ground, products.zones)
    uncertainty = products.uncertainty
    if uncertainty.reference is not None:
        labels = tuple(item.year.label for item in looked.inputs)
        read_reference(uncertainty.reference, looked.ground, labels, uncertainty)


def marks(years: Sequence[Year], looked: Survey, options: TrendOptions) -> dict[str, Any]:
    """What has to be the same for a run to go on."""
    chosen = {key: value for key, value in asdict(options).items() if key not in FREE_OPTIONS}
    # Through JSON's idea of values: sets and paths have none.
    settings = {key: repr(value) for key, value in chosen.items()}
    return {
        "version": domainsam.__version__,
        "years": [[year.label, year.path] for year in years],
        "ground": looked.ground.to_dict(),
        "min_area": options.products.objects.min_area,
        **settings,
    }


class _Comparison:
    """The steps of one run and what they share."""

    def __init__(
        self,
        looked: Survey,
        options: TrendOptions,
        model: SettlementModel | None,
        load: LoadModel,
        steps: Steps,
        folder: Path,
    ) -> None:
        self.survey, self.options, self.model, self.load = looked, options, model, load
        self.steps, self.folder = steps, folder
        self.labels = [item.year.label for item in looked.inputs]
        # Names tell versions of an input apart, so that a mended file is read anew.
        self.versions = [digest([file_marks(item.year.path), asdict(item)]) for item in looked.inputs]
        for name in ("own", "ground"):
            (folder / name).mkdir(exist_ok=True)

    def stack(self) -> YearStack:
        """All years on the ground."""
        found = [self._registration(number) for number in range(len(self.labels))]
        layers = self._layers(found)
        valid = self.folder / "ground" / f"valid-{digest([path.name for path in layers])}.tif"
        seen = self.steps.once(
            ("valid", valid.stem),
            lambda: write_common_valid(tuple(layers), valid, self.survey.ground),
            (valid,),
        )
        if not seen:
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
        words = place.in_words(self.labels, found, self.survey.reference, self.survey.ground)
        return YearStack(
            self.survey.ground,
            years,
            valid,
            threshold_level(self.options.threshold),
            (*self.survey.warnings, *words),
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
        """Measured once, before anything is predicted."""
        reference = self.survey.reference
        if number == reference:
            return None
        jobs = self._job(reference), self._job(number)

        def measured() -> dict[str, Any]:
            for job in jobs:
                if job.input.reading is None:
                    stage_existing(job)
            first, second = ((job.input, job.own) for job in jobs)
            return asdict(place.measure(first, second, self.survey.ground))

        key = ("registration", self.versions[reference], self.versions[number])
        return place.corrected(Registration(**self.steps.once(key, measured)), self.options.align)

    def _layers(self, found: Sequence[Registration | None]) -> list[Path]:
        jobs = [self._job(number, place.shift_of(one)) for number, one in enumerate(found)]
        keys = {job.number: ("layer", job.layer.stem) for job in jobs}
        waiting = [job for job in jobs if not self.steps.is_done(keys[job.number], (job.layer,))]
        options = as_map_options(self.options)
        for job in make_layers(waiting, options, self.model, self.load, self.options.workers):
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
