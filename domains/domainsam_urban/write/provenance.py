"""Record how an output was made: source, time, model, method."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from domainsam.errors import ConfigError

_TAG_NAMES = ("ACQUISITIONDATETIME", "ACQUISITION_DATETIME", "ACQUISITION_DATE")
_TIFF_TIME = "TIFFTAG_DATETIME"
_NAME = re.compile(
    r"(?<!\d)(?P<year>19[5-9]\d|20\d\d)(?P<sep>[-_.]?)(?P<month>0[1-9]|1[0-2])(?P=sep)(?P<day>0[1-9]|[12]\d|3[01])"
    r"(?:[T_-]?(?P<hour>[01]\d|2[0-3])[-:]?(?P<minute>[0-5]\d)[-:]?(?P<second>[0-5]\d))?Z?(?!\d)"
)
_YEAR = re.compile(r"(?<!\d)(19[5-9]\d|20\d\d)(?!\d)")


@dataclass(frozen=True)
class Acquisition:
    """When a scene was taken: an instant, or the first and last moment of the year known."""

    instant: datetime | None = None
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True)
class Provenance:
    """Where polygons come from; the text columns of every row.

    Parameters
    ----------
    source
        Name of the scene file.
    acquired
        When the scene was taken, as far as known.
    model, method
        Name of the model file, and how it was used ("two-pass", say).
    """

    source: str = ""
    acquired: Acquisition = Acquisition()
    model: str = ""
    method: str = ""


def find_acquisition(
    name: str, tags: Mapping[str, Any] | None = None, given: str | None = None
) -> Acquisition:
    """When a scene was taken, from the best witness at hand.

    In this order: what the user gave, the file's acquisition tags, a date in
    its name, the TIFF's date tag (last, because software also writes there the
    moment it made the file), a year in its name. A time without a zone is UTC.

    Parameters
    ----------
    name
        File name, without folders.
    tags
        The raster's metadata of all domains in one mapping.
    given
        ISO 8601 date or time, or a year alone.

    Raises
    ------
    ConfigError
        If ``given`` is no date.
    """
    if given is not None:
        return _given(given)
    tags = tags or {}
    for text in (*(tags.get(key) for key in _TAG_NAMES), _date_in(name), tags.get(_TIFF_TIME)):
        instant = _parsed(str(text)) if text else None
        if instant is not None:
            return Acquisition(instant=instant)
    year = _YEAR.search(name)
    return _whole_year(int(year[1])) if year else Acquisition()


def _given(text: str) -> Acquisition:
    if re.fullmatch(r"\d{4}", text):
        return _whole_year(int(text))
    instant = _parsed(text)
    if instant is None:
        raise ConfigError(f"'{text}' is no date: expected 2021, 2021-05-30 or 2021-05-30T10:15:00Z")
    return Acquisition(instant=instant)


def _whole_year(year: int) -> Acquisition:
    start = datetime(year, 1, 1, tzinfo=UTC)
    return Acquisition(start=start, end=datetime(year + 1, 1, 1, tzinfo=UTC) - timedelta(seconds=1))


def _date_in(name: str) -> str | None:
    for found in _NAME.finditer(name):
        part = found.groupdict(default="00")
        text = (
            f"{part['year']}-{part['month']}-{part['day']}T{part['hour']}:{part['minute']}:{part['second']}"
        )
        if _parsed(text) is not None:
            return text
    return None


def _parsed(text: str) -> datetime | None:
    """A time from ISO 8601 or from TIFF 6.0's ``YYYY:MM:DD HH:MM:SS``; None if it is neither."""
    iso = re.sub(r"^(\d{4}):(\d\d):(\d\d) ", r"\1-\2-\3T", text.strip())
    try:
        instant = datetime.fromisoformat(iso)
    except ValueError:
        return None
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
