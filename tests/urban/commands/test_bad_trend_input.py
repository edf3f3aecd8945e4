"""Bad input from the command line: one line, the fitting exit code, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from domainsam_cli import main
from domainsam_urban.model.settlement import SettlementModel
from tests.urban.tiny import write_scene
from tests.urban.trend.scenes import (
    SMALL,
    place,
    run,
    square,
    texture,
    use_model,
    write_mask,
    write_masks,
    write_years,
)

Make = Callable[[Path], list[str]]


def one_year(folder: Path) -> list[str]:
    return [str(write_years(folder, (2016,))[0])]


def same_date(folder: Path) -> list[str]:
    first, second = write_years(folder, (2016, 2018))
    return [f"2016-05-01={first}", f"2016-05-01={second}"]


def apart(folder: Path) -> list[str]:
    first, second = write_years(folder, (2016, 2018))
    write_scene(second, texture(), transform=place(east=5000))
    return [str(first), str(second)]


def other_bands(folder: Path) -> list[str]:
    first, second = write_years(folder, (2016, 2018))
    write_scene(second, texture()[:, :, :1], transform=place())
    return [str(first), str(second)]


def missing(folder: Path) -> list[str]:
    return [str(write_years(folder, (2016,))[0]), f"2018={folder / 'b.tif'}"]


def damaged(folder: Path) -> list[str]:
    first, second = write_years(folder, (2016, 2018))
    second.write_bytes(second.read_bytes()[:200])
    return [str(first), str(second)]


def no_data(folder: Path) -> list[str]:
    first, second = write_years(folder, (2016, 2018))
    write_scene(second, np.zeros((128, 160, 3), "uint8"), transform=place(), nodata=0)
    return [str(first), str(second)]


def without_place(folder: Path) -> list[str]:
    first, second = write_years(folder, (2016, 2018))
    write_scene(second, texture(), crs=None, transform=place())
    return [str(first), str(second)]


def unreadable_date(folder: Path) -> list[str]:
    first, second = write_years(folder, (2016, 2018))
    return [f"spring={first}", f"2018={second}"]


def no_date(folder: Path) -> list[str]:
    first, second = write_years(folder, (2016, 2018))
    return [str(first.rename(folder / "a.tif")), str(second)]


def band_that_is_not_there(folder: Path) -> list[str]:
    return [*map(str, write_years(folder, (2016, 2018))), "--bands", "5,2,1"]


def unknown_reference(folder: Path) -> list[str]:
    return [*map(str, write_years(folder, (2016, 2018))), "--reference-year", "1999"]


def degrees(folder: Path) -> list[str]:
    return [*map(str, write_years(folder, (2016, 2018))), "--crs", "EPSG:4326"]


def elsewhere(folder: Path) -> list[str]:
    return [*map(str, write_years(folder, (2016, 2018))), "--extent", "0,0,100,100", "--crs", "EPSG:32650"]


def mixed_classes(folder: Path) -> list[str]:
    other = write_mask(folder / "m2019.tif", square(10) * 3 + 2)
    return ["--masks", *write_masks(folder, {2016: 20}), str(other)]


def masks_without_crs(folder: Path) -> list[str]:
    other = write_mask(folder / "m2019.tif", square(10), crs=None)
    return ["--masks", *write_masks(folder, {2016: 20}), str(other)]


def classified_masks(folder: Path) -> list[str]:
    return ["--masks", "--classifier", str(folder / "c.safetensors"), *write_masks(folder)]


def aligned_masks(folder: Path) -> list[str]:
    return ["--masks", *write_masks(folder), "--align"]


def empty_zones(folder: Path) -> list[str]:
    zones = folder / "zones.geojson"
    zones.write_text("no zones\n")
    return ["--masks", *write_masks(folder), "--zones", str(zones)]


def bad_table(folder: Path) -> list[str]:
    table = folder / "scenes.csv"
    table.write_text("a,b\n1,2\n")
    return [str(table)]


def bad_catalogue(folder: Path) -> list[str]:
    path = folder / "catalog.json"
    path.write_text('{"type": "Catalog", "links": []}')
    return [str(path)]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (one_year, ["at least two years", "add another"]),
        (same_date, ["are both of 2016-05-01", "gdalbuildvrt"]),
        (apart, ["2016 and 2018 do not overlap", "leave one out"]),
        (other_bands, ["1 band", "--bands"]),
        (missing, ["b.tif", "no such file"]),
        (damaged, ["city_2018.tif", "damaged or truncated"]),
        (no_data, ["holds no data", "--nodata"]),
        (without_place, ["no place on the Earth", "CRS"]),
        (unreadable_date, ["'spring' is no date", "expected 2016"]),
        (no_date, ["no date in its metadata or name", "2016="]),
        (band_that_is_not_there, ["band"]),
        (unknown_reference, ["'1999' is none of the years", "2016, 2018"]),
        (degrees, ["not in metres", "projected"]),
        (elsewhere, ["--extent", "holds nothing"]),
        (mixed_classes, ["holds the values 2, 5", "--mask-class"]),
        (masks_without_crs, ["has no CRS", "give it one"]),
        (aligned_masks, ["--align needs scenes"]),
        (classified_masks, ["--classifier needs scenes"]),
        (empty_zones, ["zones.geojson"]),
        (bad_table, ["expected columns 'path' and 'datetime'"]),
        (bad_catalogue, ["leads to no item"]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_bad_input(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    model: SettlementModel,
    make: Make,
    words: list[str],
) -> None:
    use_model(monkeypatch, model)
    arguments = make(tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    assert run(*arguments, "-o", tmp_path / "new" / "trend", *SMALL) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    line = captured.err.strip().splitlines()[-1]
    assert line.startswith("domainsam: ")
    assert "unforeseen" not in line
    for word in words:
        assert word in line, line
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_year_with_nothing_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = write_masks(tmp_path, {2016: 0, 2018: 20})
    assert run("--masks", *masks, "-o", tmp_path / "out") == 0
    assert "2 years on" in capsys.readouterr().out


@pytest.mark.slow
def test_an_existing_folder_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = write_masks(tmp_path)
    assert run("--masks", *masks, "-o", tmp_path / "out", "-q") == 0
    first = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    capsys.readouterr()
    assert run("--masks", *masks, "-o", tmp_path / "out") == 4
    assert "--overwrite" in capsys.readouterr().err
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == first
    assert run("--masks", *masks, "-o", tmp_path / "out", "-q", "--overwrite") == 0


@pytest.mark.parametrize("text", ["116", "a,b", "1,2,3"])
def test_numbers_of_the_wrong_form(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert run("2016=a.tif", "2018=b.tif", "-o", tmp_path / "o", "--centre", text) == 2
    assert "is not longitude,latitude such as 116.39,39.91" in capsys.readouterr().err


def test_change_of_two_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyogrio

    first = write_mask(tmp_path / "before.tif", square(20))
    second = write_mask(tmp_path / "after.tif", square(30))
    out = tmp_path / "change.gpkg"

    def change(target: Path) -> int:
        return main(["urban", "change", "--masks", str(first), str(second), "-o", str(target)])

    assert change(out) == 0
    assert "before to after: 1 expanded" in capsys.readouterr().out
    layers = {name for name, _ in pyogrio.list_layers(out)}
    assert {"year_before", "year_after"} <= layers
    assert change(out) == 4
    assert change(tmp_path / "change.geojson") == 4
    assert ".gpkg" in capsys.readouterr().err


def test_change_in_the_wrong_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = write_masks(tmp_path, {2016: 20, 2018: 30})
    assert main(["urban", "change", "--masks", second, first, "-o", str(tmp_path / "c.gpkg")]) == 2
    assert "give the earlier one first" in capsys.readouterr().err


def test_reversed_pixels_are_no_obstacle(tmp_path: Path) -> None:
    """A mask whose first row lies south."""
    mask = square(20)
    upright = write_mask(tmp_path / "m2016.tif", mask)
    left, top = place().c, place().f
    turned = Affine(2.0, 0, left, 0, 2.0, top - 160)
    other = write_mask(tmp_path / "m2018.tif", mask[::-1], turned)
    assert main(["urban", "change", "--masks", str(upright), str(other), "-o", str(tmp_path / "c.gpkg")]) == 0
