"""Write every product of a trend together, or none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from domainsam.errors import OutputError
from domainsam.staging import Staging
from domainsam_urban.trend.measure.adjusted import Adjustment, adjust
from domainsam_urban.trend.measure.areas import Figures, make_bounded_figures
from domainsam_urban.trend.measure.objects import ChangeObjects, find_change_objects
from domainsam_urban.trend.measure.sweep import Thresholds
from domainsam_urban.trend.measure.tallies import Blocks, Tally, tally
from domainsam_urban.trend.read.reference import Reference, look_up, read_reference
from domainsam_urban.trend.read.zones import Zoning, make_zonings
from domainsam_urban.trend.settings import ProductOptions, ZoneOptions
from domainsam_urban.trend.stack import YearStack
from domainsam_urban.trend.write.charts import CAPTIONS, Chart, draw_charts, render_figure
from domainsam_urban.trend.write.geopackage import write_geopackage
from domainsam_urban.trend.write.quicklooks import Pictures, draw_change_map, draw_pictures
from domainsam_urban.trend.write.report import ReportMaterial, render_report
from domainsam_urban.trend.write.tables import make_change_table, make_year_table, write_table

BY_YEAR, SMOOTHED = "year by year", "smoothed"
"""Series of figures: from each year by itself, and after smoothing over the years."""
REPORT, GEOPACKAGE, CHARTS, MAP = "report.html", "settlements.gpkg", "figures", "map_change"
TABLES = ("areas", "changes")


@dataclass(frozen=True)
class TrendProducts:
    """What was written, and its figures."""

    files: tuple[Path, ...]
    figures: Figures
    notes: tuple[str, ...]

    @property
    def report(self) -> Path:
        """The report."""
        return next(path for path in self.files if path.name == REPORT)


def list_product_files(folder: Path, zones: ZoneOptions | None = None) -> tuple[Path, ...]:
    """Every file that :func:`write_products` makes in a folder; without options, all that it may make."""
    charts = [name for name in CAPTIONS if zones is None or _wanted(name, zones)]
    pictures = tuple(folder / CHARTS / f"{name}.{end}" for name in (*charts, MAP) for end in ("svg", "png"))
    return (folder / REPORT, folder / GEOPACKAGE, *_table_files(folder), *pictures)


def _wanted(chart: str, zones: ZoneOptions) -> bool:
    if chart == "zones":
        return zones.zones is not None
    return chart != "rings" or zones.centre is not None or zones.ring_polygons is not None


def _table_files(folder: Path) -> tuple[Path, ...]:
    return tuple(folder / f"{name}.{end}" for name in TABLES for end in ("csv", "parquet"))


def write_products(stack: YearStack, options: ProductOptions, folder: Path) -> TrendProducts:
    """Count, compare and describe the years; every file appears, complete, or none does.

    Raises
    ------
    InputError, ConfigError
        If zones or reference data cannot be used.
    OutputError
        If a file exists and may not be replaced, or cannot be written.
    """
    files = list_product_files(folder, options.zones)
    with Staging(files, overwrite=options.overwrite) as staging:
        zonings = make_zonings(stack.ground, options.zones)
        reference = _reference(stack, options)
        thresholds = Thresholds.around(stack.threshold, options.uncertainty.spread)
        package = folder / GEOPACKAGE
        found = find_change_objects(stack, zonings, thresholds, options.objects, staging[package].parent)
        write_geopackage(staging[package], package, stack, found, zonings)
        parts = []
        for name, years in _series(stack):
            blocks = Blocks.of(stack.ground, options.uncertainty.block_m)
            tallies = tally(years, zonings, thresholds, blocks)
            parts.append(_figures(years, tallies, options, name, found, reference))
        figures = _joined([part.figures for part in parts])
        tables = {"areas": make_year_table(figures), "changes": make_change_table(figures)}
        for target in _table_files(folder):
            write_table(tables[target.stem], staging[target], target)
        notes = _notes(zonings, reference, parts)
        charts = draw_charts(figures, found.statuses)
        pictures = draw_pictures(stack, found)
        _write_charts(staging, folder, charts, pictures, stack)
        accuracies = [accuracy for part in parts for accuracy in part.accuracies]
        material = ReportMaterial(
            stack, options, figures, found, zonings, accuracies, charts, pictures, notes
        )
        staging.write_text(folder / REPORT, render_report(material))
    return TrendProducts(files, figures, notes)


def _notes(
    zonings: Sequence[Zoning], reference: Reference | None, parts: Sequence[Adjustment]
) -> tuple[str, ...]:
    notes = [note for zoning in zonings for note in zoning.notes]
    notes += [] if reference is None else reference.notes
    notes += [note for part in parts for note in part.notes]
    return tuple(dict.fromkeys(notes))


def _write_charts(
    staging: Staging, folder: Path, charts: Sequence[Chart], pictures: Pictures, stack: YearStack
) -> None:
    drawn = [(chart.name, chart.svg, chart.png) for chart in charts]
    drawn.append((MAP, *render_figure(draw_change_map(pictures, stack))))
    for name, svg, png in drawn:
        staging.write_text(folder / CHARTS / f"{name}.svg", svg)
        try:
            staging[folder / CHARTS / f"{name}.png"].write_bytes(png)
        except OSError as error:
            raise OutputError(
                f"cannot write '{folder / CHARTS}' ({error.strerror}): free some space"
            ) from error


def _reference(stack: YearStack, options: ProductOptions) -> Reference | None:
    path = options.uncertainty.reference
    return None if path is None else read_reference(path, stack.ground, stack.labels, options.uncertainty)


def _figures(
    stack: YearStack,
    tallies: Sequence[Tally],
    options: ProductOptions,
    series: str,
    found: ChangeObjects,
    reference: Reference | None,
) -> Adjustment:
    """Figures of one series, from reference data where there are any."""
    counts = found.counts if series == BY_YEAR else {}
    figures = make_bounded_figures(stack, tallies, options.uncertainty, series, counts)
    if reference is None:
        return Adjustment(figures, (), ())
    units = look_up(stack, reference)
    return adjust(stack, figures, tallies, units, options.uncertainty.level, series)


def _series(stack: YearStack) -> list[tuple[str, YearStack]]:
    own = [(BY_YEAR, stack)]
    return [*own, (SMOOTHED, stack.as_smoothed())] if stack.has_smoothed else own


def _joined(parts: Sequence[Figures]) -> Figures:
    return Figures(
        tuple(figure for part in parts for figure in part.years),
        tuple(figure for part in parts for figure in part.changes),
    )
