"""Scores as rows of tables and as values for JSON; an undefined score is an empty cell, or null."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from domainsam.metrics.bootstrap import Interval
from domainsam.names import as_cell


def finite_or_none(value: float) -> float | None:
    """A number for JSON; None where it is NaN or infinite."""
    return float(value) if math.isfinite(value) else None


def clean_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with undefined numbers as None; what is no float stays."""
    return {key: finite_or_none(value) if isinstance(value, float) else value for key, value in row.items()}


def interval_document(interval: Interval) -> dict[str, float | None]:
    """Value and ends of an interval, for JSON."""
    return clean_row({"value": interval.value, "low": interval.low, "high": interval.high})


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> str:
    """Rows as CSV under a heading: ``columns``, by default the first row's keys. None is an empty cell.

    Texts that a spreadsheet would take for formulas begin with an apostrophe; see
    :func:`domainsam.names.as_cell`.
    """
    file = io.StringIO()
    names = list(columns) or list(rows[0])
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([as_cell(name) for name in names])
    writer.writerows([as_cell(row.get(name, "")) for name in names] for row in rows)
    return file.getvalue()


def without_repeats(notes: Iterable[str]) -> tuple[str, ...]:
    """Notes in order, each once."""
    return tuple(dict.fromkeys(notes))
