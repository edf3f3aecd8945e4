"""Organs through a scan and into another, from files to files."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

import domainsam
from domainsam.errors import ConfigError, DomainSamError, InputError, MissingInputError
from domainsam.foundation import load_foundation
from domainsam_cli import main
from domainsam_ct.generated import draw_abdomen, write_sample
from domainsam_ct.run_alike import find_options, propagate_options, run_find, run_propagate, split_example

SHAPE, SPACING = (96, 72, 14), (3.5, 3.5, 8.0)
LIVER = 5
SLICE = 9
"""Canonical slice, from the feet, that the liver is marked on."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan, all its organs, its liver on one slice, and another scan."""
    made = tmp_path_factory.mktemp("alike")
    hu, labels = draw_abdomen(SHAPE, SPACING, seed=1)
    write_sample(made / "ct.nii.gz", hu, SPACING)
    one = np.zeros_like(labels)
    one[:, :, SLICE] = labels[:, :, SLICE] == LIVER
    write_sample(made / "slice.nii.gz", one, SPACING)
    write_sample(made / "liver.nii.gz", (labels == LIVER).astype(np.uint8), SPACING)
    write_sample(made / "empty.nii.gz", np.zeros_like(labels), SPACING)
    write_sample(made / "full.nii.gz", np.ones_like(labels), SPACING)
    write_sample(made / "other.nii.gz", draw_abdomen(SHAPE, SPACING, seed=2)[0], SPACING)
    legs = np.full((96, 72, 6), -1000, np.int16)
    legs[20:40, 20:50], legs[56:76, 20:50] = 40, 40
    legs[28:33, 30:36], legs[63:68, 30:36] = 900, 900
    legs[::7, ::5] += 3
    write_sample(made / "legs.nii.gz", legs, SPACING)
    return made


def read(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def test_a_marked_slice_goes_through_the_scan(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "organ.nii.gz"
    result = run_propagate(folder / "ct.nii.gz", out, mask=folder / "slice.nii.gz", device="cpu")
    truth, found = read(folder / "liver.nii.gz") > 0, read(out) > 0
    assert dice(truth, found) > 0.85
    # The marked slice is kept to the voxel.
    marked = read(folder / "slice.nii.gz").any(axis=(0, 1))
    assert np.array_equal(found[:, :, marked], truth[:, :, marked])
    scan = nibabel.load(folder / "ct.nii.gz")
    assert np.array_equal(nibabel.load(out).affine, scan.affine)
    (told,) = result.settings["propagated"].values()
    assert told["marked_slices"] == [SLICE]
    held = np.flatnonzero(truth.any(axis=(0, 1)))
    assert abs(told["towards_feet"]["slice"] - held[0]) <= 1
    assert told["towards_feet"]["why"] in ("ends", "faint")
    assert told["towards_head"]["why"] == "edge"
    # The sample is centred: slice 13 of 14 lies at 6.5 slices of 8 mm above the middle.
    assert told["towards_head"]["z_mm"] == pytest.approx(52.0)
    assert result.settings["features"] == "abdomen"
    volume = truth.sum() * np.prod(SPACING) / 1000
    assert result.organs[0].volume_ml == pytest.approx(volume, rel=0.25)


def test_the_command_says_where_it_ends_and_a_second_run_has_the_same_bytes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outs = [tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"]
    for out in outs:
        code = main(
            [
                *("ct", "propagate", str(folder / "ct.nii.gz"), "--mask", str(folder / "slice.nii.gz")),
                *("-o", str(out), "--device", "cpu"),
            ]
        )
        assert code == 0
    told = capsys.readouterr().out
    assert f"marked on slice {SLICE}: down to slice" in told
    assert "the scan ends there" in told
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_an_organ_is_found_in_another_scan(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.nii.gz"
    like = f"{folder / 'ct.nii.gz'}:{folder / 'liver.nii.gz'}"
    result = run_find(folder / "other.nii.gz", out, like=like, device="cpu")
    assert dice(read(folder / "liver.nii.gz") > 0, read(out) > 0) > 0.85
    (told,) = result.settings["like"].values()
    assert told["found"]
    assert told["dice_on_the_example"] > 0.7


def test_what_is_not_there_is_told_and_no_error(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "none.nii.gz"
    like = f"{folder / 'ct.nii.gz'}:{folder / 'liver.nii.gz'}"
    code = main(
        ["ct", "find", str(folder / "legs.nii.gz"), "--like", like, "-o", str(out), "--device", "cpu"]
    )
    assert code == 0
    assert "not found" in capsys.readouterr().out
    assert not read(out).any()


@pytest.mark.slow
def test_an_opened_scan_is_searched_from_python(folder: Path, tmp_path: Path) -> None:
    with domainsam.open(folder / "ct.nii.gz", "ct") as scan:
        found = scan.find(track=folder / "slice.nii.gz", device="cpu")
        assert found.mask.shape == scan.grid.shape
        assert next(iter(found.told["propagated"].values()))["marked_slices"] == [SLICE]
        found.save(tmp_path / "python.nii.gz")
        marked = np.zeros(scan.grid.shape, bool)
        with pytest.raises(InputError, match="track is empty"):
            scan.find(track=marked)
        with pytest.raises(InputError, match="expected bool"):
            scan.find(track=marked.astype(np.uint8))
        with pytest.raises(ConfigError, match="in one way"):
            scan.find(track=marked, points=[(1, 2, 3)])
        with pytest.raises(ConfigError, match="belongs to a search"):
            scan.find(points=[(1, 2, 3)], features="model")
    run_propagate(folder / "ct.nii.gz", tmp_path / "shell.nii.gz", mask=folder / "slice.nii.gz", device="cpu")
    assert np.array_equal(read(tmp_path / "python.nii.gz"), read(tmp_path / "shell.nii.gz"))


def test_an_opened_scan_is_compared_by_the_foundation_that_was_named(folder: Path) -> None:
    named = load_foundation("embedded_lite")
    with domainsam.open(folder / "legs.nii.gz", "ct") as scan:
        marked = np.zeros(scan.grid.shape, bool)
        marked[2, 20:40, 20:40] = True
        found = scan.find(track=marked, features="foundation", foundation=named)
    assert found.foundation is named
    assert found.told["features"] == "embedded_lite"


def test_clicks_become_a_mask_first(folder: Path, tmp_path: Path) -> None:
    clicks = tmp_path / "clicks.json"
    # The liver's middle, 76 mm to the right and 8 mm to the front, on a slice 20 mm above the middle.
    box = [30, -30, 20, 132, 70, 20]
    clicks.write_text(json.dumps({"frame": "RAS", "objects": [{"label": "liver", "box": box}]}))
    out = tmp_path / "clicked.nii.gz"
    result = run_propagate(folder / "ct.nii.gz", out, points=clicks, device="cpu")
    assert list(result.settings["propagated"]) == ["liver"]
    assert dice(read(folder / "liver.nii.gz") > 0, read(out) > 0) > 0.5


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ("empty.nii.gz", "is empty"),
        ("full.nii.gz", "covers all of slice 0"),
        ("legs_mask.nii.gz", "legs_mask.nii.gz"),
        ("none.nii.gz", "no such file"),
    ],
)
def test_a_mask_that_shows_nothing_is_one_line(folder: Path, tmp_path: Path, mask: str, words: str) -> None:
    write_sample(folder / "legs_mask.nii.gz", np.ones((5, 5, 5), np.uint8), (1.0, 1.0, 1.0))
    with pytest.raises(DomainSamError, match=words) as caught:
        run_propagate(folder / "ct.nii.gz", tmp_path / "m.nii.gz", mask=folder / mask, device="cpu")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_marks_are_given_in_one_way(folder: Path, tmp_path: Path) -> None:
    for more in ({}, {"mask": folder / "slice.nii.gz", "points": folder / "clicks.json"}):
        with pytest.raises(ConfigError, match="in one way"):
            run_propagate(folder / "ct.nii.gz", tmp_path / "m.nii.gz", **more)
    with pytest.raises(ConfigError, match="no part in it"):
        run_propagate(
            folder / "ct.nii.gz", tmp_path / "m.nii.gz", mask=folder / "slice.nii.gz", foundation="embedded"
        )
    with pytest.raises(ConfigError, match="did you mean mask"):
        propagate_options(out="m.nii.gz", masks="m.nii.gz")


def test_an_example_is_parted_at_the_colon_that_leaves_two_files(tmp_path: Path) -> None:
    scan, mask = tmp_path / "a:b.nii.gz", tmp_path / "c.nii.gz"
    for path in (scan, mask):
        path.touch()
    assert split_example(f"{scan}:{mask}") == (scan, mask)
    assert split_example((scan, mask)) == (scan, mask)
    with pytest.raises(ConfigError, match="expected SCAN:MASK"):
        find_options(out="m.nii.gz", like="ct.nii.gz")
    with pytest.raises(MissingInputError, match=r"d\.nii\.gz"):
        split_example(f"{scan}:{tmp_path / 'd.nii.gz'}")


@pytest.mark.slow
def test_several_scans_keep_their_masks_apart(folder: Path, tmp_path: Path) -> None:
    like = f"{folder / 'ct.nii.gz'}:{folder / 'liver.nii.gz'}"
    scans = [folder / "other.nii.gz", folder / "legs.nii.gz"]
    batch = run_find(scans, tmp_path / "out", like=like, per_organ=True, device="cpu", quiet=True)
    assert not batch.failures
    masks = [next(iter(result.paths.values())) for result in batch.results]
    assert len({str(path) for path in masks}) == 2
    assert (tmp_path / "out" / "other" / "label_1.nii.gz").is_file()
    assert (tmp_path / "out" / "legs" / "label_1.nii.gz").is_file()
