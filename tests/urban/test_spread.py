"""``urban map --scheduler``: the bytes of the plain command, from processes and from workers in this one."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from domainsam_cli import main
from domainsam_urban import finders
from domainsam_urban import map as mapping
from domainsam_urban.model.settlement import SettlementModel
from tests.conftest import ROOT
from tests.ct.standin import untouched
from tests.urban.tiny import write_scene

distributed = pytest.importorskip("distributed")
JOB = ("urban", "map", "scenes.csv", "-o", "out", "--mask", "out", "--summary", "out", "--collection", "all")
MERGED = ("--merge", "all/merged.parquet", "--merge", "all/merged.gpkg")
FAST = ("--tile", "64", "--overlap", "16", "--reproducible", "--device", "cpu", "-q")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in "ab":
        write_scene(tmp_path / f"{name}.tif")
    (tmp_path / "scenes.csv").write_text("path,id,datetime\na.tif,first,2021\nb.tif,second,2020-05-30\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_twice(
    call: Callable[[tuple[str, ...]], int], address: str
) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """What the plain command writes, and what the same over a scheduler does."""
    assert call((*JOB, *MERGED, *FAST)) == 0
    plain = {**untouched(Path("out")), **untouched(Path("all"))}
    for name in ("out", "all"):
        Path(name).rename(f"plain-{name}")
    assert call((*JOB, *MERGED, *FAST, "--scheduler", address, "--log", "log.jsonl")) == 0
    return plain, {**untouched(Path("out")), **untouched(Path("all"))}


@pytest.mark.usefixtures("folder")
def test_workers_write_the_plain_commands_bytes(
    model: SettlementModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from domainsam.infer import daskwork

    monkeypatch.setattr(finders, "load_model", lambda options: model)
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    quiet = {"silence_logs": logging.CRITICAL, "memory_limit": None, "dashboard_address": "127.0.0.1:0"}

    def call(words: tuple[str, ...]) -> int:
        monkeypatch.setattr("sys.argv", ["domainsam", *words])
        return main(words)

    with distributed.LocalCluster(**settings, **quiet) as cluster, distributed.Client(cluster) as client:
        monkeypatch.setattr(
            mapping, "choose_executor", lambda options: _choose(options, client, daskwork.OnDask)
        )
        plain, spread = run_twice(call, "tcp://given:1")
    assert spread == plain
    assert {"first.gpkg", "second_mask.tif", "collection.json", "merged.parquet", "merged.gpkg"} <= set(plain)
    assert json.loads(plain["second_summary.json"])["options"]["outputs"]["datetime"] == "2020-05-30"
    events = [json.loads(line) for line in Path("log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == ["begin", "done", "done", "end"]
    assert capsys.readouterr().out == ""


def _choose(options: Any, client: Any, kind: Any) -> Any:
    from domainsam.infer.executor import InProcess

    return InProcess() if options.scheduler is None else kind(options, client)


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_processes_of_this_machine_do_as_well() -> None:
    """The shipped model, loaded by each of two processes that the command starts."""

    def call(words: tuple[str, ...]) -> int:
        script = "import sys\nfrom domainsam_cli import main\nif __name__ == '__main__': sys.exit(main())"
        Path("domainsam").write_text(script)
        paths = {"PYTHONPATH": ":".join(str(ROOT / part) for part in ("", "cli", "domains"))}
        command = [sys.executable, "domainsam", *words]
        return subprocess.run(command, env={**os.environ, **paths}, check=False).returncode

    plain, spread = run_twice(call, "local:2")
    assert spread == plain
