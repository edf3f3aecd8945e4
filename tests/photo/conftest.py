"""The pack is found also where the project was installed before the pack was there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pytest

from domainsam import plugins
from domainsam.packs import GROUP, find_packs
from domainsam_cli import main

PHOTO = EntryPoint("photo", "domainsam_photo:PACK", GROUP)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Offer the pack where installed metadata do not yet."""
    if "photo" not in find_packs():

        def listed(**asked: Any) -> list[EntryPoint]:
            found = list(entry_points(**asked))
            return [*found, PHOTO] if asked.get("group") == GROUP else found

        monkeypatch.setattr(plugins, "entry_points", listed)
    yield


@pytest.fixture
def photo() -> Callable[..., int]:
    """``domainsam photo ...`` as a function; gives the exit code."""
    return lambda *words: main(["photo", *map(str, words)])
