"""What every domain pack must keep to, as tests that its author inherits.

::

    class TestRoads(PackContract):
        name = "roads"
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from domainsam.errors import PackError
from domainsam.packs import DomainPack, find_packs, load_pack

HEAVY = ("torch", "rasterio", "nibabel", "scipy")
"""Imports that would make ``domainsam --help`` slow."""


class PackContract:
    """Subclass it in a test module and set ``name`` to the pack's entry-point name."""

    name: str

    @pytest.fixture
    def pack(self) -> DomainPack:
        """The pack under test, found the way the command line finds it."""
        return load_pack(self.name)

    def test_is_installed_under_its_own_name(self, pack: DomainPack) -> None:
        assert self.name in find_packs()
        assert pack.name == self.name

    def test_name_can_be_typed(self, pack: DomainPack) -> None:
        assert pack.name.isidentifier()
        assert pack.name == pack.name.lower()

    def test_summary_fits_a_line_of_help(self, pack: DomainPack) -> None:
        assert 0 < len(pack.summary) <= 80
        assert "\n" not in pack.summary

    def test_labels_begin_with_background_and_differ(self, pack: DomainPack) -> None:
        assert pack.labels[0] == "background"
        assert len(pack.labels) >= 2
        assert len(set(pack.labels)) == len(pack.labels)

    def test_commands_are_a_group_with_help(self, pack: DomainPack) -> None:
        commands: Any = pack.load("commands")
        assert commands.help
        assert callable(commands.list_commands)

    @pytest.mark.parametrize("part", ["source", "writer"])
    def test_parts_are_classes(self, pack: DomainPack, part: str) -> None:
        assert isinstance(pack.load(part), type)

    def test_source_reads_by_window(self, pack: DomainPack) -> None:
        source = pack.load("source")
        for member in ("grid", "read", "blocks"):
            assert hasattr(source, member), f"{source.__name__} has no {member}"

    def test_writer_is_a_context_manager(self, pack: DomainPack) -> None:
        writer = pack.load("writer")
        for member in ("__enter__", "__exit__", "write"):
            assert hasattr(writer, member), f"{writer.__name__} has no {member}"

    @pytest.mark.parametrize("part", ["demo", "describe"])
    def test_optional_parts_load_or_are_absent(self, pack: DomainPack, part: str) -> None:
        if getattr(pack, part) is None:
            with pytest.raises(PackError, match=part):
                pack.load(part)
        else:
            assert callable(pack.load(part))

    def test_listing_it_imports_nothing_heavy(self) -> None:
        code = (
            "import sys; from domainsam.packs import load_pack; "
            f"load_pack({self.name!r}); print([name for name in {HEAVY!r} if name in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]"
