"""What weights may be used for: what their files say, told once before they are used."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

log = logging.getLogger(__name__)

RESEARCH_LICENCE = "LicenseRef-domainsam-research-weights"
"""SPDX's way to name a licence of one's own; its text is in ``LICENSES/`` and in the distribution."""
OPEN_USE, RESEARCH_USE = "any use", "research"
"""Use of a model whose data put no limit to it, and of one whose data are for research."""
PROVENANCE = "provenance"
"""The table of a model's header that says what it learned from (``data``) and what it is for (``use``)."""
_told: set[str] = set()
_collected: ContextVar[list[str] | None] = ContextVar("collected", default=None)


def read_provenance(config: Mapping[str, Any]) -> dict[str, str]:
    """What a model's header says of its data (``"data"``) and of what it may be used for (``"use"``)."""
    told = config.get(PROVENANCE, {})
    return {str(name): str(value) for name, value in told.items()} if isinstance(told, Mapping) else {}


def tell_use(name: str, provenance: Mapping[str, str]) -> None:
    """Tell that a model's data restrict what it may be used for, if they do."""
    if (use := provenance.get("use", OPEN_USE)) != OPEN_USE:
        tell_once(f"model {name} is for {use}: trained on {provenance.get('data', 'such data')}")


def forget_told() -> None:
    """Tell everything again: a new command begins."""
    _told.clear()


@contextmanager
def collect_notices(notices: list[str]) -> Iterator[None]:
    """Put what would be told into a list meanwhile: whoever works for another process tells it there."""
    token = _collected.set(notices)
    try:
        yield
    finally:
        _collected.reset(token)


def tell_once(notice: str) -> None:
    """Warn of something, the first time in a command."""
    if (notices := _collected.get()) is not None:
        notices.append(notice)
    elif notice not in _told:
        _told.add(notice)
        log.warning("%s", notice)
