"""A row of a file of marks, and what its entries may look like."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from domainsam.errors import InputError
from domainsam.io.marks.places import Place, PlacedBox
from domainsam.names import show
from domainsam.protocols import Click, Window

Kind = Literal["marks", "boxes"]
YES, NO = ("1", "true", "yes", "t", "y", "1.0"), ("0", "false", "no", "f", "n", "0.0", "-1")


@dataclass(frozen=True)
class Mark:
    """One row of a file, before rows of one object are put together.

    ``points`` are clicks in scene pixels with the frame they lie in; ``area``
    is a box, or a window with a mask.
    """

    name: str
    key: str | None
    label: str | None
    points: tuple[tuple[int, Click], ...] = ()
    box: PlacedBox | None = None
    mask: tuple[Window, NDArray[np.bool_]] | None = None
    text: str | None = None


def stated_frame(path: Path, place: Place, in_file: object, given: str | None) -> str:
    """The frame of a file's coordinates: what it says itself, else what the caller says."""
    if in_file is not None and given is not None and in_file != given:
        raise InputError(
            f"{path}: says its coordinates are {in_file!r}, but {given!r} was asked for; give one"
        )
    frame = given if in_file is None else in_file
    if frame is None:
        if place.volume:
            raise InputError(
                f"{path}: does not say what its coordinates are; state the frame: {' or '.join(place.known)}"
            )
        frame = "pixel"
    return place.check_frame(str(path), frame)


def as_text(value: object) -> str | None:
    """A label, or an object's name; None where a table has nothing."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return " ".join(show(str(value)).split()) or None


def as_truth(name: str, value: object) -> bool:
    """Whether a mark is on its object; so it is where nothing is said.

    Raises
    ------
    InputError
        If the value is neither yes nor no.
    """
    text = as_text(value)
    if text is None or text.lower() in YES:
        return True
    if text.lower() in NO:
        return False
    raise InputError(f"{name}: positive is {text!r}; expected true or false, 1 or 0")


def as_slice(name: str, value: object) -> int | None:
    """Number of a slice or frame; None where nothing is said.

    Raises
    ------
    InputError
        If the value is no whole number.
    """
    text = as_text(value)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number.is_integer():
        raise InputError(f"{name}: slice is {text!r}; expected a whole number, counted from 0")
    return int(number)


def as_numbers(name: str, values: Any, what: str) -> list[float]:
    """Coordinates as floats.

    Raises
    ------
    InputError
        If one is no number.
    """
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: {what} is {values!r}; expected numbers") from error
