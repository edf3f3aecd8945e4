"""Figures of a whole cohort as Parquet: the values of each case's own table, typed, cases in order."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from domainsam_ct.job import NOTICE, UNITS
from domainsam_ct.write import figures
from domainsam_ct.write.figures import SCHEMA, CaseRecord, FiguresWriter, list_rows
from tests.ct.made import write_dicom
from tests.ct.standin import DensityModel, abdomen, affine, write_case

FILE = "statistics.parquet"


def cells(row: dict[str, Any]) -> dict[str, str]:
    """A row as the case's own table has it."""

    def cell(value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, bool):
            return str(int(value))
        return str(round(value, 3) if isinstance(value, float) else value)

    return {name: cell(value) for name, value in row.items()}


def test_every_organ_has_the_row_of_its_own_table(tmp_path: Path, ct_segment: Callable[..., int]) -> None:
    scans = [write_case(tmp_path / f"case{number}.nii.gz") for number in range(2)]
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(scans[0].read_bytes()[:200])
    out = tmp_path / "out"
    assert ct_segment(scans[1], bad, scans[0], "-o", out, "--statistics", "-q") == 1
    table = parquet.read_table(out / FILE)
    assert table.schema.remove_metadata() == SCHEMA.remove_metadata()
    assert table.schema.metadata[b"notice"].decode() == NOTICE
    about = table.schema.field("volume_ml")
    assert about.metadata == {b"unit": b"mL", b"meaning": UNITS["volume_ml"].encode()}
    assert [table.schema.field(name).type for name in ("voxels", "found", "hu_mean", "doubts")] == [
        pa.int64(),
        pa.bool_(),
        pa.float64(),
        pa.list_(pa.string()),
    ]
    rows = table.to_pylist()
    assert list(dict.fromkeys(row["case"] for row in rows)) == ["case1", "bad", "case0"]
    (failed,) = (row for row in rows if row["case"] == "bad")
    assert (failed["status"], failed["organ"], failed["volume_ml"]) == ("failed", None, None)
    assert "bad.nii.gz" in failed["error"]
    for case in ("case0", "case1"):
        with (out / f"{case}_statistics.csv").open(newline="") as file:
            expected = list(csv.DictReader(file))
        found = [row for row in rows if row["case"] == case]
        assert {row["status"] for row in found} == {"done"}
        assert [
            {name: text for name, text in cells(row).items() if name in expected[0]} for row in found
        ] == expected
        liver = next(row for row in found if row["organ"] == "liver")
        assert liver["volume_ml"] == pytest.approx(47.04)
        gallbladder = next(row for row in found if row["organ"] == "gallbladder")
        assert (gallbladder["found"], gallbladder["volume_ml"], gallbladder["voxels"]) == (False, None, 0)


def test_going_on_gives_the_bytes_of_an_unbroken_run(
    tmp_path: Path, ct_segment: Callable[..., int], density_model: DensityModel
) -> None:
    scans = [write_case(tmp_path / f"case{number}.nii.gz") for number in range(3)]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert ct_segment(*scans, "-o", whole, "-q") == 0
    assert ct_segment(*scans[1:], "-o", parts, "-q") == 0
    density_model.asked = 0
    assert ct_segment(*scans, "-o", parts, "-q", "--resume") == 0
    assert density_model.asked == 12
    assert (parts / FILE).read_bytes() == (whole / FILE).read_bytes()


def test_no_person_is_named_even_where_names_are_kept(tmp_path: Path, ct_segment: Callable[..., int]) -> None:
    case = tmp_path / "in"
    write_dicom(case, abdomen()[0], affine(), lambda _, header: setattr(header, "PatientName", "Roe^Jane"))
    other = write_case(tmp_path / "plain.nii.gz")
    assert ct_segment(case, other, "-o", tmp_path / "out", "-q", "--keep-identifiers") == 0
    assert "Jane" in (tmp_path / "out" / "in_statistics.json").read_text()
    assert "jane" not in str(parquet.read_table(tmp_path / "out" / FILE).to_pylist()).lower()


def test_a_single_case_has_no_file_about_all(tmp_path: Path, ct_segment: Callable[..., int]) -> None:
    assert ct_segment(write_case(tmp_path / "ct.nii.gz"), "-o", tmp_path / "out", "-q") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"ct_seg.nii.gz", "ct_labels.json"}


def test_many_rows_are_written_in_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "GROUP", 4)
    records = [CaseRecord(f"c{number}", False, "was not done", {}) for number in range(10)]
    with FiguresWriter(tmp_path / FILE, ["liver"], NOTICE) as writer:
        for record in records:
            writer.add(record)
    stored = parquet.ParquetFile(tmp_path / FILE)
    assert stored.metadata.num_row_groups == 3
    assert stored.read().column("case").to_pylist() == [record.case for record in records]


def test_doubts_go_to_the_organs_that_they_are_about() -> None:
    doubts = [
        {"kind": "values", "text": "odd values", "about": ""},
        {"kind": "side", "text": "on the wrong side", "about": "liver"},
    ]
    judgement = {"doubtful": True, "compared_with_training": False, "doubts": doubts[1:]}
    document = {"organs": {"liver": {"found": False}}, "judgement": judgement}
    told = [
        (row["doubtful"], row["doubts"])
        for row in list_rows(CaseRecord("a", True, "", document), ["liver", "spleen"])
    ]
    assert told == [(True, ["on the wrong side"]), (False, [])]
    judgement["doubts"] = doubts
    rows = list(list_rows(CaseRecord("a", True, "", document), ["spleen"]))
    assert (rows[0]["doubts"], rows[0]["compared_with_training"]) == (["odd values"], False)
