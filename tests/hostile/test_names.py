"""Names from files: they stay in their folder, are no formulas, and steer no terminal."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd
import pytest

from domainsam.errors import InputError
from domainsam.io.pages import render
from domainsam.metrics.tables import csv_text
from domainsam.names import as_cell, check_part, show
from domainsam_cli import main
from domainsam_cli.console import echo
from domainsam_ct.job import plan_outputs
from domainsam_ct.model.organs import OrganModel, save_model
from domainsam_ct.settings import OutputOptions
from domainsam_scene import job as scene_job
from domainsam_scene.settings import OutputOptions as SceneOutputs
from domainsam_urban.trend.write.tables import write_table
from tests.ct.organs import tiny_config, tiny_network
from tests.ct.standin import write_case

HOSTILE = (
    *("../../../x", "/etc/x", "a/b", "a\\b", "..", ".", "", ".hidden", "a\nb", "a\x1b]0;x\x07", "con"),
    "x" * 300,
)


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_part_of_a_path_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="cannot be part of a file's name") as caught:
        check_part(name, "the model")
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("name", ["liver", "kidney_left", "Leber links", "肝臓", "2020-01-01T12:00", "a.b"])
def test_honest_names_stay(name: str) -> None:
    assert check_part(name, "the model") == name


def test_an_organ_of_a_models_header_cannot_leave_the_folder(tmp_path: Path) -> None:
    options = OutputOptions(tmp_path / "out", per_organ=True)
    with pytest.raises(InputError, match="the model calls something"):
        plan_outputs([tmp_path / "ct.nii.gz"], ["../../../x"], options)


def test_the_command_writes_nothing_outside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = ("background", "../../../x", "kidney_left", "liver")
    model = OrganModel("tiny", labels, tiny_config(), tiny_network())
    path = tmp_path / "deep" / "model.safetensors"
    path.parent.mkdir()
    save_model(path, model.network, labels, model.config, {}, {})
    case = write_case(tmp_path / "deep" / "ct.nii.gz")
    before = set(tmp_path.rglob("*"))
    out = tmp_path / "deep" / "a" / "b" / "out"
    code = main(["ct", "segment", str(case), "--model", str(path), "--per-organ", "-o", str(out)])
    assert code == 2
    assert "../../../x" in capsys.readouterr().err
    assert set(tmp_path.rglob("*")) == before


def test_a_sample_of_a_list_cannot_leave_the_folder(tmp_path: Path) -> None:
    outputs = SceneOutputs(tmp_path)
    with pytest.raises(InputError, match="the input calls something"):
        scene_job.plan_outputs(["cloud/../../x"], outputs)
    (plan,) = scene_job.plan_outputs(["cloud/MAP_1/0001"], outputs)
    assert plan.files[0] == tmp_path / "cloud" / "MAP_1" / "0001.png"


@pytest.mark.parametrize("formula", ["=1+1", "+x", "-x", "@x", "\t=1", "\r=1", "\n=1"])
def test_no_cell_is_a_formula(formula: str) -> None:
    text = csv_text([{"=a": formula, "n": -1.5, "t": "-1.5", "none": None}])
    head, row = csv.reader(io.StringIO(text, newline=""))
    assert head[0] == "'=a"
    assert row[0].startswith(("'", "\\"))
    assert row[1:] == ["-1.5", "-1.5", ""]


def test_tables_of_trend_have_no_formulas(tmp_path: Path) -> None:
    table = pd.DataFrame({"place": ["=cmd()", "north"], "area_ha": [-2.5, 1.0]})
    write_table(table, tmp_path / "areas.csv", tmp_path / "areas.csv")
    assert (tmp_path / "areas.csv").read_text() == "place,area_ha\n'=cmd(),-2.5\nnorth,1.0\n"


def test_numbers_are_no_texts() -> None:
    assert [as_cell(value) for value in (-1, -1.5, None, True, "-1e3", "+4")] == [
        -1,
        -1.5,
        None,
        True,
        "-1e3",
        "+4",
    ]


def test_the_terminal_is_not_steered(capsys: pytest.CaptureFixture[str]) -> None:
    echo("a\x1b]0;title\x07\u202eb\tc\nd")
    assert capsys.readouterr().out == "a\\x1b]0;title\\x07\\u202eb\tc\nd\n"
    assert show("Würzburg 肝臓") == "Würzburg 肝臓"


def test_pages_hold_no_escapes() -> None:
    page = render(
        "domainsam_ct",
        "evaluation.html.j2",
        **_page("</title><script>\x1b[2J"),
    )
    assert "\x1b" not in page
    assert "<script>" not in page.split("</title>")[1]


def _page(name: str) -> dict[str, object]:
    from domainsam_ct.evaluate.report import COLOURS
    from domainsam_ct.evaluate.scores import OrganScores
    from domainsam_ct.evaluate.summary import CaseScores, EvaluationOptions, summarise
    from domainsam_ct.labels import find_organ

    case = CaseScores(name, {"liver": OrganScores(1.0, 0.0, 1.0, 8, 8)}, 0.001, (name,))
    evaluation = summarise([case], [(name, "not read")], ("liver",), EvaluationOptions())
    return {
        "evaluation": evaluation,
        "organs": {"liver": find_organ("liver")},
        "pictures": [],
        "predicted": name,
        "truth": name,
        "command": name,
        "colours": COLOURS,
        "percentile": 95,
        "version": "0",
    }
