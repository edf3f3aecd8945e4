"""Read lists of inputs with their dates from CSV tables and STAC files."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domainsam.errors import InputError, MissingInputError

PATH_COLUMNS = ("path", "file", "scene", "href", "mask")
TIME_COLUMNS = ("datetime", "date", "year", "time")
PREFERRED = ("visual", "data", "image", "analytic", "mask")
"""Asset keys that hold the picture, by the custom of STAC catalogues; taken in this order."""
RASTER_TYPES = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff", "application/geotiff")
VECTOR_TYPES = ("application/geopackage", "application/vnd.apache.parquet", "application/geo+json")
DEPTH = 8
"""Catalogues inside catalogues before a loop is suspected."""


@dataclass(frozen=True)
class Listed:
    """An input and its date as written; ``label`` is what the user calls it, if anything."""

    path: str
    when: str | None
    stated: str
    label: str | None = None


def read_csv(path: Path) -> list[Listed]:
    """Rows of a table with a column of paths and one of dates; paths are relative to the table.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it is no such table.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such file; check the path") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a table ({error}); expected CSV in UTF-8") from error
    names = {name.strip().lower(): name for name in (rows[0] if rows else {}) if name}
    where = next((names[name] for name in PATH_COLUMNS if name in names), None)
    when = next((names[name] for name in TIME_COLUMNS if name in names), None)
    if where is None or when is None:
        raise InputError(
            f"{path}: expected columns 'path' and 'datetime' and a row for each year, "
            f"got {', '.join(names) or 'nothing'}"
        )
    listed = []
    for number, row in enumerate(rows, start=2):
        if not row[where] or not row[when]:
            raise InputError(f"{path}: line {number} lacks its path or date; fill in both")
        listed.append(Listed(_beside(path, row[where].strip()), row[when].strip(), f"line {number}"))
    return listed


def read_stac(path: Path, asset: str | None = None) -> list[Listed]:
    """Items of a STAC item, item collection, collection or catalogue, with those it links to.

    Parameters
    ----------
    asset
        Key of the asset to take; by default the usual keys, then the only raster.

    Raises
    ------
    MissingInputError
        If a file is absent.
    InputError
        If a file is not STAC, has no item, or an item has no date or no fitting asset.
    """
    listed = [_listed(place, item, asset) for place, item in _items(path, DEPTH)]
    if not listed:
        raise InputError(f"{path}: this STAC file leads to no item; give a catalogue that holds some")
    return listed


def _items(path: Path, depth: int) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Items with the file that each stands in."""
    document = _load(path)
    kind = document.get("type")
    if kind == "Feature":
        yield path, document
    elif kind == "FeatureCollection":
        yield from ((path, item) for item in document.get("features", ()))
    elif kind in ("Catalog", "Collection") or "links" in document:
        if not depth:
            raise InputError(f"{path}: catalogues are nested more than {DEPTH} deep; give an inner one")
        for link in document.get("links", ()):
            if link.get("rel") in ("item", "items", "child"):
                target = str(link.get("href", ""))
                if "://" in target:
                    raise InputError(
                        f"{path}: links to {target}, which is not on this machine; download the items first"
                    )
                yield from _items(Path(_beside(path, target)), depth - 1)
    else:
        raise InputError(f"{path}: is no STAC item, collection or catalogue (its type is {kind!r})")


def _load(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such file; check the path") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}); expected a STAC file") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: expected a STAC object, got a {type(document).__name__}")
    return document


def _listed(place: Path, item: Mapping[str, Any], asset: str | None) -> Listed:
    name = item.get("id", "item")
    properties = item.get("properties") or {}
    when = properties.get("datetime") or _middle(properties)
    if not when:
        raise InputError(f"{place}: item '{name}' has no datetime; STAC asks for one")
    href = _choose(place, str(name), item.get("assets") or {}, asset)
    return Listed(_beside(place, href), str(when), f"STAC item {name}")


def _middle(properties: Mapping[str, Any]) -> str | None:
    """The year or day that an item's interval begins, where it has no single moment."""
    start, end = properties.get("start_datetime"), properties.get("end_datetime")
    if not start or not end:
        return None
    same_year = str(start)[:4] == str(end)[:4]
    return str(start)[:4] if same_year and str(start)[5:10] == "01-01" else str(start)


def _choose(place: Path, name: str, assets: Mapping[str, Any], asset: str | None) -> str:
    """The address of an item's picture."""
    if asset is not None:
        if asset not in assets:
            raise InputError(
                f"{place}: item '{name}' has no asset '{asset}'; it has: {', '.join(assets) or 'none'}"
            )
        return str(assets[asset]["href"])
    for key in PREFERRED:
        if key in assets:
            return str(assets[key]["href"])
    kinds = RASTER_TYPES + VECTOR_TYPES
    fitting = [key for key, value in assets.items() if str(value.get("type", "")).startswith(kinds)]
    rasters = [key for key in fitting if str(assets[key].get("type")).startswith(RASTER_TYPES)]
    chosen = rasters or fitting
    if len(chosen) != 1:
        raise InputError(
            f"{place}: item '{name}' has {len(chosen)} fitting assets ({', '.join(assets) or 'none'}); "
            "name the one to read with --asset"
        )
    return str(assets[chosen[0]]["href"])


def _beside(file: Path, href: str) -> str:
    """An address as it stands, or a relative one from the file that names it."""
    if "://" in href or href.startswith("/vsi"):
        return href
    return str(file.parent / href)
