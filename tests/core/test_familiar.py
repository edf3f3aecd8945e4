"""What a model file says of its training data, and what an input does not have in common with them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from domainsam.familiar import (
    LEAST_TOLERANCE,
    LEVELS,
    Known,
    compare,
    learn_known,
    measure_quantiles,
    parse_known,
)

RGB = ("red", "green", "blue")


def draw_scene(seed: int, size: int = 64) -> NDArray[np.float32]:
    """A grey, smooth picture ``(3, size, size)`` in 0 to 1 with a little colour of its own."""
    rng = np.random.default_rng(seed)
    base = rng.normal(0.45 + 0.01 * rng.normal(), 0.1, (size, size))
    tint = np.array([0.02, 0.0, -0.02])[:, None, None]
    return np.clip(base + tint, 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def known() -> Known:
    scenes = (draw_scene(seed) for seed in range(12))
    return learn_known(scenes, RGB, resolutions=[0.5, 1.2, 0.9], sensor="aerial RGB")


def test_the_table_survives_json(known: Known) -> None:
    assert parse_known(json.loads(json.dumps(known.table()))) == known
    assert known.samples == 12
    assert known.resolution == (0.5, 1.2)
    assert [row.name for row in known.channels] == [*RGB, "red - green", "green - blue", "detail"]


@pytest.mark.parametrize("table", [{}, {"channels": 3}, {"channels": [{"name": "x"}], "samples": 1}])
def test_a_table_that_is_not_understood_is_none(table: dict[str, object]) -> None:
    assert parse_known(table) is None


def test_quantiles_are_those_of_the_values_that_are_there() -> None:
    values = np.arange(1001, dtype=np.float32)[None, :]
    found = measure_quantiles(values, ("x",))["x"]
    np.testing.assert_allclose(found, np.array(LEVELS) * 1000)
    holed = np.concatenate([values, np.full((1, 500), np.nan, np.float32)], axis=1)
    np.testing.assert_allclose(measure_quantiles(holed, ("x",))["x"], np.array(LEVELS) * 1000)
    within = measure_quantiles(values, ("x",), window=(99.5, 900.5))["x"]
    np.testing.assert_allclose(within, 100 + np.array(LEVELS) * 800)


def test_like_inputs_raise_no_doubt(known: Known) -> None:
    for seed in range(100, 140):
        assert compare(known, draw_scene(seed), RGB, resolution=0.6) == ()


def unlike() -> Iterator[tuple[str, NDArray[np.float32], str]]:
    scene = draw_scene(200)
    yield "darker", scene * 0.5, "red|green|blue"
    yield "inverted colours", scene[::-1] + np.array([0.1, 0, -0.1], np.float32)[:, None, None], " - "
    smooth = np.broadcast_to(np.linspace(0.25, 0.65, 64 * 64, dtype=np.float32).reshape(64, 64), (3, 64, 64))
    tint = np.array([0.02, 0.0, -0.02], np.float32)[:, None, None]
    yield "enlarged until blurred", smooth + tint, "neighbouring pixels"


@pytest.mark.parametrize(
    ("name", "scene", "said"), list(unlike()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_unlike_inputs_are_told_in_one_line(
    known: Known, name: str, scene: NDArray[np.float32], said: str
) -> None:
    (doubt,) = compare(known, scene, RGB)
    assert doubt.kind == "values"
    assert any(word in doubt.text for word in said.split("|"))
    assert "in training below" in doubt.text
    assert "\n" not in doubt.text


def test_a_coarse_pixel_and_far_slices_are_told() -> None:
    known = learn_known(
        [np.random.default_rng(0).normal(size=(1, 500))], ("HU",), resolutions=[0.6, 0.9], spacings=[1.0, 5.0]
    )
    assert compare(known, resolution=0.9 * 1.2, spacing=0.5) == ()
    coarse, far = compare(known, resolution=3.0, spacing=10.0, unit="mm")
    assert (coarse.kind, far.kind) == ("resolution", "spacing")
    assert coarse.text == "pixels of 3 mm are coarser than any in training (0.6 to 0.9 mm)"
    assert far.text == "slices of 10 mm are coarser than any in training (1 to 5 mm)"
    assert compare(known, resolution=0.1) == (), "finer pixels are averaged, nothing is lost"


def test_values_that_the_network_cannot_tell_apart_are_told() -> None:
    window = (-125.0, 275.0)
    rng = np.random.default_rng(1)
    tissue = [rng.normal(40, 30, (1, 40, 40)) for _ in range(3)]
    known = learn_known(tissue, ("HU",), window=window, unit="HU")
    (doubt,) = compare(known, np.full((1, 40, 40), 1000.0), ("HU",))
    assert (
        doubt.text == "only 0.0% of the values lie in the range that the model tells apart (-125 to 275 HU)"
    )


def test_the_tolerance_follows_from_how_samples_differ() -> None:
    """Samples whose medians lie 1 apart, with a spread of 0.9: left out, the last lies 1 from the others."""
    base = np.linspace(0, 1, 1001)[None]
    known = learn_known([base, base + 1, base + 2], ("x",))
    (channel,) = known.channels
    assert channel.spread == pytest.approx(0.9)
    assert channel.tolerance == pytest.approx(1.5 * (1 + 4 / 3) / 0.9, rel=1e-3)
    alone = learn_known([base], ("x",))
    assert alone.channels[0].tolerance == LEAST_TOLERANCE


def test_samples_without_values_are_refused() -> None:
    with pytest.raises(ValueError, match="no sample holds 100 values"):
        learn_known([np.full((1, 50, 50), np.nan)], ("x",))
    with pytest.raises(ValueError, match=r"expected \(3, ...\): red, green, blue"):
        measure_quantiles(np.zeros((1, 50, 50)), RGB)
