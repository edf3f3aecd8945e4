"""Survey every input before any work: kind, place, resolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from domainsam.errors import ConfigError, InputError
from domainsam.familiar import Known
from domainsam.io.rasters import Handles
from domainsam_urban.model.gate import judge_scene
from domainsam_urban.read.place import Place
from domainsam_urban.read.scene import RasterSource
from domainsam_urban.trend.ground import CommonGround, Footprint, choose_ground
from domainsam_urban.trend.read.maps import MaskRule, choose_mask_rule, find_polygon_place
from domainsam_urban.trend.read.scenes import Reading, choose_resolution, match_radiometry
from domainsam_urban.trend.read.years import Year
from domainsam_urban.trend.settings import TrendOptions

FAR_FACTOR = 2.0
"""A scene coarser than the model's resolution by more is far from what the model has learnt."""
LITTLE_SHARED = 0.5
"""Share of the ground that all years cover, below which the reader is told."""


@dataclass(frozen=True)
class YearInput:
    """One year and how it is read: a ``reading`` for scenes, a ``rule`` for mask rasters."""

    year: Year
    reading: Reading | None = None
    rule: MaskRule | None = None
    bands: tuple[int, ...] = (1,)
    nodata: float | None = None


@dataclass(frozen=True)
class Survey:
    """All inputs, the ground they share, the index of the reference year, and warnings."""

    inputs: tuple[YearInput, ...]
    ground: CommonGround
    reference: int
    warnings: tuple[str, ...]


def survey(
    years: Sequence[Year], options: TrendOptions, learnt: float | None, known: Known | None = None
) -> Survey:
    """Look at every input.

    Parameters
    ----------
    learnt
        Ground pixel in metres at which the model was trained; None for masks.
    known
        What the model's training scenes were like: years that are unlike them are told.

    Raises
    ------
    InputError
        If an input cannot be read, holds no data, has other bands than the
        rest, or the years have no ground in common.
    ConfigError
        If the reference year is none of the years, or the ground asked for is impossible.
    """
    if options.masks and options.align:
        raise ConfigError("--align needs scenes: masks show only what changes, which tells nothing of places")
    if options.masks and options.classifier is not None:
        raise ConfigError("--classifier needs scenes: masks are taken as they are, leave it out")
    reference = find_reference_index(years, options.reference_year)
    inputs: list[YearInput] = []
    footprints: list[Footprint] = []
    warnings: list[str] = []
    coarser: dict[str, float] = {}
    for year in years:
        looked = _scene(year, options, learnt, known) if year.kind == "scene" else _mask(year, options)
        inputs.append(looked.input)
        coarser[year.label] = looked.coarser
        warnings += looked.warnings
        if looked.place is not None:
            footprints.append(Footprint(year.label, looked.place, looked.pixel_m))
    if not footprints:
        raise InputError("every year is empty, so there is nothing to compare and no place to compare it")
    warnings += _far(coarser)
    if options.read.normalize == "reference":
        inputs = _match(inputs, reference, options)
    _refuse_other_bands(inputs)
    rasters = [print_ for print_ in footprints if print_.pixel_m > 0]
    if not rasters:
        rasters = [replace(footprint, pixel_m=_vector_pixel(footprints)) for footprint in footprints]
    chosen = choose_ground(rasters, options.ground)
    if chosen.shared < LITTLE_SHARED:
        warnings.append(
            f"only {chosen.shared:.0%} of the ground is seen in all years; comparisons are made there alone"
        )
    return Survey(tuple(inputs), chosen.ground, reference, (*warnings, *chosen.warnings))


@dataclass(frozen=True)
class _Looked:
    """What was seen of one input.

    ``pixel_m`` is 0 for polygons, which have none; ``coarser`` is a scene's
    pixel over that which the model has learnt at.
    """

    input: YearInput
    place: Place | None
    pixel_m: float
    coarser: float = 1.0
    warnings: tuple[str, ...] = ()


def find_reference_index(years: Sequence[Year], label: str | None) -> int:
    """Index of the reference year, the last one unless another is named.

    Raises
    ------
    ConfigError
        If no year is called so.
    """
    labels = [year.label for year in years]
    if label is None:
        return len(labels) - 1
    if label not in labels:
        raise ConfigError(
            f"--reference-year '{label}' is none of the years: choose one of {', '.join(labels)}"
        )
    return labels.index(label)


def _scene(year: Year, options: TrendOptions, learnt: float | None, known: Known | None) -> _Looked:
    resolution, coarser = choose_resolution(year.path, options.read, learnt)
    reading = Reading(options.read, resolution)
    with reading.open(year.path) as source:
        profile = source.profile_info
        bands, nodata = source.bands, profile.nodata
        notes = (*source.notes, *_doubts(source, year.label, known))
        native, work = profile.ground_pixel or (1.0, 1.0), profile.work_pixel or (1.0, 1.0)
    place, _ = _place(year.path)
    pixel = max(native[0] * native[1], work[0] * work[1]) ** 0.5
    chosen = YearInput(year, reading=reading, bands=bands, nodata=nodata)
    return _Looked(chosen, place, pixel, coarser, notes)


def _doubts(source: RasterSource, label: str, known: Known | None) -> list[str]:
    """Why what the model finds in a year may not be relied on; resolution is told of all years together."""
    if known is None:
        return []
    judgement = judge_scene(source, known, None)
    return [f"{label}: doubtful: {doubt.text}" for doubt in judgement.doubts if doubt.kind != "resolution"]


def _mask(year: Year, options: TrendOptions) -> _Looked:
    if year.kind == "mask-vector":
        note = (
            f"{Path(year.path).name} holds polygons, which do not say what was not looked at: all of the "
            "ground counts as seen in that year"
        )
        return _Looked(YearInput(year), find_polygon_place(year.path), 0.0, warnings=(note,))
    rule = choose_mask_rule(year.path, options.mask_class)
    place, pixel = _place(year.path)
    if place.crs is None:
        raise InputError(f"{year.path}: has no CRS, so it cannot be compared with other years; give it one")
    return _Looked(YearInput(year, rule=rule, nodata=255), place, pixel)


def _far(coarser: Mapping[str, float]) -> list[str]:
    """A warning about years whose scenes the model knows none like."""
    far = [label for label, factor in coarser.items() if factor > FAR_FACTOR]
    if not far:
        return []
    times = max(coarser[label] for label in far)
    return [
        f"the scenes of {', '.join(far)} have pixels up to {times:.1f} times as coarse as those that the "
        "model has learnt on: what it finds there is uncertain beyond the intervals given"
    ]


def _place(path: str) -> tuple[Place, float]:
    """A raster's grid and its pixel in metres."""
    handles = Handles(path)
    try:
        with handles.reading("its header") as dataset:
            place = Place.of(dataset)
    finally:
        handles.close()
    return place, place.pixel_metres()


def _match(inputs: Sequence[YearInput], reference: int, options: TrendOptions) -> list[YearInput]:
    """Readings whose brightness follows the reference year's."""
    aim = inputs[reference]
    matched = []
    for index, item in enumerate(inputs):
        if index != reference and item.reading is not None:
            radiometry = match_radiometry(item.year.path, aim.year.path, options.read)
            item = replace(item, reading=replace(item.reading, radiometry=radiometry))
        matched.append(item)
    return matched


def _refuse_other_bands(inputs: Sequence[YearInput]) -> None:
    """Grey beside colour is no comparison: what differs then is the sensor."""
    colours = {len(set(item.bands)): item.year for item in inputs if item.reading is not None}
    if len(colours) > 1:
        grey, colour = colours[min(colours)], colours[max(colours)]
        raise InputError(
            f"{grey.path} has {min(colours)} band and {colour.path} has {max(colours)}, so what differs "
            "would be the sensor: choose bands that all years have, for example --bands 1,1,1"
        )


def _vector_pixel(footprints: Sequence[Footprint]) -> float:
    """A pixel for years that are all polygons: a two-thousandth of the longest side, from 0.5 to 30 m."""
    pixel = max(footprint.place.pixel_metres() for footprint in footprints) / 2000
    return float(min(30.0, max(0.5, round(pixel, 1))))
