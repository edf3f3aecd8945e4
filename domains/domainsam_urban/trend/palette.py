"""Colours of a trend, the same in QGIS, in figures and in the report."""

from __future__ import annotations

from collections.abc import Mapping

STATUS_COLOURS: Mapping[str, str] = {
    "appeared": "#b2182b",
    "expanded": "#ef8a62",
    "stable": "#8c8c8c",
    "shrunk": "#67a9cf",
    "vanished": "#2166ac",
    "split": "#762a83",
    "merged": "#1b7837",
}
"""ColorBrewer's RdBu for more and less, PRGn for parting and joining: safe for colour-blind readers."""
GAIN, KEPT, LOSS = "#d6403a", "#f2c14e", "#2b7bba"
"""Ground that became, stayed and ceased to be settlement."""
UNSEEN = "#9a9a9a"
"""Ground that some year did not see."""
SERIES = ("#0b5fa5", "#d9822b")
"""As predicted, and smoothed."""
OWN_EXTENT = "#7a7a7a"
