"""Scores in tables: undefined ones are empty cells or null."""

from __future__ import annotations

import json
import math

from domainsam.metrics.bootstrap import Interval
from domainsam.metrics.tables import clean_row, csv_text, interval_document, without_repeats


def test_undefined_numbers_become_null() -> None:
    row = {"name": "a", "iou": math.nan, "hd95": math.inf, "dice": 0.5, "pixels": 3}
    assert json.dumps(clean_row(row), allow_nan=False) == (
        '{"name": "a", "iou": null, "hd95": null, "dice": 0.5, "pixels": 3}'
    )
    interval = Interval(0.5, math.nan, math.nan, 1, 0.95)
    assert interval_document(interval) == {"value": 0.5, "low": None, "high": None}


def test_undefined_numbers_are_empty_cells() -> None:
    rows = [clean_row({"case": "a, b", "dice": math.nan}), clean_row({"case": "c", "dice": 1.0})]
    assert csv_text(rows) == 'case,dice\n"a, b",\nc,1.0\n'
    assert csv_text([], ("case", "dice")) == "case,dice\n"


def test_notes_keep_their_order_and_come_once() -> None:
    assert without_repeats(["b", "a", "b"]) == ("b", "a")
