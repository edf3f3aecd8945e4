"""Compare years and write every product: the job of ``domainsam urban trend``."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import domainsam
from domainsam.errors import OutputError
from domainsam.foundation import load_decoder
from domainsam.grid import Grid
from domainsam.infer.journal import JOURNAL_FILE, Journal, Steps
from domainsam.infer.workroom import WorkRoom, count_units, require_space
from domainsam.io.marks import read_marks
from domainsam.io.rasters import to_centre_affine
from domainsam.staging import Staging
from domainsam_urban.job import make_scene_stem
from domainsam_urban.model.settlement import SHIPPED, SettlementModel, load_model
from domainsam_urban.trend.align.warp import copy_as_cog
from domainsam_urban.trend.comparison import FOLDERS, Comparison
from domainsam_urban.trend.ground import CommonGround
from domainsam_urban.trend.layers import LoadModel
from domainsam_urban.trend.measure.areas import ChangeFigure, YearFigure, make_bounded_figures
from domainsam_urban.trend.measure.objects import find_change_objects
from domainsam_urban.trend.measure.sweep import Thresholds
from domainsam_urban.trend.measure.tallies import Blocks, tally
from domainsam_urban.trend.read.followed import Follower, learn_follower
from domainsam_urban.trend.read.reference import read_reference
from domainsam_urban.trend.read.scenes import to_map_options
from domainsam_urban.trend.read.survey import Survey, survey
from domainsam_urban.trend.read.years import Year, read_pair, read_years
from domainsam_urban.trend.read.zones import make_whole, make_zonings
from domainsam_urban.trend.settings import ProductOptions, TrendOptions
from domainsam_urban.trend.stack import YearStack
from domainsam_urban.trend.write.geopackage import write_geopackage
from domainsam_urban.trend.write.products import BY_YEAR, TrendProducts, list_product_files, write_products

log = logging.getLogger(__name__)

STAGED_BYTES = 4
"""Bytes a pixel and year that may be staged: coarse and final probability, on its own grid and the ground."""
FREE_OPTIONS = ("out", "overwrite", "resume", "quiet", "workers", "spread", "products", "layers")
"""Options that do not decide what is staged, and may change when a run goes on."""

WHOLE_SHARE = 0.99
"""Ground of which less than this share was seen twice is told."""
LAYERS = "layers"
"""Folder of the years' probabilities among the products."""

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
        As :func:`domainsam_urban.trend.read.years.read_years` takes them.
    load
        Loads the model, by default :func:`load_model`; with several workers it has to be importable by name.

    Raises
    ------
    DomainSamError
        If inputs cannot be compared, the model cannot be used, or outputs cannot be written.
    """
    work = find_work_room(options.out)
    if options.resume and count_units(work):
        # A run that was killed while its products were put in place left some of them there.
        options = replace(options, overwrite=True)
    check_folder(options)
    model = "" if options.masks else (options.model or SHIPPED).stem
    products = replace(options.products, model=model, overwrite=options.overwrite)

    def finish(stack: YearStack, _: WorkRoom) -> TrendProducts:
        clear_half_made(options)
        written = write_products(stack, products, options.out)
        if not options.layers:
            return written
        layers = write_layers(stack, options)
        return replace(written, files=(*written.files, *layers))

    years = read_years(inputs, options.masks, options.asset)
    return compare(years, options, work, finish, load or load_model)


def find_work_room(out: Path) -> Path:
    """Hidden folder beside the products, for what an interrupted run leaves to go on with."""
    return out.with_name(f".{out.name}.domainsam")


def find_finished(options: TrendOptions) -> tuple[Path, ...]:
    """Every product, where the run to go on with is finished; none where anything is left to do."""
    files = list_product_files(options.out, options.products.zones)
    done = options.resume and not count_units(find_work_room(options.out))
    return files if done and all(path.is_file() for path in files) else ()


def check_folder(options: TrendOptions) -> None:
    """Refuse before any work what cannot be written.

    Raises
    ------
    OutputError
        If the folder is a file, or holds products that may not be replaced.
    """
    if options.out.exists() and not options.out.is_dir():
        raise OutputError(f"output '{options.out}' is a file: a trend writes several files, name a folder")
    existing = [path for path in list_product_files(options.out, options.products.zones) if path.exists()]
    if existing and not options.overwrite:
        raise OutputError(
            f"output '{existing[0]}' exists: choose another folder, or allow it with --overwrite"
        )


def clear_half_made(options: TrendOptions) -> None:
    """Remove what a killed run left half made; only the run that holds the output's work room may."""
    for folder in {path.parent for path in list_product_files(options.out)} | {options.out / LAYERS}:
        for left in folder.glob(".domainsam-*.part"):
            shutil.rmtree(left, ignore_errors=True)


def write_layers(stack: YearStack, options: TrendOptions) -> tuple[Path, ...]:
    """Write each year's probability on the ground as a Cloud-Optimised GeoTIFF, which ``--masks`` takes.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    targets = {options.out / LAYERS / f"{make_scene_stem(year.label)}.tif": year for year in stack.years}
    with Staging(targets, overwrite=options.overwrite) as staging:
        for target, year in targets.items():
            copy_as_cog(year.probability, staging[target], target)
    return tuple(targets)


def compare(
    years: Sequence[Year],
    options: TrendOptions,
    work: Path,
    finish: Callable[[YearStack, WorkRoom], Made],
    load: LoadModel,
) -> Compared[Made]:
    """Bring the years to a common ground in the folder ``work``, then call ``finish`` on the stack.

    Raises
    ------
    DomainSamError
        As :func:`run_trend`.
    """
    model: SettlementModel | Follower | None = None
    if options.follow is not None:
        looked = survey(years, options, None)
        model = load_follower(looked, options)
    else:
        model = None if options.masks else load(to_map_options(options))
        known = (None, None) if model is None else (model.resolution, model.known)
        looked = survey(years, options, *known)
    check_places(looked, options.products)
    rows, cols = looked.ground.shape
    needed = rows * cols * len(years) * STAGED_BYTES
    require_space(work.parent, needed, f"{len(years)} years of {cols} x {rows} pixels")
    with (
        WorkRoom(work, options.resume, keep_on_bad_input=True) as room,
        Journal(room.folder / JOURNAL_FILE, mark_run(years, looked, options), options.resume) as journal,
    ):
        for name in FOLDERS:
            if not journal.resumed:
                shutil.rmtree(room.folder / name, ignore_errors=True)
            (room.folder / name).mkdir(exist_ok=True)
        stack = Comparison(looked, options, model, load, Steps(journal), room.folder).stack()
        for warning in stack.warnings:
            log.warning(warning)
        products = finish(stack, room)
        return Compared(stack, tuple(years), products, journal.resumed)


def load_follower(looked: Survey, options: TrendOptions) -> Follower:
    """What outlines look like in their year.

    Raises
    ------
    ConfigError
        If that year is none of the years.
    InputError
        If outlines cannot be used, or one lies outside of the ground that all years share.
    WeightsError, CheckpointError
        If the foundation cannot be loaded.
    """
    follow = options.follow
    assert follow is not None
    start = follow.find_start([item.year.label for item in looked.inputs])
    years = []
    for item in looked.inputs:
        assert item.reading is not None
        years.append((item.year.path, item.reading))
    # Outside of the common ground nothing can be compared.
    read_marks(follow.outlines, make_ground_grid(looked.ground))
    foundation, precision = load_decoder(options.foundation, options.run.device, options.run.precision)
    return learn_follower(years, start, follow.outlines, follow.reach, foundation, precision)


def make_ground_grid(ground: CommonGround) -> Grid:
    """The common ground as marks are placed on it."""
    return Grid(ground.shape, to_centre_affine(ground.affine), ground.crs.to_wkt())


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


def mark_run(years: Sequence[Year], looked: Survey, options: TrendOptions) -> dict[str, Any]:
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


@dataclass(frozen=True)
class ChangeProducts:
    """What became of the settlements of two scenes, on ground that both saw.

    Parameters
    ----------
    counts
        Number of settlements by status.
    years
        Area of either, with bounds from the maps alone.
    change
        What changed between them, likewise.
    """

    counts: Counter[str]
    years: tuple[YearFigure, ...]
    change: ChangeFigure

    @property
    def cautions(self) -> tuple[str, ...]:
        """What a person ought to know before telling others of a change."""
        words = []
        place, seen = self.years[0].place_ha, self.years[0].valid_ha
        if seen < WHOLE_SHARE * place:
            words.append(f"{seen:.1f} of {place:.1f} ha are compared; all figures are of that ground alone")
        if self.change.net.holds(0) and set(self.counts) - {"stable"}:
            words.append(
                "the net change cannot be told from none: settlements that are said to have changed may be "
                "the maps' own doubt (domainsam urban trend --reference estimates it from a sample)"
            )
        return tuple(words)


def run_change(
    before: str, after: str, options: TrendOptions, load: LoadModel | None = None
) -> Compared[ChangeProducts]:
    """Compare two scenes and write a GeoPackage: a layer each, and one of what changed.

    Parameters
    ----------
    before, after
        Files, with a date before them (``2016=a.tif``) or not.
    options
        ``options.out`` is the GeoPackage.

    Returns
    -------
    Compared
        Its ``products`` are the numbers of settlements by status, and the areas with their bounds.

    Raises
    ------
    DomainSamError
        If they cannot be compared, the model cannot be used, or the file cannot be written.
    """
    path = options.out
    _check(path, options.overwrite)
    years = read_pair(before, after, options.masks)
    work = path.with_name(f".{path.stem}.domainsam")
    return compare(years, options, work, lambda stack, room: _write(stack, options, room), load or load_model)


def _check(path: Path, overwrite: bool) -> None:
    if path.suffix.lower() != ".gpkg":
        raise OutputError(f"output '{path}' must end in .gpkg: it holds several layers")
    if path.is_dir():
        raise OutputError(f"output '{path}' is a folder: name a file in it")
    if path.exists() and not overwrite:
        raise OutputError(f"output '{path}' exists: choose another name, or allow it with --overwrite")


def _write(stack: YearStack, options: TrendOptions, room: WorkRoom) -> ChangeProducts:
    """Write the GeoPackage; returns what it says in figures."""
    path, products = options.out, options.products
    zonings = make_zonings(stack.ground, products.zones)
    thresholds = Thresholds.around(stack.threshold, products.uncertainty.spread)
    with Staging((path,), overwrite=options.overwrite) as staging:
        folder = staging[path].parent
        room.note_staged({folder})
        found = find_change_objects(stack, zonings, thresholds, products.objects, folder)
        write_geopackage(staging[path], path, stack, found, zonings)
    whole = [make_whole(stack.ground)]
    uncertainty = products.uncertainty
    counted = tally(stack, whole, thresholds, Blocks.of(stack.ground, uncertainty.block_m))
    figures = make_bounded_figures(stack, counted, uncertainty, BY_YEAR, {})
    return ChangeProducts(Counter(found.statuses), tuple(figures.of_years()), figures.of_changes()[0])
