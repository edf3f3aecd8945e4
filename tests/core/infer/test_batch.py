"""Several inputs in one run: each is done, passed over or listed with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from domainsam.errors import ConfigError, InputError, OutputError
from domainsam.infer.batch import Batch, run_batch
from domainsam.infer.outputs import OutputPlan


@dataclass(frozen=True)
class Plan(OutputPlan):
    name: str
    out: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.out / f"{self.name}.txt",)


@dataclass(frozen=True)
class Written:
    name: str

    def document(self) -> dict[str, Any]:
        return {"name": self.name}


def write(plan: Plan) -> Written:
    if plan.name == "bad":
        raise InputError("bad.tif: is empty")
    if plan.name == "worse":
        raise RuntimeError("a fault")
    plan.files[0].write_text(plan.name)
    return Written(plan.name)


def run(folder: Path, *names: str, prepare: Callable[[], Any] = lambda: write, **more: Any) -> Batch[Written]:
    options: dict[str, Any] = {"resume": False, "overwrite": False, **more}
    return run_batch(
        [Plan(name, folder) for name in names], lambda plan: plan.name, prepare, Batch, **options
    )


def test_a_failure_is_listed_and_the_rest_go_on(tmp_path: Path) -> None:
    seen: list[Written] = []
    batch = run(tmp_path, "a", "bad", "b", watch=seen.append)
    assert batch.document() == {
        "scenes": [{"name": "a"}, {"name": "b"}],
        "failures": [{"name": "bad", "error": "bad.tif: is empty"}],
        "complete": [],
    }
    assert batch.exit_code == 1
    assert seen == list(batch.results)


def test_the_error_of_a_single_input_is_raised_unless_it_is_to_be_listed(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        run(tmp_path, "bad")
    assert run(tmp_path, "bad", raise_single=False).failures == (("bad", "bad.tif: is empty"),)


def test_a_reason_that_begins_with_the_input_names_it_once(tmp_path: Path) -> None:
    def refuse(plan: Plan) -> Written:
        raise InputError(f"{plan.name}: is empty")

    batch = run(tmp_path, "a.tif", "b.tif", prepare=lambda: refuse)
    assert batch.failures == (("a.tif", "is empty"), ("b.tif", "is empty"))


def test_a_fault_of_ours_is_listed_and_the_rest_go_on(tmp_path: Path) -> None:
    batch = run(tmp_path, "worse", "b")
    assert batch.failures == (("worse", "unforeseen RuntimeError: a fault"),)
    assert [result.name for result in batch.results] == ["b"]
    assert batch.exit_code == 1
    with pytest.raises(RuntimeError):
        run(tmp_path, "worse")


def test_only_errors_that_were_named_are_kept(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        run(tmp_path, "c", "bad", kept=(ConfigError,))


def test_complete_inputs_are_passed_over_and_need_no_model(tmp_path: Path) -> None:
    run(tmp_path, "a", "b")
    asked: list[str] = []

    def prepare() -> Callable[[Plan], Written]:
        asked.append("model")
        return write

    assert run(tmp_path, "a", "b", prepare=prepare, resume=True).complete == ("a", "b")
    assert asked == []
    batch = run(tmp_path, "a", "c", prepare=prepare, resume=True)
    assert (batch.complete, batch.results, asked) == (("a",), (Written("c"),), ["model"])


def test_outputs_are_checked_before_any_work(tmp_path: Path) -> None:
    run(tmp_path, "b")
    with pytest.raises(OutputError, match="--overwrite"):
        run(tmp_path, "a", "b")
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]
    assert len(run(tmp_path, "a", "b", overwrite=lambda plan: True).results) == 2
