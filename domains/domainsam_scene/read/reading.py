"""How a model's material was read: written into its file, and kept to when the model is used."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from domainsam.errors import CheckpointError
from domainsam_scene.settings import Range, Reading, ReadOptions

log = logging.getLogger(__name__)


def make_reading_table(read: ReadOptions, rasters: bool = False) -> dict[str, Any]:
    """What a model file holds of the reading, as values that JSON can hold."""
    table: dict[str, Any] = {
        "ranges": {name: list(limits) for name, limits in read.ranges.items()},
        "bands": {name: list(numbers) for name, numbers in read.bands.items()},
        "rasters": rasters,
    }
    return table if read.dilate is None else {**table, "dilate": read.dilate}


def parse_reading_table(table: Mapping[str, Any] | None, source: str) -> Reading:
    """The reading that a model file tells of; unknown for files that do not.

    Raises
    ------
    CheckpointError
        If it is not of the form that :func:`make_reading_table` gives.
    """
    if table is None:
        return Reading()
    try:
        ranges = {str(name): _limits(limits) for name, limits in table["ranges"].items()}
        bands = {str(name): tuple(map(int, numbers)) for name, numbers in table["bands"].items()}
        dilate = None if table.get("dilate") is None else int(table["dilate"])
        return Reading(ranges, bands, dilate, bool(table["rasters"]), known=True)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{source}: what it says of ranges and bands cannot be read ({error!r}); copy the file again"
        ) from error


def _limits(given: Sequence[float]) -> Range:
    low, high = given
    return float(low), float(high)


def settle_reading(
    asked: ReadOptions, learnt: Reading, sensors: Sequence[str], rasters: bool = False
) -> ReadOptions:
    """How to read for a model: as it learnt, unless somebody asks for something else, which is told.

    Parameters
    ----------
    asked
        What the options say.
    learnt
        What the model's file says.
    sensors
        Those that will be read.
    rasters
        Whether they are georeferenced rasters.

    Returns
    -------
    ReadOptions
        With notes on everything that differs from how the model learnt.
    """
    if not learnt.known:
        return asked
    notes: list[str] = []
    ranges = _settle("--range", asked.ranges, learnt.ranges, sensors, notes)
    bands = _settle("--bands", asked.bands, learnt.bands, sensors, notes) if rasters else asked.bands
    dilate = asked.dilate
    if dilate is None:
        dilate = learnt.dilate
    elif dilate != (learnt.dilate or 1):
        notes.append(f"--dilate {dilate} was asked for, but the model learnt with {learnt.dilate or 1}")
    if rasters != learnt.rasters:
        kinds = ("georeferenced rasters, stretched between percentiles", "pictures, as they are stored")
        has, had = kinds if rasters else kinds[::-1]
        notes.append(f"the model learnt from {had}; these are {has}: its answers may suffer")
    for note in notes:
        log.warning("%s", note)
    return replace(asked, ranges=ranges, bands=bands, dilate=dilate, notes=(*asked.notes, *notes))


def _settle(
    option: str,
    asked: Mapping[str, tuple[Any, ...]],
    learnt: Mapping[str, tuple[Any, ...]],
    sensors: Sequence[str],
    notes: list[str],
) -> dict[str, tuple[Any, ...]]:
    """One choice for every sensor; notes on those that differ from what was learnt."""
    for name in sensors:
        given, had = asked.get(name), learnt.get(name)
        if given is not None and given != had:
            before = "none, the usual one" if had is None else f"{name}={_text(had)}"
            notes.append(
                f"{option} {name}={_text(given)} was asked for, but the model learnt with {before}: "
                "its answers may suffer"
            )
    return {**{name: had for name, had in learnt.items() if name in sensors}, **asked}


def _text(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
