"""Scores as lines of text."""

from __future__ import annotations

from math import nan
from types import SimpleNamespace

import pytest

from domainsam_cli.console import aligned, cell


@pytest.mark.parametrize(
    ("value", "low", "high", "sign", "text"),
    [
        (0.8154, 0.7449, 0.8751, "-", "0.815 [0.745, 0.875]"),
        (0.05, 0.01, 0.09, "+", "+0.050 [0.010, 0.090]"),
        (0.5, nan, nan, "-", "0.500"),
        (nan, nan, nan, "-", "n/a"),
    ],
)
def test_cell(value: float, low: float, high: float, sign: str, text: str) -> None:
    assert cell(SimpleNamespace(value=value, low=low, high=high), sign) == text


def test_columns_are_of_even_width_and_lines_end_without_space() -> None:
    assert list(aligned([["", "full"], ["IoU", "0.6"], ["Precision", ""]])) == [
        "           full",
        "IoU        0.6",
        "Precision",
    ]
