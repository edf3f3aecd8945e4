"""What changed between two scenes, as one file of polygons."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from domainsam.errors import OutputError
from domainsam.infer.workroom import WorkRoom
from domainsam.staging import Staging
from domainsam_urban.model import load_model
from domainsam_urban.trend.geopackage import write_geopackage
from domainsam_urban.trend.objects import change_objects
from domainsam_urban.trend.pipeline import Compared, compare
from domainsam_urban.trend.stack import YearStack
from domainsam_urban.trend.sweep import Thresholds
from domainsam_urban.trend.trend_options import TrendOptions
from domainsam_urban.trend.year_layers import LoadModel
from domainsam_urban.trend.years import read_pair
from domainsam_urban.trend.zones import make_zonings


def run_change(
    before: str, after: str, options: TrendOptions, load: LoadModel | None = None
) -> Compared[Counter[str]]:
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
        Its ``products`` are the numbers of settlements by status.

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


def _write(stack: YearStack, options: TrendOptions, room: WorkRoom) -> Counter[str]:
    """Write the GeoPackage; returns the number of settlements by status."""
    path, products = options.out, options.products
    zonings = make_zonings(stack.ground, products.zones)
    thresholds = Thresholds.around(stack.threshold, products.uncertainty.spread)
    with Staging((path,), overwrite=options.overwrite) as staging:
        folder = staging[path].parent
        room.note_staged({folder})
        found = change_objects(stack, zonings, thresholds, products.objects, folder)
        write_geopackage(staging[path], path, stack, found, zonings)
    return Counter(found.statuses)
