"""Names that come from files, made fit for where they go: paths, tables, pages and terminals.

A model's header, a label map, zones, DICOM texts and STAC items are written
by others. What they call things must neither leave the output folder, nor run
as a formula in a spreadsheet, nor steer a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from domainsam.errors import InputError

LONGEST_PART = 200
"""Bytes of a path part; file systems take 255, and endings come on top."""
RESERVED = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices."""
FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f/\\\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Separators of any system, and what is no letter at all."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that steer a terminal or the direction of text; tabs and new lines are not among them."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""First characters with which spreadsheets begin to calculate."""


def check_part(name: str, origin: str) -> str:
    """Return a name that is to be one part of a path, unchanged, if it can be that and nothing else.

    Parameters
    ----------
    origin
        Where the name comes from, for the message: ``"the model"``.

    Raises
    ------
    InputError
        If it is empty, too long, hidden, reserved, or would lead into another folder.
    """
    bad = FORBIDDEN.search(name) or RESERVED.fullmatch(name) or name != name.strip() or name.endswith(".")
    if not name or name.startswith(".") or bad or len(name.encode()) > LONGEST_PART:
        raise InputError(
            f"{origin} calls something '{show(name[:60])}', which cannot be part of a file's name; "
            "expected letters, digits, '_', '-' and '.': correct the name there"
        )
    return name


_veils: dict[object, Callable[[str], str]] = {}
"""What hides names of persons in this process, see :mod:`domainsam.pseudonyms`."""


def add_veil(veil: Callable[[str], str]) -> None:
    """Have :func:`show` pass texts through ``veil`` from now on."""
    _veils[veil] = veil


def lift_veils() -> None:
    """Show everything again: a new command begins."""
    _veils.clear()


def show(text: str) -> str:
    """A text for a person: control characters are shown as codes such as x1b, tabs and new lines stay.

    Persons that run under pseudonyms are called by these.
    """
    for veil in tuple(_veils.values()):
        text = veil(text)
    return CONTROL.sub(lambda found: found.group().encode("unicode_escape", "surrogatepass").decode(), text)


def as_cell(value: object) -> object:
    """A cell of a table that no spreadsheet takes for a formula; numbers, as text too, stay as they are."""
    if not isinstance(value, str):
        return value
    text = show(value)
    return f"'{text}" if text.startswith(FORMULA) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
