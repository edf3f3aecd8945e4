"""Finding and loading packs, and the errors of those that are broken."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint

import pytest

from domainsam import plugins
from domainsam.errors import PackError
from domainsam.packs import GROUP, DomainPack, find_packs, load_pack


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend that exactly these entry points are installed."""

    def pretend(*pairs: tuple[str, str]) -> None:
        entries = [EntryPoint(name, value, GROUP) for name, value in pairs]
        monkeypatch.setattr(plugins, "entry_points", lambda group: entries)

    return pretend


def test_names_come_in_alphabetical_order(install: Callable[..., None]) -> None:
    install(("roads", "b:PACK"), ("ct", "a:PACK"))
    assert list(find_packs()) == ["ct", "roads"]


def test_unknown_name_lists_the_installed(install: Callable[..., None]) -> None:
    install(("ct", "a:PACK"), ("urban", "b:PACK"))
    with pytest.raises(PackError, match=r"'roads'; installed: ct, urban"):
        load_pack("roads")


def test_none_installed_is_said(install: Callable[..., None]) -> None:
    install()
    with pytest.raises(PackError, match="installed: none"):
        load_pack("roads")


def test_two_packs_of_one_name_are_refused(install: Callable[..., None]) -> None:
    install(("roads", "a:PACK"), ("roads", "b:PACK"))
    with pytest.raises(PackError, match=r"a:PACK and b:PACK; uninstall one"):
        find_packs()


def test_same_pack_seen_twice_is_fine(install: Callable[..., None]) -> None:
    install(("roads", "a:PACK"), ("roads", "a:PACK"))
    assert list(find_packs()) == ["roads"]


def test_missing_module_is_a_pack_error(install: Callable[..., None]) -> None:
    install(("roads", "absent_module:PACK"))
    with pytest.raises(PackError, match=r"'roads' cannot be imported: ModuleNotFoundError"):
        load_pack("roads")


def test_wrong_object_is_a_pack_error(install: Callable[..., None]) -> None:
    install(("roads", "json:dumps"))
    with pytest.raises(PackError, match="is a function, not a DomainPack"):
        load_pack("roads")


def test_parts_load_late_and_name_the_target() -> None:
    pack = DomainPack("roads", "roads", ("background", "road"), "absent:x", "json:dumps", "json:absent")
    assert pack.load("open").__name__ == "dumps"
    for part, target in (("commands", "absent:x"), ("save", "json:absent")):
        with pytest.raises(PackError, match=f"cannot load {part} from '{target}'"):
            pack.load(part)
    with pytest.raises(PackError, match="has no demo"):
        pack.load("demo")
