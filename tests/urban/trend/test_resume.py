"""Killed at any step, a run goes on to the same end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import geopandas as gpd
import pyogrio
import pytest

from domainsam_urban.model.settlement import SettlementModel
from tests.conftest import ROOT
from tests.urban.trend.scenes import SMALL, contents, run, use_model, write_masks, write_years

EVERY_STEP = [("journal", count, when) for count in range(1, 18) for when in ("before", "after")]


def killed(moment: str, count: int, when: str, *arguments: str) -> int:
    """The exit code of a run that ends at a moment, or ends well before it comes."""
    command = [sys.executable, "-m", "tests.urban.trend.killed", moment, str(count), when, *arguments]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode


def same_products(one: Path, other: Path) -> None:
    """Tables byte for byte, and every layer of polygons."""
    first, second = contents(one), contents(other)
    assert first.keys() == second.keys()
    for name in first:
        if name.endswith((".csv", ".tif")):
            assert first[name] == second[name], name
    for name, _ in pyogrio.list_layers(one / "settlements.gpkg"):
        if name != "layer_styles":
            left, right = (gpd.read_file(folder / "settlements.gpkg", layer=name) for folder in (one, other))
            assert left.equals(right), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "count", "when"),
    [("publish", 1, "before"), ("journal", 2, "after")],
)
def test_masks(tmp_path: Path, moment: str, count: int, when: str) -> None:
    arguments = ["--masks", *write_masks(tmp_path), "--smooth", "--layers", "-q"]
    assert run(*arguments, "-o", tmp_path / "whole") == 0
    out = str(tmp_path / "cut")
    assert killed(moment, count, when, "urban", "trend", *arguments, "-o", out) == -signal.SIGKILL
    assert not (tmp_path / "cut" / "areas.csv").exists()
    assert (tmp_path / ".cut.domainsam").is_dir()
    assert run(*arguments, "-o", out, "--resume") == 0
    same_products(tmp_path / "whole", tmp_path / "cut")
    assert not list(tmp_path.rglob(".*domainsam*"))


@pytest.mark.slow
def test_scenes_at_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: SettlementModel
) -> None:
    """Inside the prediction of each year, between any two steps, and while products are put in place."""
    use_model(monkeypatch, model)
    scenes = [str(path) for path in write_years(tmp_path)]
    arguments = [*scenes, "--smooth", "--align", "--layers", "-q", *SMALL]
    assert run(*arguments, "-o", tmp_path / "whole") == 0
    moments = [*EVERY_STEP, ("publish", 1, "before"), ("publish", 2, "before")]
    cut = 0
    for number, (moment, count, when) in enumerate(moments):
        out = tmp_path / f"cut{number}"
        code = killed(moment, count, when, "urban", "trend", *arguments, "-o", str(out))
        assert code in (0, -signal.SIGKILL)
        cut += code != 0
        if code:
            assert run(*arguments, "-o", out, "--resume", "--overwrite") == 0
        same_products(tmp_path / "whole", out)
        assert not (tmp_path / f".cut{number}.domainsam").exists()
        assert not list(out.rglob(".domainsam-*"))
    assert cut >= 20


@pytest.mark.slow
def test_killed_twice(tmp_path: Path) -> None:
    arguments = ["--masks", *write_masks(tmp_path), "-q"]
    assert run(*arguments, "-o", tmp_path / "whole") == 0
    out = str(tmp_path / "cut")
    assert killed("journal", 1, "after", "urban", "trend", *arguments, "-o", out) == -signal.SIGKILL
    resumed = [*arguments, "-o", out, "--resume"]
    assert killed("journal", 1, "before", "urban", "trend", *resumed) == -signal.SIGKILL
    assert run(*resumed) == 0
    same_products(tmp_path / "whole", tmp_path / "cut")
