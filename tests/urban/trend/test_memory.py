"""Memory is flat in the number of years and in the size of scenes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SIDE, YEARS = 4096, 4
SLACK = 1.15
"""What a twice as large job may take more; doubling would show at once, for imports are some 500 MB of it."""


def peak(folder: Path, side: int, years: int) -> float:
    """Megabytes."""
    command = [sys.executable, "-m", "tests.urban.trend.measured", str(folder), str(side), str(years)]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return float(done.stdout.strip().splitlines()[-1])


@pytest.mark.slow
def test_peak_memory(tmp_path: Path) -> None:
    plain = peak(tmp_path / "plain", SIDE, YEARS)
    assert peak(tmp_path / "larger", 2 * SIDE, YEARS) < SLACK * plain
    assert peak(tmp_path / "longer", SIDE, 2 * YEARS) < SLACK * plain
