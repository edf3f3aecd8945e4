"""Find the maps that a sample is drawn from, and the pictures that it is judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from domainsam.errors import ConfigError, InputError
from domainsam_urban.trend.read.years import VECTOR_SUFFIXES, Year, parse_span, read_years

RASTER_SUFFIXES = (".tif", ".tiff", ".vrt", ".img")
LAYERS = "layers"
"""Folder of the years' probabilities in what ``domainsam urban trend --layers`` writes."""
TREND_FILES = ("areas.csv", "report.html")


def read_maps(inputs: Sequence[str], years: Sequence[str] | None) -> tuple[Year, ...]:
    """The maps in order of time; a folder stands for the maps in it, one of them is enough.

    Parameters
    ----------
    inputs
        ``YEAR=FILE``, files whose date stands in them, or folders of such files, also the folder that
        ``domainsam urban trend --layers`` wrote.
    years
        Labels of those that are wanted; None for all.

    Raises
    ------
    InputError
        If there is no map, or one has no date.
    ConfigError
        If a year that is wanted is not there, or a date cannot be read.
    """
    files = [file for given in inputs for file in _expand(given)]
    found = read_years(files, masks=True, least=1)
    if years is None:
        return found
    labels = [year.label for year in found]
    missing = [label for label in years if label not in labels]
    if missing:
        raise ConfigError(f"--years {missing[0]} is none of the maps: choose among {', '.join(labels)}")
    return tuple(year for year in found if year.label in years)


def _expand(given: str) -> list[str]:
    folder = Path(given)
    if not folder.is_dir():
        return [given]
    inside = folder / LAYERS if (folder / LAYERS).is_dir() else folder
    maps = [
        path
        for path in sorted(inside.iterdir())
        if path.suffix.lower() in (*RASTER_SUFFIXES, *VECTOR_SUFFIXES) and not path.name.startswith(".")
    ]
    rasters = [path for path in maps if path.suffix.lower() in RASTER_SUFFIXES]
    if rasters:
        return [_dated(path) for path in rasters]
    if any((folder / name).is_file() for name in TREND_FILES):
        raise InputError(
            f"{folder} is a trend without its maps: run domainsam urban trend with --layers, or give the "
            "maps as YEAR=FILE"
        )
    if not maps:
        raise InputError(
            f"{folder} holds no map: expected rasters or polygons named by their year, or give YEAR=FILE"
        )
    return [_dated(path) for path in maps]


def _dated(path: Path) -> str:
    """A path with its date before it, where its name is nothing but a date."""
    return f"{path.stem}={path}" if parse_span(path.stem) is not None else str(path)


def read_scenes(given: Sequence[str], labels: Sequence[str]) -> Mapping[str, str]:
    """Pictures by the label of their year.

    Raises
    ------
    ConfigError
        If one is of no year, or two are of one.
    """
    scenes: dict[str, str] = {}
    for item in given:
        label, equals, path = item.partition("=")
        if not equals and len(labels) == 1:
            label, path = labels[0], item
        if label not in labels:
            raise ConfigError(
                f"scene '{item}' is of none of the maps' years ({', '.join(labels)}): expected "
                f"{labels[0]}=FILE"
            )
        if label in scenes:
            raise ConfigError(f"two scenes are of {label} ({scenes[label]} and {path}): give one a year")
        scenes[label] = path
    return scenes
