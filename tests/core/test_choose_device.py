"""Devices that are there, and those that are not."""

from __future__ import annotations

import pytest
import torch

from domainsam.errors import ConfigError
from domainsam.machine import choose_device


def test_auto_takes_a_gpu_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for available, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert choose_device("auto") == expected


def test_cpu_is_always_there() -> None:
    assert choose_device("cpu") == "cpu"


@pytest.mark.parametrize(
    ("name", "words"), [("warp", "unknown"), ("cuda:7", "not available"), ("xla", "not available")]
)
def test_absent_devices_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, words: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=f"'{name}' is {words}"):
        choose_device(name)
