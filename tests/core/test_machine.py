"""Keeping freed memory, asked of glibc alone and only where it is wanted; and choosing a precision."""

from __future__ import annotations

import ctypes
import json
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from domainsam import machine as allocator
from domainsam.machine import (
    SWITCH,
    choose_dtype,
    choose_precision,
    keep_freed_memory,
    measure_library_bytes,
    measure_peak_rss,
)

FAULTS = """
import resource
from domainsam.machine import keep_freed_memory
keep_freed_memory()
for _ in range(8):
    buffer = b"x" * 40_000_000
    del buffer
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What the C library of a glibc system is told."""
    calls: list[tuple[int, int]] = []

    def mallopt(name: int, value: int) -> int:
        calls.append((name, value))
        return 1

    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    return calls


def test_glibc_is_told_to_keep_buffers_on_the_heap(asked: list[tuple[int, int]]) -> None:
    assert keep_freed_memory()
    assert asked == [(allocator.M_MMAP_MAX, 0), (allocator.M_TRIM_THRESHOLD, allocator.KEPT_BYTES)]


def test_the_environment_switches_it_off(
    asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWITCH, "0")
    assert not keep_freed_memory()
    assert asked == []


def test_other_systems_are_left_alone(asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory()
    assert asked == []


def test_a_library_without_mallopt_is_no_error(
    asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    assert not keep_freed_memory()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc only")
def test_large_buffers_cost_fewer_page_faults() -> None:
    faults = {}
    for switch in ("0", "1"):
        command = [sys.executable, "-c", FAULTS]
        answer = subprocess.run(
            command, env={"PATH": "", SWITCH: switch}, check=True, capture_output=True, text=True
        )
        faults[switch] = int(answer.stdout)
    # 8 buffers of 40 MB are 78,000 pages; kept, they are the same 9,800. Large pages would be fewer.
    assert faults["1"] < 0.5 * faults["0"]


@pytest.mark.parametrize(
    ("name", "quick", "expected"),
    [
        ("auto", True, "bfloat16"),
        ("auto", False, "float32"),
        ("fp16", False, "float16"),
        ("fp32", True, "float32"),
    ],
)
def test_precision_by_name_and_by_device(
    monkeypatch: pytest.MonkeyPatch, name: str, quick: bool, expected: str
) -> None:
    monkeypatch.setattr(allocator, "is_quick_in_bfloat16", lambda device: quick)
    assert choose_precision(name, "cpu") == expected
    assert choose_dtype(name, "cpu") == getattr(torch, expected)


def test_the_gain_of_bfloat16_is_measured_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[float] = []

    def measure() -> float:
        measured.append(1.5)
        return 1.5

    monkeypatch.setattr(allocator, "measure_bfloat16_gain", measure)
    monkeypatch.setattr(allocator, "find_user_cache", lambda: tmp_path / "cache")
    for _ in range(2):
        monkeypatch.setattr(allocator, "_GAINS", {})
        assert allocator.find_bfloat16_gain() == 1.5
    assert measured == [1.5]
    kept = tmp_path / "cache" / allocator.GAINS_FILE
    assert list(json.loads(kept.read_text()).values()) == [1.5]
    # Another number of threads is another machine; what is no table is made anew.
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    assert allocator.find_bfloat16_gain() == 1.5
    assert len(json.loads(kept.read_text())) == 2
    kept.write_text("[1]")
    monkeypatch.setattr(allocator, "_GAINS", {})
    assert allocator.find_bfloat16_gain() == 1.5
    assert len(measured) == 3


def test_where_nothing_can_be_kept_it_is_measured_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(allocator, "_GAINS", {})
    monkeypatch.setattr(allocator, "measure_bfloat16_gain", lambda: 0.4)
    monkeypatch.setattr(allocator, "find_user_cache", lambda: tmp_path / "file")
    assert allocator.find_bfloat16_gain() == 0.4


def test_the_gain_is_a_ratio_of_times() -> None:
    assert 0.001 < allocator.measure_bfloat16_gain(rounds=2) < 100


def test_pages_of_libraries_are_part_of_what_a_process_holds() -> None:
    found = measure_library_bytes()
    if Path("/proc/self/status").exists():
        assert 10_000_000 < found < 2**20 * measure_peak_rss()
    else:
        assert found == 0
