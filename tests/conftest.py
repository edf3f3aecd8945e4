"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # One thread a process: two processes of two threads on two cores are slower than either alone.
    os.environ["OMP_NUM_THREADS"] = "1"

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _nothing_told() -> None:
    """What is told once in a command is told once in every test."""
    from domainsam.licences import forget_told

    forget_told()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data; tests that need it skip by name where it is absent."""
    folder = Path(os.environ.get("DOMAINSAM_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        pytest.skip("real data not found: set DOMAINSAM_TEST_DATA to the folder that holds it")
    return folder


@pytest.fixture
def interrupt_decoding(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function after whose call the first run that decodes marks is interrupted at its second batch."""
    from domainsam.infer.decoders import MarkDecoder

    def arm() -> None:
        whole = MarkDecoder.decode
        calls: list[int] = []

        def decode(self: MarkDecoder, *arguments: Any) -> Iterator[Any]:
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return whole(self, *arguments)

        monkeypatch.setattr(MarkDecoder, "decode", decode)

    return arm
