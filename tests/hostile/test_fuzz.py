"""A short run of the harness, as CI makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.__main__ import FAULTS, fuzz, table


@pytest.mark.slow
def test_twenty_seconds_of_damage(tmp_path: Path) -> None:
    found = fuzz(count=10_000, minutes=1 / 3, seed=2024, keep=tmp_path)
    assert found
    assert not [result for result in found if result["outcome"] in FAULTS], table(found)
