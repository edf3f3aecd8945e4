"""Staged files and the record of what is done."""

from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from domainsam.errors import InputError, OutputError
from domainsam.infer.journal import Journal
from domainsam.infer.order import ReadAhead, WriteBehind
from domainsam.infer.store import RawRaster
from domainsam.protocols import Window

RUN = {"model": "abc", "tile": 512, "shape": (7, 9)}


def filled(path: Path) -> list[dict[str, Any]]:
    records = [{"unit": ["coarse", 0, row]} for row in range(5)]
    with Journal(path, RUN) as journal:
        for record in records:
            journal.append(record)
    return records


def test_remembers_records(tmp_path: Path) -> None:
    records = filled(tmp_path / "journal")
    with Journal(tmp_path / "journal", RUN, resume=True) as journal:
        assert journal.resumed
        assert journal.records == records
        journal.append({"unit": ["coarse", 0, 5]})
    with Journal(tmp_path / "journal", RUN, resume=True) as journal:
        assert len(journal.records) == 6


def test_starts_anew_unless_told_to_resume(tmp_path: Path) -> None:
    filled(tmp_path / "journal")
    with Journal(tmp_path / "journal", RUN) as journal:
        assert journal.records == []
    with Journal(tmp_path / "none", RUN, resume=True) as journal:
        assert not journal.resumed


def test_every_cut_leaves_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    records = filled(path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with Journal(path, RUN, resume=True) as journal:
            kept = len(journal.records)
            assert journal.records == records[:kept]
            assert kept == max(0, content[:length].count(b"\n") - 1)
            journal.append({"unit": ["next"]})
        with Journal(path, RUN, resume=True) as journal:
            assert journal.records == [*records[:kept], {"unit": ["next"]}]


def test_a_flipped_bit_ends_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    records = filled(path)
    content = bytearray(path.read_bytes())
    content[content.index(b'"coarse",0,3') + 2] ^= 1
    path.write_bytes(content)
    with Journal(path, RUN, resume=True) as journal:
        assert journal.records == records[:3]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"tile": 768}, "tile was 512 and is now 768"), ({"extra": 1}, "extra was null and is now 1")],
)
def test_another_run_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    filled(tmp_path / "journal")
    with pytest.raises(InputError, match=message):
        Journal(tmp_path / "journal", {**RUN, **change}, resume=True)


def test_store_reads_and_writes_windows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    expected = rng.integers(0, 255, (50, 70)).astype(np.uint8)
    with RawRaster.create(tmp_path / "a.u8", (50, 70)) as store:
        store.write(Window(0, 0, 50, 70), expected)
        patch = rng.integers(0, 255, (10, 20)).astype(np.uint8)
        store.write(Window(5, 30, 10, 20), patch)
        expected[5:15, 30:50] = patch
        store.sync()
    with RawRaster.open(tmp_path / "a.u8", (50, 70)) as store:
        np.testing.assert_array_equal(store.read(Window(0, 0, 50, 70)), expected)
        found = store.read(Window(-3, 60, 10, 20))
        assert (found[:3] == 255).all()
        assert (found[:, 10:] == 255).all()
        np.testing.assert_array_equal(found[3:, :10], expected[:7, 60:])
        assert (store.read(Window(50, 0, 4, 4)) == 255).all()
    assert (tmp_path / "a.u8").stat().st_size == 50 * 70


def test_store_faults_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot create"):
        RawRaster.create(tmp_path / "none" / "a.u8", (5, 5))
    with pytest.raises(OutputError, match="cannot open"):
        RawRaster.open(tmp_path / "a.u8", (5, 5))
    with pytest.raises(OutputError, match="cannot reserve"):
        RawRaster.create(tmp_path / "a.u8", (1 << 30, 1 << 30))
    assert list(tmp_path.iterdir()) == []
    RawRaster.create(tmp_path / "a.u8", (5, 5)).close()
    with pytest.raises(OutputError, match="25 bytes"):
        RawRaster.open(tmp_path / "a.u8", (5, 6))


def test_reading_ahead_keeps_order_and_stays_bounded() -> None:
    running: list[int] = []

    def double(job: int) -> int:
        running.append(job)
        return job * 2

    with ReadAhead(3, 4) as reader:
        for number, answer in enumerate(reader.map(double, range(50))):
            assert answer == number * 2
            assert len(running) <= number + 5


def test_a_failed_read_surfaces_at_its_turn() -> None:
    with ReadAhead(2, 3) as reader:
        answers = reader.map(lambda job: 1 // (3 - job), range(9))
        assert [next(answers) for _ in range(3)] == [0, 0, 1]
        with pytest.raises(ZeroDivisionError):
            next(answers)


def test_nothing_is_written_after_a_failed_write() -> None:
    done: list[int] = []
    hold = Event()

    def write(number: int) -> None:
        hold.wait(5)
        if number == 1:
            raise OSError("disk full")
        done.append(number)

    def write_all() -> None:
        with WriteBehind() as writes:
            for number in range(6):
                writes.submit(write, number)
                if number == 1:
                    hold.set()

    with pytest.raises(OSError, match="disk full"):
        write_all()
    assert done == [0]
