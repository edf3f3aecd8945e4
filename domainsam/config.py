"""Frozen dataclasses from TOML, and as tables of plain values.

A configuration file may say less than the dataclass (defaults fill in), never
more: an unknown key is an error that names the nearest valid one. Nested
dataclasses are TOML tables. None is written by leaving the key out.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from domainsam.documents import LARGEST, read_toml, shorten
from domainsam.errors import ConfigError, MissingInputError

Settings = TypeVar("Settings")


def read_config(kind: type[Settings], path: Path, defaults: Settings | None = None) -> Settings:
    """The dataclass ``kind`` as a TOML file says it.

    What the file leaves out, at any depth, is as in ``defaults`` where they
    are given, else as the classes have it.

    Raises
    ------
    MissingInputError
        If there is no such file, or it cannot be read.
    ConfigError
        If it is not TOML, has an unknown key, or a value of the wrong type.
    """
    if not path.exists():
        raise MissingInputError(f"no configuration file {path}")
    table = read_toml(path, "a configuration")
    if defaults is not None:
        table = _overlaid(to_table(defaults), table)
    return from_table(kind, table, str(path))


def _overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Tables of ``above`` laid over those of ``below``, key by key."""
    merged = {**below, **above}
    for key, value in above.items():
        if isinstance(value, Mapping) and isinstance(below.get(key), Mapping):
            merged[key] = _overlaid(below[key], value)
    return merged


def from_table(kind: type[Settings], table: Mapping[str, Any], source: str = "configuration") -> Settings:
    """The dataclass ``kind`` from nested mappings, as TOML or JSON give them.

    Raises
    ------
    ConfigError
        Naming all faults of a table at once: unknown keys with the nearest
        valid one, missing keys, values of the wrong type.
    """
    settings = _build(kind, table, source, "")
    assert isinstance(settings, kind)
    return settings


def to_table(settings: object) -> dict[str, Any]:
    """Nested plain mappings of a dataclass, without the keys whose value is None."""
    table: dict[str, Any] = {}
    for item in fields(settings):  # type: ignore[arg-type]
        value = getattr(settings, item.name)
        if is_dataclass(value):
            table[item.name] = to_table(value)
        elif isinstance(value, tuple):
            table[item.name] = list(value)
        elif isinstance(value, Path):
            table[item.name] = str(value)
        elif value is not None:
            table[item.name] = value
    return table


def _build(kind: type[Any], table: Mapping[str, Any], source: str, prefix: str) -> Any:
    hints = get_type_hints(kind)
    known = {item.name: item for item in fields(kind)}
    faults = [_unknown(prefix, key, list(known)) for key in table if key not in known]
    values: dict[str, Any] = {}
    for name, item in known.items():
        where = prefix + name
        if name in table:
            try:
                values[name] = _convert(hints[name], table[name], source, where)
            except _WrongTypeError as error:
                faults.append(str(error))
        elif item.default is MISSING and item.default_factory is MISSING:
            faults.append(f"{where} is missing")
    if faults:
        raise ConfigError(f"{source}: {'; '.join(faults)}")
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error


def _unknown(prefix: str, key: str, valid: list[str]) -> str:
    near = difflib.get_close_matches(key, valid, n=1)
    hint = f", did you mean {prefix}{near[0]}?" if near else ""
    return f"unknown key {prefix}{key}{hint} (valid: {', '.join(valid)})"


class _WrongTypeError(Exception):
    """A value that does not fit its annotation; collected into one ConfigError."""


def _convert(hint: Any, value: Any, source: str, where: str) -> Any:
    """The value as the annotation wants it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        if value in arguments:
            return value
        raise _WrongTypeError(
            f"{where} is {shorten(value)}, expected one of {', '.join(map(repr, arguments))}"
        )
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        # Of unions, configurations have "T | None" only.
        (inner,) = [argument for argument in arguments if argument is not type(None)]
        return _convert(inner, value, source, where)
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise _WrongTypeError(f"{where} is {shorten(value)}, expected a table")
        return _build(hint, value, source, f"{where}.")  # type: ignore[arg-type]
    if origin is tuple:
        return _convert_tuple(arguments, value, source, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > LARGEST:
            raise _WrongTypeError(f"{where} is {shorten(value)}, too large for a number")
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise _WrongTypeError(f"{where} is {shorten(value)}, expected {hint.__name__}")
    return value


def _convert_tuple(arguments: tuple[Any, ...], value: Any, source: str, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _WrongTypeError(f"{where} is {shorten(value)}, expected a list")
    if arguments[-1] is Ellipsis:
        kinds = (arguments[0],) * len(value)
    else:
        kinds = arguments
    if len(kinds) != len(value):
        raise _WrongTypeError(f"{where} has {len(value)} values, expected {len(kinds)}")
    return tuple(
        _convert(kind, part, source, f"{where}[{index}]")
        for index, (kind, part) in enumerate(zip(kinds, value, strict=True))
    )
