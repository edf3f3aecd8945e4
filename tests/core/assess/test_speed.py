"""Speed is measured, compared with references, and told with what it was measured on."""

from __future__ import annotations

import pytest
import torch

from domainsam.assess import speed
from domainsam.assess.speed import (
    Plan,
    Speed,
    compare,
    invent_foundation,
    measure_ceiling,
    measure_speed,
    take_notes,
)
from domainsam.errors import ConfigError, WeightsError
from domainsam.foundations import FOUNDATIONS
from domainsam.generalists import TIMES_VIT_H

PLAN = Plan(("fake",), (1,), "cpu", "float32", side=64, seconds=0.0)


def one(name: str, batch: int, rate: float) -> Speed:
    return Speed(name, batch, 64, "cpu", "float32", "random", batch / rate, rate, 1.0, 100.0, 50.0, 0.1)


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "CEILING_SIDES", (64, 128))


def test_a_measurement_holds_together() -> None:
    found = speed._measure("fake", 2, PLAN)
    assert (found.foundation, found.batch, found.side, found.weights) == ("fake", 2, 64, "official")
    assert found.images_per_second == pytest.approx(2 / found.seconds)
    # Its three convolutions at strides 4, 8 and 16, and nothing else.
    multiplications = 16 * 16 * 32 * 3 * 16 + 8 * 8 * 64 * 32 * 4 + 4 * 4 * 256 * 64 * 4
    assert found.gmacs == pytest.approx(multiplications / 1e9)
    assert found.ceiling_share == pytest.approx(2 * found.gmacs * 2 / found.seconds / found.ceiling_gflops)
    assert found.peak_mb > 50


def test_ratios_are_to_the_reference_of_the_same_batch() -> None:
    found = [one("edge_sam", 1, 8.0), one("edge_sam", 8, 12.0), one("sam_vit_b", 1, 0.5)]
    rows = compare(found)
    assert [row["times_sam_vit_b"] for row in rows] == [16.0, None, 1.0]
    assert all(row["times_sam_vit_h"] is None for row in rows)
    assert [row["published_times_sam_vit_h"] for row in rows] == [40.0, 40.0, None]
    assert rows[0]["published_on"] == "RTX 2080 Ti"


def test_published_ratios_are_of_foundations_that_there_are() -> None:
    assert set(TIMES_VIT_H) <= set(FOUNDATIONS)
    assert {round(TIMES_VIT_H[f"efficientvit_sam_{size}"][0]) for size in ("l0", "xl1")} == {17, 69}
    (note,) = take_notes(["edge_sam", "lightening"])
    assert "turn flash attention off at 1024 pixels" in note
    assert take_notes(["edge_sam"]) == ()


def test_a_batch_that_does_not_fit_is_halved(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[int] = []

    class Pool:
        def __init__(self, *_: object, **__: object) -> None: ...

        def __enter__(self) -> Pool:
            return self

        def __exit__(self, *_: object) -> None: ...

        def submit(self, _: object, name: str, batch: int, plan: Plan) -> Pool:
            tried.append(batch)
            return self

        def result(self) -> Speed:
            if tried[-1] > 2:
                raise MemoryError
            return one("fake", tried[-1], 1.0)

    monkeypatch.setattr(speed, "ProcessPoolExecutor", Pool)
    (found,) = measure_speed(Plan(("fake",), (8,), "cpu", "float32", side=64))
    assert tried == [8, 4, 2]
    assert "fake: 8 images at once do not fit the memory; trying 4" in caplog.text
    assert found.batch == 2


def test_unknown_names_and_sides_are_refused() -> None:
    with pytest.raises(ConfigError, match="no foundation is named 'edge'"):
        measure_speed(Plan(("edge",), (1,), "cpu", "float32"))
    with pytest.raises(ConfigError, match="expected a multiple of 32"):
        measure_speed(Plan(("fake",), (1,), "cpu", "float32", side=50))


def test_foundations_are_made_up_and_others_are_not() -> None:
    foundation = invent_foundation("edge_sam", "cpu", torch.float32)
    assert foundation.encode(torch.rand(1, 3, 64, 64)).image.shape == (1, 256, 4, 4)
    with pytest.raises(WeightsError, match="strange has no weights here"):
        invent_foundation("strange", "cpu", torch.float32)


def test_the_ceiling_is_a_speed() -> None:
    assert measure_ceiling("cpu", torch.float32, seconds=0.0) > 0.1
