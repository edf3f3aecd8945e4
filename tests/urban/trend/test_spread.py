"""``urban trend --scheduler``: the products of the plain command, its years done by workers."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from domainsam.errors import ConfigError
from domainsam_urban.commands.trend import gather, trend
from domainsam_urban.model.settlement import SettlementModel
from domainsam_urban.trend import layers
from tests.urban.trend.scenes import SMALL, contents, run, use_model, write_masks, write_years

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    quiet = {"silence_logs": logging.CRITICAL, "memory_limit": None, "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(**settings, **quiet) as cluster, distributed.Client(cluster) as opened:
        yield opened


@pytest.fixture
def address(client: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two workers in this process behind an address."""
    from domainsam.infer.daskwork import OnDask

    monkeypatch.setattr(layers, "choose_executor", lambda options: OnDask(options, client))
    return "tcp://given:1"


def same(one: Path, other: Path) -> None:
    """Every file byte for byte but those that tell the command or the time."""
    first, second = contents(one), contents(other)
    assert first.keys() == second.keys()
    told = {name for name in first if name.endswith((".csv", ".tif", ".gpkg", ".png"))}
    assert {name.rsplit(".", 1)[1] for name in told} >= {"csv", "tif", "gpkg"}
    for name in told:
        assert first[name] == second[name], name


def test_workers_predict_the_years(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: SettlementModel, address: str
) -> None:
    use_model(monkeypatch, model)
    scenes = [str(path) for path in write_years(tmp_path)]
    arguments = [*scenes, "--align", "--smooth", "--layers", "-q", *SMALL]
    assert run(*arguments, "-o", tmp_path / "plain") == 0
    log = tmp_path / "log.jsonl"
    assert run(*arguments, "-o", tmp_path / "spread", "--scheduler", address, "--log", log) == 0
    same(tmp_path / "plain", tmp_path / "spread")
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [event["event"] for event in events] == ["begin", "done", "done", "done", "end"]
    assert sorted(event["name"] for event in events[1:-1]) == ["2016", "2018", "2020"]
    assert not list(tmp_path.rglob(".*domainsam*"))


def test_a_year_that_fails_ends_the_run_and_the_others_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--masks", *write_masks(tmp_path), "--layers", "-q"]
    assert run(*arguments, "-o", tmp_path / "plain") == 0
    real, done = layers.make_layer, list[str]()

    def fail(job: layers.LayerJob, *more: Any) -> None:
        if job.number == 1:
            raise RuntimeError("the disk of a worker is full")
        real(job, *more)

    def count(job: layers.LayerJob, *more: Any) -> None:
        done.append(job.input.year.label)
        real(job, *more)

    spread = [*arguments, "-o", tmp_path / "cut", "--scheduler", address, "--retries", "0"]
    monkeypatch.setattr(layers, "make_layer", fail)
    assert run(*spread) != 0
    assert "the disk of a worker is full" in capsys.readouterr().err
    assert not (tmp_path / "cut" / "areas.csv").exists()
    monkeypatch.setattr(layers, "make_layer", count)
    assert run(*spread, "--resume") == 0
    assert done == ["2018"]
    same(tmp_path / "plain", tmp_path / "cut")


def test_two_ways_to_share_the_years_are_refused() -> None:
    words = ["2016=a.tif", "2018=b.tif", "-o", "out", "--masks", "--workers", "2", "--scheduler", "local:2"]
    with trend.make_context("trend", list(words)) as context:
        given = {key: value for key, value in context.params.items() if key != "inputs"}
        with pytest.raises(ConfigError, match="leave out --workers"):
            gather(given)
