"""The same tasks here and on Dask's workers: results, failures, tries, and what is refused at once."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from domainsam.errors import ConfigError, InputError, MissingInputError, OutputError
from domainsam.infer.account import Account, Forecast, watching
from domainsam.infer.batch import Batch, run_batch
from domainsam.infer.executor import Executor, InProcess, Tasks, choose_executor
from domainsam.infer.outputs import OutputPlan
from domainsam.infer.spread import SpreadOptions, spread_options
from domainsam.infer.workroom import WorkRoom
from domainsam.licences import forget_told, tell_use
from domainsam.limits import get_limits, limited
from domainsam.progress import report_nothing

distributed = pytest.importorskip("distributed")


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


loaded: list[str] = []
tries: list[str] = []


def prepare(suffix: str = "") -> Callable[[Plan], Written]:
    loaded.append(suffix)

    def write(plan: Plan) -> Written:
        tries.append(plan.name)
        with WorkRoom(plan.work, resume=True):
            if plan.name.startswith("bad"):
                raise InputError(f"{plan.name}: is empty")
            if plan.name.startswith("flaky") and tries.count(plan.name) < 3:
                raise RuntimeError("the network was away")
            if plan.name.startswith("full"):
                raise OutputError("the disk is full")
            if plan.name.startswith("broken"):
                raise ValueError("a fault")
            plan.files[0].write_text(f"{plan.name} {get_limits().reproducible}{suffix}")
        return Written(plan.name)

    return write


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two workers with a thread each, in this process."""
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    quiet = {"silence_logs": logging.CRITICAL, "memory_limit": None, "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(**settings, **quiet) as cluster, distributed.Client(cluster) as opened:
        yield opened


@pytest.fixture(params=["here", "dask"])
def executor(request: pytest.FixtureRequest) -> Executor:
    loaded.clear()
    tries.clear()
    if request.param == "here":
        return InProcess()
    from domainsam.infer.daskwork import OnDask

    return OnDask(SpreadOptions("tcp://given:1"), request.getfixturevalue("client"))


def run(executor: Executor, folder: Path, *names: str, **more: Any) -> Batch[Written]:
    options: dict[str, Any] = {"resume": False, "overwrite": False, **more}
    plans = [Plan(name, folder) for name in names]
    return run_batch(plans, attrgetter("name"), partial(prepare, ""), Batch, executor=executor, **options)


def test_results_come_in_order_and_failures_by_name(executor: Executor, tmp_path: Path) -> None:
    names = [f"n{number:02d}" for number in range(12)]
    with limited(reproducible=True):
        batch = run(executor, tmp_path, *names[:6], "bad", "broken", *names[6:])
    assert [result.name for result in batch.results] == names
    assert [name for name, _ in batch.failures] == ["bad", "broken"]
    assert batch.failures[0][1] == "is empty"
    assert "a fault" in batch.failures[1][1]
    assert batch.exit_code == 1
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        f"{name}.txt": f"{name} True" for name in names
    }
    assert len(loaded) <= 2


def test_complete_inputs_are_passed_over(executor: Executor, tmp_path: Path) -> None:
    run(executor, tmp_path, "a", "b")
    tries.clear()
    batch = run(executor, tmp_path, "a", "b", "c", resume=True)
    assert (batch.complete, [result.name for result in batch.results], tries) == (("a", "b"), ["c"], ["c"])
    with pytest.raises(OutputError, match="--overwrite"):
        run(executor, tmp_path, "a", "d")
    assert run(executor, tmp_path, "a", overwrite=True).results == (Written("a"),)


def test_a_run_stops_after_too_many_failures(executor: Executor, tmp_path: Path) -> None:
    names = [f"bad{number}" for number in range(40)]
    batch = run(executor, tmp_path, *names, max_failures=2)
    assert 3 <= len(batch.failures) < 40


def test_bad_input_is_not_tried_again_and_other_failures_are(client: Any, tmp_path: Path) -> None:
    from domainsam.infer.daskwork import OnDask

    tries.clear()
    batch = run(OnDask(SpreadOptions("tcp://x:1", retries=2), client), tmp_path, "flaky", "bad", "broken")
    assert [result.name for result in batch.results] == ["flaky"]
    assert (tries.count("bad"), tries.count("broken"), tries.count("flaky")) == (1, 3, 3)
    assert dict(batch.failures)["broken"] == "unforeseen ValueError: a fault"


def test_a_worker_waits_for_whoever_is_at_an_input(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that was killed leaves a task with a worker; the next client's finds its files."""
    from domainsam.infer import daskwork, daskworker

    plan = Plan("a", tmp_path)
    room = WorkRoom(plan.work, resume=True)
    room.__enter__()
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        plan.files[0].write_text("made by the other")
        room.__exit__(None, None, None)

    monkeypatch.setattr(daskworker, "pause", sleep)
    batch = run(daskwork.OnDask(SpreadOptions("tcp://x:1"), client), tmp_path, "a")
    assert (batch.complete, batch.results, len(waits)) == (("a",), (), 1)
    assert plan.files[0].read_text() == "made by the other"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_more_inputs_than_a_batch_holds(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from domainsam.infer import daskwork

    monkeypatch.setattr(daskwork, "BATCH", 4)
    names = [f"n{number:02d}" for number in range(19)]
    batch = run(daskwork.OnDask(SpreadOptions("tcp://x:1"), client), tmp_path, *names)
    assert [result.name for result in batch.results] == names


def test_workers_of_other_versions_are_refused(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from domainsam.infer import daskwork

    def elsewhere(function: Callable[..., Any], *arguments: Any, on_error: str) -> dict[str, Any]:
        return {"tcp://far:2": {**function(*arguments), "numpy": "0.1"}}

    monkeypatch.setattr(client, "run", elsewhere)
    with pytest.raises(ConfigError, match=r"worker tcp://far:2 has numpy 0\.1, this process"):
        run(daskwork.OnDask(SpreadOptions("tcp://x:1"), client), tmp_path, "a")
    assert not list(tmp_path.iterdir())


def test_workers_that_do_not_see_the_folder_are_refused(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from domainsam.infer import daskcluster

    monkeypatch.setattr(client, "run", lambda function, *arguments, on_error: {"tcp://far:2": False})
    with pytest.raises(ConfigError, match=r"worker tcp://far:2 does not see folder"):
        daskcluster.check_shared(client, [tmp_path / "deep" / "a.txt"])
    assert not list(tmp_path.iterdir())


def test_a_worker_that_goes_away_as_the_run_begins_costs_nothing(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed.comm import CommClosedError

    from domainsam.infer import daskcluster, daskwork

    ask, register = client.run, client.register_plugin
    lost = {"tcp://gone:3": CommClosedError("gone")}
    asked: list[str] = []

    def run_without(function: Callable[..., Any], *arguments: Any, on_error: str) -> dict[str, Any]:
        asked.append(on_error)
        return lost if len(asked) == 1 else {**lost, **ask(function, *arguments, on_error=on_error)}

    def register_later(*arguments: Any) -> Any:
        asked.append("plugin")
        if asked.count("plugin") == 1:
            raise CommClosedError("gone")
        return register(*arguments)

    monkeypatch.setattr(daskcluster, "pause", lambda seconds: None)
    monkeypatch.setattr(client, "run", run_without)
    monkeypatch.setattr(client, "register_plugin", register_later)
    batch = run(daskwork.OnDask(SpreadOptions("tcp://x:1"), client), tmp_path, "a", "b")
    assert [result.name for result in batch.results] == ["a", "b"]
    assert asked == ["return"] * 3 + ["plugin"] * 2


def test_a_workers_full_disk_is_told_as_such(client: Any, tmp_path: Path) -> None:
    from domainsam.infer.daskwork import OnDask

    batch = run(OnDask(SpreadOptions("tcp://x:1", retries=1), client), tmp_path, "a", "full")
    assert batch.failures == (("full", "the disk is full"),)


def unfit() -> Callable[[Plan], Written]:
    loaded.append("unfit")
    raise MissingInputError("no weights 'a.safetensors'")


def test_a_worker_without_the_model_ends_the_run_and_blames_no_input(client: Any, tmp_path: Path) -> None:
    from domainsam.infer import daskwork

    loaded.clear()
    plans = [Plan(f"n{number}", tmp_path) for number in range(50)]
    executor = daskwork.OnDask(SpreadOptions("tcp://x:1", retries=1), client)
    with pytest.raises(
        ConfigError, match=r"worker cannot load what the job needs, .*: no weights 'a\.safe"
    ) as told:
        run_batch(plans, attrgetter("name"), unfit, Batch, resume=False, overwrite=False, executor=executor)
    assert "--resume" in str(told.value)
    assert not list(tmp_path.iterdir())


def test_no_worker_left_and_no_scheduler_are_a_line(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed.comm import CommClosedError

    from domainsam.infer import daskcluster, daskwork

    def gone(*arguments: Any, on_error: str) -> dict[str, Any]:
        raise CommClosedError("no scheduler")

    monkeypatch.setattr(daskcluster, "pause", lambda seconds: None)
    monkeypatch.setattr(client, "run", lambda *_, on_error: {"tcp://gone:3": CommClosedError("gone")})
    with pytest.raises(ConfigError, match="all workers went away"):
        run(daskwork.OnDask(SpreadOptions("tcp://x:1"), client), tmp_path, "a")
    monkeypatch.setattr(client, "run", gone)
    with pytest.raises(OutputError, match="the scheduler at tcp://x:1 has gone"):
        run(daskwork.OnDask(SpreadOptions("tcp://x:1"), client), tmp_path, "a")


def prepare_research() -> Callable[[Plan], Written]:
    tell_use("organs", {"use": "research", "data": "what a clinic lent"})
    return prepare()


def test_what_weights_are_for_is_told_once_and_by_the_client(
    client: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from domainsam.infer.daskwork import OnDask

    names = ("a", "b", "c", "d")
    for part in ("one", "two"):
        forget_told()
        caplog.clear()
        (tmp_path / part).mkdir()
        plans = [Plan(name, tmp_path / part) for name in names]
        tasks = Tasks(plans, lambda plan: plan.name, prepare_research)
        list(OnDask(SpreadOptions("tcp://x:1"), client).run(tasks, range(len(names))))
        assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
            "model organs is for research: trained on what a clinic lent"
        ]


def test_what_no_worker_declares_is_refused(client: Any, tmp_path: Path) -> None:
    from domainsam.infer.daskwork import OnDask

    with pytest.raises(ConfigError, match="no worker declares GPU=1"):
        run(OnDask(SpreadOptions("tcp://x:1", gpus_per_task=1), client), tmp_path, "a")


def test_a_scheduler_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from domainsam.infer import daskcluster

    monkeypatch.setattr(daskcluster, "CONNECT_S", 0.3)
    with pytest.raises(ConfigError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9: start one"):
        run(choose_executor(SpreadOptions("tcp://127.0.0.1:9")), tmp_path, "a")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"scheduler": "local:0"}, "--scheduler 'local:0' is none"),
        ({"scheduler": "local"}, "local:4 for four processes"),
        ({"scheduler": "host:8786"}, "tcp://host:8786"),
        ({"gpus_per_task": 1.0}, "give --scheduler too"),
        ({"scheduler": "local:2", "memory_per_task": "much"}, "--memory-per-task 'much' is no size"),
        ({"retries": -1}, "expected 0 or more"),
        ({"max_failures": -1}, "expected 0 or more"),
        ({"metrics": "run.txt"}, r"--metrics 'run\.txt' must end in \.prom"),
    ],
)
def test_impossible_options(given: dict[str, Any], words: str) -> None:
    plain: dict[str, Any] = {"scheduler": None, "gpus_per_task": 0.0, "memory_per_task": None}
    with pytest.raises(ConfigError, match=words):
        spread_options(**{**plain, "retries": 2, "max_failures": None, "log": None, "metrics": None, **given})


def test_a_forecast_follows_the_pace_and_says_how_sure_it_is() -> None:
    now = [0.0]
    forecast = Forecast(lambda: now[0])
    for _ in range(4):
        now[0] += 2.0
        forecast.add()
    assert forecast.left(10) is None
    now[0] += 2.0
    forecast.add()
    assert forecast.left(10) == pytest.approx((20.0, 20.0, 20.0))
    for gap in (1.0, 3.0, 1.0, 3.0, 2.0):
        now[0] += gap
        forecast.add()
    expected, low, high = forecast.left(10) or (0, 0, 0)
    assert expected == pytest.approx(20.0)
    # Variance of the ten gaps is 4/9; of the sum of ten more and of their mean 10 and 100/10 times that.
    assert (expected - low, high - expected) == pytest.approx([2 * (4 / 9 * 20) ** 0.5] * 2)


def test_the_log_tells_of_every_input(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "run.jsonl"
    out = tmp_path / "out"
    out.mkdir()
    with watching(SpreadOptions(log=log), "scenes") as watcher:
        run(InProcess(), out, "a", "bad", "b", "c", "d", "e", watcher=watcher)
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [event["event"] for event in events] == ["begin", "done", "failed", *["done"] * 4, "end"]
    assert (events[2]["name"], events[2]["reason"]) == ("bad", "bad: is empty")
    assert events[-2]["left_s"] == 0.0
    assert events[-1] | {"time": 0, "elapsed_s": 0} == {
        "time": 0,
        "elapsed_s": 0,
        "event": "end",
        "finished": 6,
        "failed": 1,
        "of": 6,
    }
    assert isinstance(Account(None, report_nothing, "x"), Account)
