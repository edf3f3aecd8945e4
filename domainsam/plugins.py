"""What other packages offer under an entry-point group, found without importing it.

The groups: ``domainsam.packs`` (:mod:`domainsam.packs`), ``domainsam.foundations``
(:mod:`domainsam.foundations`), ``domainsam.vocabularies`` (:mod:`domainsam.vocabularies`) and
``domainsam.prompters`` (:mod:`domainsam.prompter`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, TypeVar

from domainsam.errors import PackError

log = logging.getLogger(__name__)


class Named(Protocol):
    """A row of a table."""

    @property
    def name(self) -> str:
        """As people call it."""
        ...


Row = TypeVar("Row", bound=Named)


def offers(group: str) -> Iterator[EntryPoint]:
    """Entry points of a group in alphabetical order, those seen twice only once."""
    seen: set[tuple[str, str]] = set()
    for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
        if (entry.name, entry.value) not in seen:
            seen.add((entry.name, entry.value))
            yield entry


def find_offers(group: str, what: str) -> dict[str, EntryPoint]:
    """Entry points of a group by name; ``what`` they are called in errors.

    Raises
    ------
    PackError
        If two distributions offer different things under one name.
    """
    found: dict[str, EntryPoint] = {}
    for entry in offers(group):
        other = found.get(entry.name)
        if other is not None:
            raise PackError(
                f"two {what}s are named {entry.name!r}: {other.value} and {entry.value}; "
                "uninstall one of them"
            )
        found[entry.name] = entry
    return found


def load_offer(entry: EntryPoint, what: str) -> Any:
    """What an entry point names, imported.

    Raises
    ------
    PackError
        If that fails, whatever the reason: it is another's code.
    """
    try:
        return entry.load()
    except Exception as error:
        raise PackError(
            f"{what} {entry.name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error


def find_rows(own: Mapping[str, Row], row: type[Row], group: str, what: str) -> dict[str, Row]:
    """Rows of a table by name: our ``own``, then those of installed packages, each a ``row`` or a list.

    What is broken, or takes a name that is taken, is left out and logged in a line.
    """
    found = dict(own)
    for entry in offers(group):
        try:
            offered = load_offer(entry, what)
            rows = list(offered) if isinstance(offered, (list, tuple)) else [offered]
            _require_rows(rows, row, f"{what} {entry.value}")
        except PackError as error:
            log.warning("%s", error)
            continue
        for one in rows:
            if found.setdefault(one.name, one) is not one:
                log.warning(
                    "%s %r of %s is left out: the name is taken; rename it", what, one.name, entry.value
                )
    return found


def _require_rows(rows: list[Any], row: type, what: str) -> None:
    for one in rows:
        if not isinstance(one, row):
            raise PackError(f"{what} is a {type(one).__name__}, expected a {row.__name__} or a list of them")


def find_paths(group: str, own: Mapping[str, str], what: str) -> dict[str, str]:
    """``"module:attribute"`` by name: our ``own`` first, which hold without installed metadata, then others'.

    What takes a name that is taken is left out and logged in a line.
    """
    found = dict(own)
    for entry in offers(group):
        if found.setdefault(entry.name, entry.value) != entry.value:
            log.warning(
                "%s %r of %s is left out: the name is taken; rename it", what, entry.name, entry.value
            )
    return found


def load_path(name: str, paths: Mapping[str, str], what: str) -> Any:
    """The attribute that a name stands for in ``paths``, imported.

    Raises
    ------
    PackError
        If the name is unknown or the import fails.
    """
    if name not in paths:
        raise PackError(f"no {what} is named {name!r}; installed: {', '.join(paths) or 'none'}")
    return load_offer(EntryPoint(name, paths[name], ""), what)


def import_attribute(path: str) -> Any:
    """The attribute of a ``"module:attribute"``."""
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)
