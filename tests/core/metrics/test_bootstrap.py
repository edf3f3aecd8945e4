from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from domainsam.metrics.bootstrap import bootstrap
from domainsam.metrics.overlap import score_overlap


def foreground_iou(matrices: np.ndarray) -> np.ndarray:
    return score_overlap(matrices).iou[..., 1]


def mean(sums: np.ndarray) -> np.ndarray:
    return sums[:, 0] / sums[:, 1]


def matrices(units: int) -> np.ndarray:
    return np.random.default_rng(5).integers(1, 100, (units, 2, 2))


def test_value_is_the_pooled_score_and_lies_inside() -> None:
    units = matrices(12)
    interval = bootstrap(units, foreground_iou)
    assert interval.value == pytest.approx(foreground_iou(units.sum(0)[None])[0])
    assert interval.low < interval.value < interval.high
    assert interval.units == 12


def test_resampling_counts_equals_resampling_pixels() -> None:
    """The ends agree with drawing units one by one and pooling what was drawn."""
    units, generator = matrices(9), np.random.default_rng(1)
    drawn = [foreground_iou(units[generator.integers(0, 9, 9)].sum(0)[None])[0] for _ in range(4000)]
    interval = bootstrap(units, foreground_iou, resamples=4000)
    np.testing.assert_allclose([interval.low, interval.high], np.quantile(drawn, [0.025, 0.975]), atol=0.01)


def test_mean_equals_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(2).normal(size=40)
    interval = bootstrap(np.stack([values, np.ones(40)], axis=1), mean, level=0.9, resamples=8000)
    theirs = stats.bootstrap(
        (values,), np.mean, confidence_level=0.9, n_resamples=8000, method="percentile", rng=0
    )
    np.testing.assert_allclose(
        [interval.low, interval.high],
        [theirs.confidence_interval.low, theirs.confidence_interval.high],
        atol=0.02,
    )


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator, covered = np.random.default_rng(7), 0
    for _ in range(200):
        values = generator.normal(1.0, 1.0, 50)
        interval = bootstrap(np.stack([values, np.ones(50)], axis=1), mean, resamples=400)
        covered += interval.low <= 1.0 <= interval.high
    assert 0.88 <= covered / 200 <= 0.98


def test_seed_decides_the_draws() -> None:
    units = matrices(8)
    assert bootstrap(units, foreground_iou, seed=4) == bootstrap(units, foreground_iou, seed=4)
    assert bootstrap(units, foreground_iou, seed=4) != bootstrap(units, foreground_iou, seed=5)


def test_memory_chunks_do_not_change_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domainsam.metrics.bootstrap._CHUNK", 16)
    interval = bootstrap(matrices(6), foreground_iou, resamples=501)
    assert interval.low < interval.value < interval.high


def test_one_unit_has_no_interval() -> None:
    interval = bootstrap(matrices(1), foreground_iou)
    assert np.isfinite(interval.value)
    assert np.isnan(interval.low)
    assert np.isnan(interval.high)


def test_undefined_resamples_are_left_out() -> None:
    empty = np.array([[[5, 0], [0, 0]]] * 3)
    nothing = bootstrap(empty, foreground_iou)
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()
    some = bootstrap(np.concatenate([empty, [[[1, 1], [1, 3]]]]), foreground_iou)
    assert some.low == some.high == pytest.approx(0.6)


@pytest.mark.parametrize("options", [{"level": 1.0}, {"resamples": 0}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="level"):
        bootstrap(matrices(3), foreground_iou, **options)  # type: ignore[arg-type]


def test_no_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one unit"):
        bootstrap(np.empty((0, 2, 2)), foreground_iou)
