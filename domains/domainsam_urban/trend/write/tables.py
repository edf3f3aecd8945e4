"""Figures as tables: CSV for people and spreadsheets, Parquet for programs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from domainsam.errors import OutputError
from domainsam.names import as_cell
from domainsam_urban.trend.measure.areas import ChangeFigure, Figures, YearFigure
from domainsam_urban.trend.measure.bounds import Estimate

DIGITS = 6
"""Decimals in CSV: a hundredth of a square metre."""


def make_year_table(figures: Figures) -> Any:
    """A row for each series, place, extent and year (DataFrame); areas in hectares, shares 0 to 1."""
    return pd.DataFrame([_year_row(figure) for figure in figures.years])


def make_change_table(figures: Figures) -> Any:
    """A row for each series, place and pair of years (DataFrame); rates are per year, 0.01 for 1 %."""
    return pd.DataFrame([_change_row(figure) for figure in figures.changes])


def write_table(table: Any, staged: Path, target: Path) -> None:
    """Write a table in the format of the target's extension: ``.csv`` or ``.parquet``.

    Raises
    ------
    OutputError
        If the disk refuses it.
    """
    try:
        if target.suffix == ".parquet":
            table.to_parquet(staged, index=False, compression="zstd")
        else:
            texts = table.select_dtypes(exclude=["number", "bool", "datetime"]).columns
            cells = table.round(DIGITS).assign(**{name: table[name].map(as_cell) for name in texts})
            cells.to_csv(staged, index=False, lineterminator="\n")
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"cannot write '{target}' ({reason}): free some space, or choose another folder"
        ) from error


def _year_row(figure: YearFigure) -> dict[str, Any]:
    return {
        "series": figure.series,
        "kind": figure.kind,
        "place": figure.place,
        "extent": figure.extent,
        "year": figure.year,
        "datetime": "" if figure.moment is None else figure.moment.isoformat(),
        "place_ha": figure.place_ha,
        "valid_ha": figure.valid_ha,
        **_columns("count", figure.count),
        **_columns("area_ha", figure.area),
        **_columns("share", figure.share),
        "method": figure.method,
    }


def _change_row(figure: ChangeFigure) -> dict[str, Any]:
    return {
        "series": figure.series,
        "kind": figure.kind,
        "place": figure.place,
        "from": figure.early,
        "to": figure.late,
        "years": figure.years,
        "valid_ha": figure.valid_ha,
        **_columns("net_ha", figure.net),
        **_columns("gain_ha", figure.gain),
        **_columns("loss_ha", figure.loss),
        **_columns("annual_rate", figure.rate),
        "method": figure.method,
    }


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    values = {"": estimate.central, "_low": estimate.low, "_high": estimate.high}
    return {name + end: value if math.isfinite(value) else math.nan for end, value in values.items()}
