"""Read lists of inputs with their dates from CSV tables and STAC files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domainsam.documents import expect, read_json, read_rows, resolve_beside, shorten, take
from domainsam.errors import InputError
from domainsam.names import show
from domainsam.network import is_remote, require_local
from domainsam.reading import reads

PATH_COLUMNS = ("path", "file", "scene", "href", "mask")
TIME_COLUMNS = ("datetime", "date", "year", "time")
PREFERRED = ("visual", "data", "image", "analytic", "mask")
"""Asset keys that hold the picture, by the custom of STAC catalogues; taken in this order."""
RASTER_TYPES = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff", "application/geotiff")
VECTOR_TYPES = ("application/geopackage", "application/vnd.apache.parquet", "application/geo+json")
DEPTH = 8
"""Catalogues inside catalogues before a loop is suspected."""
MOST_ITEMS = 10_000


@dataclass(frozen=True)
class Listed:
    """An input and its date as written; ``label`` is what the user calls it, if anything."""

    path: str
    when: str | None
    stated: str
    label: str | None = None


@reads("a table of scenes")
def read_csv(path: Path) -> list[Listed]:
    """Rows of a table with a column of paths and one of dates; paths are relative to the table.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it is no such table.
    """
    rows, names = read_rows(path)
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
        named = require_local(resolve_beside(path, row[where].strip()), f"{path}: line {number}")
        listed.append(Listed(named, row[when].strip(), f"line {number}"))
    return listed


@reads("a STAC file")
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
        If a file is not STAC, has no item, leads to more than :data:`MOST_ITEMS`, names an address on the
        network, or an item has no date or no fitting asset.
    """
    listed: list[Listed] = []
    for place, item in list_items(path):
        if len(listed) >= MOST_ITEMS:
            raise InputError(f"{path}: leads to more than {MOST_ITEMS} items; give a catalogue of the years")
        listed.append(_listed(place, item, asset))
    if not listed:
        raise InputError(f"{path}: this STAC file leads to no item; give a catalogue that holds some")
    return listed


def list_items(path: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Items of a STAC file and of those it links to, each with the file that it stands in.

    Raises
    ------
    InputError
        If a file is not STAC, or names an address on the network.
    """
    yield from _items(path, DEPTH, {path.resolve()})


def _items(path: Path, depth: int, seen: set[Path]) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Items with the file that each stands in; each file once, however many links lead to it."""
    document = read_json(path, "a STAC file")
    kind = document.get("type")
    if kind == "Feature":
        yield path, document
    elif kind == "FeatureCollection":
        for number, item in enumerate(take(document, "features", list, path, [])):
            yield path, expect(item, dict, f"{path}: feature {number}")
    elif kind in ("Catalog", "Collection") or "links" in document:
        if not depth:
            raise InputError(f"{path}: catalogues are nested more than {DEPTH} deep; give an inner one")
        for target in _targets(path, document):
            known = target.resolve()
            if known not in seen:
                seen.add(known)
                yield from _items(target, depth - 1, seen)
    else:
        raise InputError(f"{path}: is no STAC item, collection or catalogue (its type is {shorten(kind)})")


def _targets(path: Path, document: Mapping[str, Any]) -> Iterator[Path]:
    """Files of this machine that a catalogue links to as its own."""
    for number, link in enumerate(take(document, "links", list, path, [])):
        where = f"{path}: link {number}"
        if take(expect(link, dict, where), "rel", str, where, "") in ("item", "items", "child"):
            target = take(link, "href", str, where)
            if is_remote(target):
                raise InputError(
                    f"{path}: links to {show(target)[:100]}, which is not on this machine; download "
                    "the items first"
                )
            yield Path(resolve_beside(path, target))


def _listed(place: Path, item: Mapping[str, Any], asset: str | None) -> Listed:
    name, where = name_item(place, item)
    when = find_time(item, where)
    if not when:
        raise InputError(f"{place}: item '{name}' has no datetime; STAC asks for one")
    return Listed(find_picture(place, item, asset), when, f"STAC item {name}")


def name_item(place: Path, item: Mapping[str, Any]) -> tuple[str, str]:
    """An item's identifier, and how messages call it."""
    name = show(str(item.get("id", "item")))[:80]
    return name, f"{place}: item '{name}'"


def find_time(item: Mapping[str, Any], where: str) -> str | None:
    """When an item's picture was taken, as it states it."""
    properties = take(item, "properties", dict, where, {})
    return take(properties, "datetime", str, where, "") or _middle(properties, where)


def find_picture(place: Path, item: Mapping[str, Any], asset: str | None) -> str:
    """Path or address of an item's picture.

    Raises
    ------
    InputError
        If no asset fits, or it names an address on the network and that is not allowed.
    """
    _, where = name_item(place, item)
    assets = {
        str(key): expect(value, dict, f"{where}: asset '{show(str(key))[:40]}'")
        for key, value in take(item, "assets", dict, where, {}).items()
    }
    chosen = _choose(where, assets, asset)
    href = take(chosen, "href", str, f"{where}: its asset")
    return require_local(resolve_beside(place, href), where)


def _middle(properties: Mapping[str, Any], where: str) -> str | None:
    """The year or day that an item's interval begins, where it has no single moment."""
    start = take(properties, "start_datetime", str, where, "")
    end = take(properties, "end_datetime", str, where, "")
    if not start or not end:
        return None
    return start[:4] if start[:4] == end[:4] and start[5:10] == "01-01" else start


def _choose(where: str, assets: Mapping[str, Mapping[str, Any]], asset: str | None) -> Mapping[str, Any]:
    """An item's picture among its assets."""
    names = show(", ".join(assets))[:200] or "none"
    if asset is not None:
        if asset not in assets:
            raise InputError(f"{where} has no asset '{asset}'; it has: {names}")
        return assets[asset]
    for key in PREFERRED:
        if key in assets:
            return assets[key]
    kinds = {key: str(value.get("type", "")) for key, value in assets.items()}
    fitting = [key for key, kind in kinds.items() if kind.startswith(RASTER_TYPES + VECTOR_TYPES)]
    chosen = [key for key in fitting if kinds[key].startswith(RASTER_TYPES)] or fitting
    if len(chosen) != 1:
        raise InputError(
            f"{where} has {len(chosen)} fitting assets ({names}); name the one to read with --asset"
        )
    return assets[chosen[0]]
