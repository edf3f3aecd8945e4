"""``domainsam ct evaluate``: masks beside labels, in files."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from domainsam_cli import main
from domainsam_ct.labels import load_label_map
from tests.ct.made import write_nifti
from tests.ct.standin import affine

SHAPE = (16, 14, 10)
NUMBERS = {organ.name: value for value, organ in load_label_map("totalsegmentator").items()}


def truth() -> np.ndarray:
    """Liver and spleen as boxes, in TotalSegmentator's numbers."""
    values = np.zeros(SHAPE, np.uint8)
    values[9:15, 3:11, 2:8] = NUMBERS["liver"]
    values[1:5, 3:7, 4:8] = NUMBERS["spleen"]
    return values


def predicted(shift: int = 1) -> np.ndarray:
    """The same organs in the Synapse map's numbers, the liver moved."""
    values, numbers = np.zeros(SHAPE, np.uint8), load_label_map("synapse")
    own = {organ.name: value for value, organ in numbers.items()}
    values[np.roll(truth() == NUMBERS["liver"], shift, axis=1)] = own["liver"]
    values[truth() == NUMBERS["spleen"]] = own["spleen"]
    return values


def write(path: Path, values: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_nifti(path, values, affine())


def evaluate(*words: object) -> int:
    return main(["ct", "evaluate", *map(str, words)])


MAPS = ("--label-map", "totalsegmentator", "--prediction-label-map", "synapse")


def test_scores_of_one_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, labels = write(tmp_path / "a_seg.nii.gz", predicted()), write(tmp_path / "t.nii.gz", truth())
    assert evaluate(found, labels, *MAPS, "--json", "--tolerance", 2) == 0
    told = json.loads(capsys.readouterr().out)
    liver, spleen = told["organs"]["liver"], told["organs"]["spleen"]
    assert liver["dice"]["value"] == pytest.approx(7 / 8)
    # A voxel is 5 mm along the axis of the shift.
    assert liver["hd95"]["value"] == pytest.approx(5.0)
    assert 0 < liver["surface_dice"]["value"] < 1
    assert [spleen[key]["value"] for key in ("dice", "hd95", "surface_dice")] == [1, 0, 1]
    assert told["hd95_unit"] == "mm"
    assert told["mean_of_organs"]["dice"]["value"] == pytest.approx((7 / 8 + 1) / 2)


def test_folders_report_and_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for case in range(3):
        write(tmp_path / "pred" / f"case{case}_seg.nii.gz", predicted(case))
        write(tmp_path / "truth" / f"case{case}_label.nii.gz", truth())
        scan = np.where(truth() > 0, 80, -100).astype(np.int16)
        write(tmp_path / "images" / f"case{case}.nii.gz", scan)
    write(tmp_path / "pred" / "alone_seg.nii.gz", predicted())
    report, table = tmp_path / "report.html", tmp_path / "scores.csv"
    words = [*MAPS, "--report", report, "--csv", table, "--images", tmp_path / "images"]
    assert evaluate(tmp_path / "pred", tmp_path / "truth", *words) == 0
    captured = capsys.readouterr()
    assert "alone has no labels" in captured.err
    assert "3 cases" in captured.out
    rows = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))
    assert {row["case"] for row in rows} == {"case0", "case1", "case2"}
    assert [float(row["dice"]) for row in rows if row["organ"] == "liver"] == [1, 7 / 8, 6 / 8]
    page = report.read_text(encoding="utf-8")
    assert "case2" in page
    assert page.count("data:image/jpeg;base64,") >= 2
    assert not re.search(r"(src|href)=.https?:", page)
    assert 'src="http' not in page
    assert evaluate(tmp_path / "pred", tmp_path / "truth", *words) == 4, "a report is not replaced unasked"


def test_one_case_gives_no_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    without = truth()
    without[without == NUMBERS["spleen"]] = 0
    for case, labels in enumerate((truth(), without)):
        found = predicted(case)
        found[found == 1] = 1 if case == 0 else 0
        write(tmp_path / "pred" / f"case{case}.nii.gz", found)
        write(tmp_path / "truth" / f"case{case}.nii.gz", labels)
    assert evaluate(tmp_path / "pred", tmp_path / "truth", *MAPS, "--json") == 0
    organs = json.loads(capsys.readouterr().out)["organs"]
    assert organs["spleen"]["dice"] == {"value": 1.0, "low": None, "high": None}
    assert organs["liver"]["dice"] == pytest.approx({"value": 15 / 16, "low": 7 / 8, "high": 1.0})


def test_papers_definitions_differ_where_they_should(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = truth()
    labels[labels == NUMBERS["spleen"]] = 0
    found = write(tmp_path / "a.nii.gz", predicted()), write(tmp_path / "t.nii.gz", labels)

    def told(*words: object) -> dict[str, Any]:
        assert evaluate(*found, *MAPS, "--json", *words) == 0
        return json.loads(capsys.readouterr().out)["organs"]

    paper = told("--paper")
    assert paper["spleen"]["dice"]["value"] == 1, "predicted, but not in the labels"
    assert paper["liver"]["hd95"]["value"] == pytest.approx(1.0), "in voxels"
    assert told()["spleen"]["dice"]["value"] == 0
    assert told()["spleen"]["hd95"]["value"] is None
    assert told("--empty", "worst")["spleen"]["hd95"]["value"] > 0


def test_what_cannot_be_compared_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "pred" / "a.nii.gz", predicted())
    write(tmp_path / "truth" / "a.nii.gz", truth())
    write(tmp_path / "pred" / "b.nii.gz", predicted())
    moved = affine()
    moved[0, 3] += 3
    write_nifti(tmp_path / "truth" / "b.nii.gz", truth(), moved)
    assert evaluate(tmp_path / "pred", tmp_path / "truth", *MAPS) == 1
    captured = capsys.readouterr()
    assert "skipped b" in captured.err
    assert "grid" in captured.err
    assert "1 case" in captured.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.nii.gz", "nowhere.nii.gz"], "no such file"),
        (["a.nii.gz", "t.nii.gz"], "--label-map"),
        (["a.nii.gz", "folder"], "two masks or two folders"),
        (["a.nii.gz", "t.nii.gz", *MAPS, "--organs", "pancreas,heart"], "heart"),
        (["a.nii.gz", "t.nii.gz", "--label-map", "nothing"], "nothing"),
    ],
)
def test_bad_calls_say_what_to_do(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.nii.gz", predicted())
    write(tmp_path / "t.nii.gz", truth())
    (tmp_path / "folder").mkdir()
    assert evaluate(*words) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
