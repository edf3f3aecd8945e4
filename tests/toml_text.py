"""Frozen dataclasses as TOML text, to be read again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domainsam.config import to_table


def to_toml(settings: object) -> str:
    """TOML text of a dataclass."""
    return _emit(to_table(settings), ())


def _emit(table: Mapping[str, Any], path: tuple[str, ...]) -> str:
    plain = [f"{key} = {_literal(value)}" for key, value in table.items() if not isinstance(value, Mapping)]
    head = [f"[{'.'.join(path)}]"] if path and plain else []
    text = "".join(f"{line}\n" for line in head + plain)
    parts = [_emit(value, (*path, key)) for key, value in table.items() if isinstance(value, Mapping)]
    return "\n".join(part for part in (text, *parts) if part)


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return '"' + "".join(_ESCAPES.get(letter, letter) for letter in value) + '"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_literal(part) for part in value) + "]"
    raise TypeError(f"a {type(value).__name__} has no place in a configuration")


_ESCAPES = {
    **{chr(code): f"\\u{code:04x}" for code in (*range(32), 127)},
    **{"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"},
}
