"""JSON and TOML files of others: bounded in size and depth, and read by the types that are expected."""

from __future__ import annotations

import csv
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from domainsam.errors import ConfigError, InputError, MissingInputError
from domainsam.limits import format_bytes, require_memory
from domainsam.names import show
from domainsam.reading import reading

Kind = TypeVar("Kind")

MOST_BYTES = 64 << 20
"""Of JSON; catalogues and marks of whole cities are smaller."""
MOST_TOML_BYTES = 1 << 20
MOST_DEPTH = 64
"""Tables within tables; nothing that people write is nested so deeply."""
MOST_ITEMS = 2_000_000
"""Values of a document in all."""
LARGEST = 2**1000
"""Whole numbers of JSON and TOML may have any length; floats end at 2**1024."""
CSV_COPIES = 12
"""Bytes in memory for one of a table's text."""
LONG_KEY = re.compile(r"^[^=#\n]*(?:\.[^=#\n.]*){32}", re.MULTILINE)
"""A key of TOML with more parts than any table has: each would be walked again for every other."""
WORDS = {dict: "an object", list: "a list", str: "a text", int: "a whole number", float: "a number"}


def read_json(
    path: Path, what: str, most: int = MOST_BYTES, kind: type[InputError | ConfigError] = InputError
) -> dict[str, Any]:
    """The object in a JSON file; ``what`` it is to be, in words, goes into messages.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        Or ``kind``: if it is no JSON in UTF-8, no object, too large, or nested too deeply.
    """
    return _require_object(read_json_value(path, what, most, kind), path, what, kind)


def read_json_value(
    path: Path, what: str, most: int = MOST_BYTES, kind: type[InputError | ConfigError] = InputError
) -> object:
    """What a JSON file holds, whether an object, a list or a single value; otherwise as :func:`read_json`.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        Or ``kind``: if it is no JSON in UTF-8, too large, or nested too deeply.
    """
    with reading(path, what, kind):
        _require_size(path, most, kind)
        try:
            document = json.loads(path.read_text(encoding="utf-8-sig"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise kind(f"{path}: is no JSON ({error}); expected {what}: mend or export it again") from error
    check_extent(document, path, what, kind)
    return document


def read_toml(path: Path, what: str, kind: type[InputError | ConfigError] = ConfigError) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises
    ------
    MissingInputError
        If there is no such file.
    ConfigError
        Or ``kind``: if it is no TOML in UTF-8, too large, or nested too deeply.
    """
    with reading(path, what, kind):
        _require_size(path, MOST_TOML_BYTES, kind)
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise kind(f"{path} is not valid TOML: {error}") from error
    return parse_toml(text, path, what, kind)


def parse_toml(
    text: str, name: object, what: str, kind: type[InputError | ConfigError] = ConfigError
) -> dict[str, Any]:
    """The tables of a text in TOML; see :func:`read_toml`.

    Raises
    ------
    ConfigError
        Or ``kind``.
    """
    if len(text) > MOST_TOML_BYTES or LONG_KEY.search(text):
        raise kind(f"{name}: is larger or more nested than {what} can be; write it anew")
    with reading(name, what, kind):
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise kind(f"{name} is not valid TOML: {error}") from error
    return check_document(document, name, what, kind)


def check_document(
    document: object, name: object, what: str, kind: type[InputError | ConfigError] = InputError
) -> dict[str, Any]:
    """A parsed document, if it is an object of bounded depth and count.

    Raises
    ------
    InputError
        Or ``kind``, if it is not.
    """
    check_extent(document, name, what, kind)
    return _require_object(document, name, what, kind)


def _require_object(
    document: object, name: object, what: str, kind: type[InputError | ConfigError]
) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise kind(f"{name}: holds a {type(document).__name__}; expected an object, {what}")
    return document


def check_extent(
    document: object, name: object, what: str, kind: type[InputError | ConfigError] = InputError
) -> None:
    """Check that a parsed document is of bounded depth and count.

    Raises
    ------
    InputError
        Or ``kind``, if it is not.
    """
    level: list[Any] = [document]
    count = 0
    for _ in range(MOST_DEPTH):
        level = [part for value in level for part in list_parts(value)]
        count += len(level)
        if count > MOST_ITEMS:
            raise kind(f"{name}: holds more than {MOST_ITEMS} values, which is no {what}; export it again")
        if not level:
            return
    raise kind(f"{name}: is nested more than {MOST_DEPTH} deep, which is no {what}; export it again")


def take(
    document: Mapping[str, Any], key: str, kind: type[Kind], where: object, default: Kind | None = None
) -> Kind:
    """The value of a key, if it is of a kind; ``default`` where it is absent or null.

    Parameters
    ----------
    where
        First words of the message: the file, and what in it.

    Raises
    ------
    InputError
        If it is of another kind, or absent and there is no default.
    """
    value = document.get(key)
    if value is None and default is not None:
        return default
    return expect(value, kind, f"{where}: '{key}'")


def expect(value: object, kind: type[Kind], where: str) -> Kind:
    """The value, if it is of a kind; booleans are no numbers, numbers are finite.

    Raises
    ------
    InputError
        If it is of another.
    """
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST:
        value = float(value)
    fitting = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if not fitting or (isinstance(value, float) and not math.isfinite(value)):
        raise InputError(
            f"{where} is {shorten(value)}, expected {WORDS.get(kind, kind.__name__)}; mend or export it again"
        )
    return value  # type: ignore[return-value]


def shorten(value: object, length: int = 60) -> str:
    """A value for a message, short and without characters that steer."""
    try:
        text = show(repr(value))
    except ValueError:
        # Python does not print whole numbers of more than 4300 digits.
        text = "a number of thousands of digits"
    return text if len(text) <= length else text[: length - 3] + "..."


def list_parts(value: object) -> Iterable[Any]:
    """What an object or a list of a document holds; nothing of any other value."""
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _require_size(path: Path, most: int, kind: type[InputError | ConfigError]) -> None:
    size = path.stat().st_size
    if size > most:
        raise kind(
            f"{path}: has {format_bytes(size)}, more than the {format_bytes(most)} that such a file may have"
        )


def read_lines(path: Path, what: str) -> list[str]:
    """A text's lines in UTF-8 that hold anything, without blanks around them.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it is no such text, or too large.
    """
    with reading(path, what):
        _require_size(path, MOST_BYTES, InputError)
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    return [line.strip() for line in lines if line.strip()]


def read_rows(path: Path) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows of a CSV table, and its columns' names as written by their names in small letters.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it is no such table.
    """
    try:
        require_memory(path, CSV_COPIES * path.stat().st_size, "a table of that size")
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file))
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such file; check the path") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a table ({error}); expected CSV in UTF-8") from error
    # Cells beyond the heading stand under None, and those that a line lacks are None.
    return rows, {name.strip().lower(): name for name in (rows[0] if rows else {}) if name}


def resolve_beside(file: Path, href: str) -> str:
    """An address as it stands, or a relative one from the file that names it."""
    if "://" in href or href.startswith("/vsi"):
        return href
    return str(file.parent / href)
