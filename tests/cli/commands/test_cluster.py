"""Plan, work and gather give the plain command's bytes, however tasks are divided, killed and repeated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from domainsam.cluster.plan import choose_tasks, parse_part, read_plan
from domainsam.errors import ConfigError
from domainsam_cli import main
from tests.ct.standin import DensityModel, untouched, write_case
from tests.urban.tiny import tiny_model, write_scene

JOB = ("urban", "map", "catalog.json", "-o", "out/", "--mask", "out/", "--summary", "out/")
FAST = ("--tile", "64", "--overlap", "16", "--reproducible", "--device", "cpu")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """A command in a folder with a catalogue of three scenes, the tiny models in place of the shipped."""
    from domainsam_ct import segment
    from domainsam_urban import finders

    model, organs = tiny_model(), DensityModel()
    monkeypatch.setattr(finders, "load_model", lambda options: model)
    monkeypatch.setattr(segment, "load_chosen_model", lambda options: organs)
    monkeypatch.setattr(segment, "read_model_labels", lambda path: organs.labels)
    items = []
    for number, name in enumerate(("a", "b", "c")):
        (tmp_path / "in" / name).mkdir(parents=True)
        write_scene(tmp_path / "in" / name / "visual.tif")
        when = f"202{number}-05-30T00:00:00Z"
        asset = {"visual": {"href": f"in/{name}/visual.tif"}}
        items.append({"type": "Feature", "id": name, "properties": {"datetime": when}, "assets": asset})
    (tmp_path / "catalog.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> int:
        given = [str(word) for word in words]
        # The plain command's own words stand in the outputs.
        plain = given[given.index("--") + 1 :] if "--" in given else given
        monkeypatch.setattr("sys.argv", ["domainsam", *plain])
        return main(given)

    return call


def lines(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip()


def move(folder: str) -> dict[str, bytes]:
    """What lies in a folder, which is moved out of the way."""
    found = untouched(Path(folder))
    Path(folder).rename(f"{folder}-plain")
    return found


def test_parts_in_any_order_give_the_plain_commands_bytes(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*JOB, *FAST) == 0
    plain = move("out")
    assert run("cluster", "plan", "-o", "plan", "--", *JOB, *FAST) == 0
    assert "tasks      3, 0 done" in capsys.readouterr().out
    assert not Path("out").exists()
    assert run("cluster", "work", "plan", "--part", "2/2") == 0
    assert run("cluster", "gather", "plan") == 1
    told = lines(capsys)
    assert "2 of 3 tasks are not done: 1 (in/a/visual.tif: not done), 3 (in/c/visual.tif: not done)" in told
    assert run("cluster", "work", "plan", "--task", "3") == 0
    assert run("cluster", "work", "plan", "--part", "1/2", "--json") == 0
    states = [row["state"] for row in json.loads(capsys.readouterr().out.partition("\n")[2])]
    assert states == ["done", "earlier"]
    assert run("cluster", "gather", "plan", "--verify") == 0
    assert untouched(Path("out")) == plain
    assert sorted(plain)[:4] == ["a.gpkg", "a.stac.json", "a_mask.tif", "a_summary.json"]
    assert "2020-05-30" in plain["a.stac.json"].decode()


@pytest.mark.slow
def test_a_task_is_done_again_only_where_something_is_missing(run: Callable[..., int]) -> None:
    assert run("cluster", "plan", "-o", "plan", "--", *JOB, *FAST) == 0
    assert run("cluster", "work", "plan") == 0
    whole, done = untouched(Path("out")), untouched(Path("plan/done"))
    Path("out/b_mask.tif").unlink()
    Path("plan/done/0000003.json").write_text("{")
    assert run("cluster", "gather", "plan") == 1
    assert run("cluster", "work", "plan") == 0
    assert untouched(Path("out")) == whole
    again = {name: json.loads(text)["files"] for name, text in untouched(Path("plan/done")).items()}
    assert again == {name: json.loads(text)["files"] for name, text in done.items()}


@pytest.mark.slow
def test_a_file_that_is_another_is_found_by_its_digest(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("cluster", "plan", "-o", "plan", "--", *JOB, *FAST) == 0
    assert run("cluster", "work", "plan") == 0
    path = Path("out/b_mask.tif")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert run("cluster", "gather", "plan") == 0
    assert run("cluster", "gather", "plan", "--verify") == 2
    assert "b_mask.tif: is not the file that its task has written" in lines(capsys)


@pytest.mark.slow
def test_files_are_copied_and_links_lead_on(run: Callable[..., int]) -> None:
    assert run("cluster", "plan", "catalog.json", "-o", "plan", "--", *FAST) == 0
    assert run("cluster", "work", "plan") == 0
    assert run("cluster", "gather", "plan", "-o", "far/away/out") == 0
    assert set(untouched(Path("far/away/out"))) == set(untouched(Path("plan/out")))
    item = json.loads(Path("far/away/out/a.stac.json").read_text())
    links = {link["rel"]: link["href"] for link in item["links"]}
    assert (Path("far/away/out") / links["derived_from"]).resolve() == Path("in/a/visual.tif").resolve()
    assert item["assets"]["polygons"]["href"] == "./a.gpkg"
    assert run("cluster", "gather", "plan", "-o", "plan/out/inner") == 2


def test_a_failed_task_is_named_and_may_be_left_out(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in/b/visual.tif").write_bytes(b"no raster")
    assert run("cluster", "plan", "-o", "plan", "--", *JOB, *FAST) == 0
    assert run("cluster", "work", "plan") == 1
    assert "task 2 (in/b/visual.tif): failed" in lines(capsys)
    assert run("cluster", "status", "plan") == 0
    assert "3, 2 done, 1 failed" in capsys.readouterr().out
    assert run("cluster", "gather", "plan") == 1
    assert "1 of 3 tasks are not done: 2 (in/b/visual.tif: in/b/visual.tif: " in lines(capsys)
    assert run("cluster", "gather", "plan", "--leave-out") == 1
    assert "left out in/b/visual.tif" in lines(capsys)


def test_an_input_that_was_changed_is_refused(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("cluster", "plan", "-o", "plan", "--", *JOB, *FAST) == 0
    with Path("in/a/visual.tif").open("ab") as file:
        file.write(b"more")
    assert run("cluster", "work", "plan", "--task", "1") == 1
    assert "was changed or moved after the plan was made" in lines(capsys)


@pytest.mark.slow
def test_outputs_are_checked_when_the_plan_is_made(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out").mkdir()
    Path("out/b.gpkg").touch()
    assert run("cluster", "plan", "-o", "plan", "--", *JOB) == 4
    assert "b.gpkg' exists" in lines(capsys)
    assert not Path("plan").exists()
    assert run("cluster", "plan", "-o", "plan", "--", *JOB, *FAST, "-f") == 0
    assert run("cluster", "work", "plan") == 0
    assert Path("out/b.gpkg").stat().st_size > 0
    assert run("cluster", "plan", "-o", "plan", "--", *JOB, "-f") == 4
    assert "plan.json' exists" in lines(capsys)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--task", "0"), "numbered from 1 to 3"),
        (("--task", "4"), "numbered from 1 to 3"),
        (("--part", "0/2"), "i from 1 to n"),
        (("--part", "3/2"), "i from 1 to n"),
        (("--part", "1"), "i from 1 to n"),
        (("--part", "1/2", "--task", "1"), "both given"),
    ],
)
def test_impossible_tasks(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    assert run("cluster", "plan", "-o", "plan", "--", *JOB) == 0
    capsys.readouterr()
    assert run("cluster", "work", "plan", *words) == 2
    assert told in lines(capsys)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "nothing to plan"),
        (("--",), "nothing to plan"),
        (("--", "urban", "trend", "a", "-o", "b"), "'urban trend' cannot be spread; 'urban map' can"),
        (("--", "nowhere", "map"), "no command of a pack"),
        (("--", "scene", "segment", "a"), "no job whose inputs can be spread"),
        (("--", "urban", "map", "catalog.json", "-o", "o", "--tile", "x"), "--tile"),
    ],
)
def test_what_cannot_be_planned(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    assert run("cluster", "plan", "-o", "plan", *words) == 2
    assert told in lines(capsys)
    assert not Path("plan").exists()


def test_all_parts_together_are_all_tasks(run: Callable[..., int]) -> None:
    assert run("cluster", "plan", "-o", "plan", "--", *JOB) == 0
    plan = read_plan(Path("plan").absolute())
    for count in (1, 2, 3, 5):
        numbers = [
            task.number
            for part in range(1, count + 1)
            for task in choose_tasks(plan, None, f"{part}/{count}")
        ]
        assert sorted(numbers) == [1, 2, 3]
    with pytest.raises(ConfigError):
        parse_part("1/2/3")


def test_a_plan_of_another_version_or_a_damaged_one(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("cluster", "work", "absent") == 2
    assert run("cluster", "plan", "-o", "plan", "--", *JOB) == 0
    tasks = Path("plan/tasks.jsonl")
    whole = tasks.read_text()
    for text in (whole[:-20], whole.partition("\n")[0] + "\n", "[]\n"):
        tasks.write_text(text)
        assert run("cluster", "work", "plan") == 2
        assert "tasks" in lines(capsys)
    document: dict[str, Any] = json.loads(Path("plan/plan.json").read_text())
    Path("plan/plan.json").write_text(json.dumps({**document, "domainsam": "0.0.0"}))
    assert run("cluster", "work", "plan") == 2
    assert "was made by domainsam 0.0.0" in lines(capsys)


def test_a_cohort_is_planned_with_its_table(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["case,path"]
    for name in ("one", "two", "three"):
        write_case(Path(f"scans/{name}/ct.nii.gz"))
        rows.append(f"{name},scans/{name}/ct.nii.gz")
    Path("cohort.csv").write_text("\n".join(rows) + "\n")
    job = ("ct", "segment", "cohort.csv", "-o", "out/", "--statistics", "--reproducible")
    assert run(*job) == 0
    assert capsys.readouterr().out.startswith("one ")
    plain = move("out")
    assert run("cluster", "plan", "-o", "plan", "--", *job) == 0
    for part in (3, 1, 2):
        assert run("cluster", "work", "plan", "--part", f"{part}/3") == 0
    assert run("cluster", "gather", "plan") == 0
    assert untouched(Path("out")) == plain
    assert {"cohort.csv", "statistics.parquet", "one_seg.nii.gz", "two_statistics.json"} <= set(plain)


@pytest.mark.slow
def test_tasks_that_were_tried_tell_the_time(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("cluster", "plan", "-o", "p", "--try", "1", "--json", "--price", "2", "--", *JOB, *FAST) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["tasks"], told["done"]) == (3, 1)
    assert told["price"] == pytest.approx(2 * told["worker_hours"])
    assert told["hours"] == pytest.approx(told["worker_hours"])
    assert told["longest_s"] * 2 == pytest.approx(told["worker_hours"] * 3600)
