"""Two scenes with labels and answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.urban.evaluate.two_scenes import write_two_scenes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_two_scenes(tmp_path)
