"""Figures of a run for Prometheus: the format, the figures, and a disk that refuses them."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from domainsam.errors import InputError, OutputError
from domainsam.infer import account, gauges
from domainsam.infer.account import tell_seconds, watching
from domainsam.infer.executor import Outcome
from domainsam.infer.gauges import Figures, Gauges, format_figures
from domainsam.infer.spread import SpreadOptions

SAMPLE = re.compile(r'domainsam_[a-z_]+\{(?:[a-z]+="(?:[^"\\\n]|\\.)*",?)+\} -?[0-9.]+')


def read(path: Path) -> dict[str, float]:
    """Values by name and labels; every line is one of the format."""
    found = {}
    for line in path.read_text().splitlines():
        if not line.startswith("# "):
            assert SAMPLE.fullmatch(line), line
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def test_figures_follow_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauges, "EVERY_S", 0.0)
    path = tmp_path / "node" / "night.prom"
    labels = 'run="night",inputs="scenes"'
    with watching(SpreadOptions(metrics=path), "scenes") as watcher:
        watcher.begin([f"secret{number}" for number in range(9)], [0, 1])
        assert read(path)[f'domainsam_inputs{{{labels},state="left"}}'] == 7
        for number in range(2, 7):
            watcher.outcome(Outcome(number, "x", seconds=2.0, written=100))
        watcher.outcome(Outcome(7, error=InputError("secret7: is empty"), seconds=1.0))
        running = read(path)
    over = read(path)
    assert {state: over[f'domainsam_inputs{{{labels},state="{state}"}}'] for state in gauges.STATES} == {
        "done": 5,
        "failed": 1,
        "complete": 2,
        "left": 1,
    }
    assert over[f"domainsam_input_seconds_sum{{{labels}}}"] == 11.0
    assert over[f"domainsam_input_seconds_count{{{labels}}}"] == 6
    assert over[f"domainsam_written_bytes{{{labels}}}"] == 500
    end = running[f'domainsam_end_time_seconds{{{labels},bound="expected"}}']
    assert 0 <= end - running[f"domainsam_updated_time_seconds{{{labels}}}"] < 60
    assert (running[f"domainsam_running{{{labels}}}"], over[f"domainsam_running{{{labels}}}"]) == (1, 0)
    assert "secret" not in path.read_text()
    assert [entry.name for entry in path.parent.iterdir()] == ["night.prom"]


def test_names_are_escaped_and_every_metric_has_its_type() -> None:
    text = format_figures(Figures(), 'a"b\\c', "cases", 10.0, 20.0)
    assert 'run="a\\"b\\\\c"' in text
    assert "end_time" not in text
    families = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    samples = {line.split("{")[0] for line in text.splitlines() if not line.startswith("#")}
    assert {name.removesuffix("_sum").removesuffix("_count") for name in samples} == families
    assert text.endswith("\n")


def test_it_is_written_now_and_then(tmp_path: Path) -> None:
    kept = Gauges(tmp_path / "a.prom", "scenes")
    kept.write(Figures(), at_once=True)
    before = (tmp_path / "a.prom").read_text()
    kept.write(Figures(written_bytes=5))
    assert (tmp_path / "a.prom").read_text() == before
    kept.write(Figures(written_bytes=5), at_once=True)
    assert 'written_bytes{run="a",inputs="scenes"} 5' in (tmp_path / "a.prom").read_text()


def test_a_place_that_cannot_be_written_is_refused_before_and_told_once_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write metrics"):
        Gauges(tmp_path / "file" / "a.prom", "scenes")
    kept = Gauges(tmp_path / "a.prom", "scenes")

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with caplog.at_level(logging.WARNING):
        kept.write(Figures(), at_once=True)
        kept.write(Figures(), at_once=True)
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot write metrics '{tmp_path / 'a.prom'}' (No space left on device): the run goes on"
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.prom", "file"]


def test_a_long_run_says_where_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(account, "TELL_S", 0.0)
    with caplog.at_level(logging.INFO), watching(SpreadOptions(), "scenes") as watcher:
        watcher.begin([str(number) for number in range(12)], [])
        for number in range(5):
            watcher.outcome(Outcome(number, error=InputError("bad") if number == 3 else None))
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith("5 of 12 scenes finished, 1 of them failed; ")
    assert " left (" in line
    told = [tell_seconds(seconds) for seconds in (50.4, 119.0, 720.0, 12600.0)]
    assert told == ["50 s", "119 s", "12 min", "3.5 h"]
