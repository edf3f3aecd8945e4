"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real data; tests that need it skip by name where it is absent."""
    folder = Path(os.environ.get("DOMAINSAM_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        pytest.skip("real data not found: set DOMAINSAM_TEST_DATA to the folder that holds it")
    return folder
