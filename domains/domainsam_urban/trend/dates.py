"""Dates as users and files write them, and the labels that tell years apart."""

from __future__ import annotations

import re
from calendar import monthrange
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

EXPECTED = "expected 2016, 2016-05, 2016-05-30 or 2016-05-30T10:15:00Z"


@dataclass(frozen=True)
class Span:
    """A stretch of time as precise as it was written: a year, a month, a day or an instant."""

    start: datetime
    end: datetime

    @property
    def middle(self) -> datetime:
        """The moment that stands for it in rates a year."""
        return (self.start + (self.end - self.start) / 2).replace(microsecond=0)

    def overlaps(self, other: Span) -> bool:
        """Whether the two cannot be put in order."""
        return self.start <= other.end and other.start <= self.end


def parse_span(text: str) -> Span | None:
    """A span from ISO 8601, as far as it goes; None if the text is no date. Times without a zone are UTC."""
    text = text.strip()
    if re.fullmatch(r"(18|19|20|21)\d\d", text):
        return _until(datetime(int(text), 1, 1, tzinfo=UTC), datetime(int(text) + 1, 1, 1, tzinfo=UTC))
    month = re.fullmatch(r"(\d{4})-(0[1-9]|1[0-2])", text)
    if month:
        start = datetime(int(month[1]), int(month[2]), 1, tzinfo=UTC)
        return _until(start, start + timedelta(days=monthrange(start.year, start.month)[1]))
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    instant = instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
    if re.fullmatch(r"\d{4}-\d\d-\d\d|\d{8}", text):
        return _until(instant, instant + timedelta(days=1))
    return Span(instant, instant)


def _until(start: datetime, end: datetime) -> Span:
    """Up to the last second before ``end``."""
    return Span(start, end - timedelta(seconds=1))


def shortest_labels(moments: Sequence[datetime]) -> tuple[str, ...]:
    """The year, if that tells all moments apart; otherwise months, days or seconds, the same for all."""
    for form in ("%Y", "%Y-%m", "%Y-%m-%d"):
        labels = [moment.strftime(form) for moment in moments]
        if max(Counter(labels).values(), default=0) <= 1:
            return tuple(labels)
    return tuple(moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in moments)
